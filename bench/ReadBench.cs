using System.Diagnostics;
using System.Diagnostics.Metrics;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Telemetry;

namespace MendCluster.Bench;

/// <summary>
/// Tokens a second of one reader and of many at once, each of whom asks again when it has its answer. Beside it the same readers where no two
/// answers are computed together. In turn; medians of the ratios of the same rounds.
/// </summary>
internal static class ReadBench
{
    private const int Rounds = 3;

    private static readonly int[] Readers = [2, 4, 16, 32];
    private static readonly TimeSpan Slice = TimeSpan.FromSeconds(3);
    private static long s_written, s_passes, s_rows;

    /// <param name="model">A directory; null: GPT-2-small's shape, as <see cref="ClusterBench"/> has it.</param>
    /// <param name="answerTokens">Of an answer, at most.</param>
    public static async Task RunAsync(string? model, int answerTokens)
    {
        using var listener = Listener();
        if (model is null)
            await ClusterBench.WithModelAsync(made => MeasureAsync(made, i => ClusterBench.Letters(ClusterBench.PromptTokens, i), answerTokens));
        else
            await MeasureAsync(model, i => HttpBench.Questions[i % HttpBench.Questions.Length], answerTokens);
    }

    private static async Task MeasureAsync(string model, Func<int, string> prompt, int answerTokens)
    {
        Console.WriteLine($"  answers of at most {answerTokens} tokens");
        await using var together = await OpenAsync(model, ShardOptions.DefaultMaxBatch);
        await using var alone = await OpenAsync(model, 1);
        async Task<double> RateAsync(IMendCluster cluster, int readers)
        {
            var (start, before) = (Stopwatch.GetTimestamp(), Interlocked.Read(ref s_written));
            await Task.WhenAll(Enumerable.Range(0, readers).Select(async reader =>
            {
                for (var i = 0; Stopwatch.GetElapsedTime(start) < Slice; i++)
                    await cluster.AskAsync(prompt(100 * reader + i), new(MaxTokens: answerTokens));
            }));
            return (Interlocked.Read(ref s_written) - before) / Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
        foreach (var readers in Readers)
        {
            List<double> one = [], times = [], apart = [], rows = [];
            for (var round = 0; round < Rounds; round++)
            {
                one.Add(await RateAsync(together, 1));
                var (passes, before) = (s_passes, s_rows);
                times.Add(await RateAsync(together, readers) / one[^1]);
                rows.Add((double)(s_rows - before) / (s_passes - passes));
                apart.Add(await RateAsync(alone, readers) / one[^1]);
            }
            Console.WriteLine(FormattableString.Invariant(
                $"  {readers,3} readers: {Passes.Median(times):0.00} times the {Passes.Median(one):0} tokens/s of one ({times.Min():0.00} to {times.Max():0.00}), {Passes.Median(rows):0.0} answers a pass; each computed alone: {Passes.Median(apart):0.00}"));
        }
    }

    private static Task<EmbeddedCluster> OpenAsync(string model, int maxBatch) => EmbeddedCluster.OpenAsync(new()
    {
        ModelDirectory = model,
        Ledger = Path.Combine(Directory.CreateTempSubdirectory("mend-bench-").FullName, "ledger"),
        Stages = 1,
        MaxBatch = maxBatch,
    });

    private static MeterListener Listener()
    {
        var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listening) =>
            {
                if (instrument.Meter.Name == MendMetrics.Name && instrument.Name is "mend.ask.tokens" or "mend.ask.batch")
                    listening.EnableMeasurementEvents(instrument);
            },
        };
        listener.SetMeasurementEventCallback<long>((_, tokens, tags, _) =>
        {
            foreach (var (_, direction) in tags)
                if (direction is "output")
                    Interlocked.Add(ref s_written, tokens);
        });
        listener.SetMeasurementEventCallback<int>((_, rows, _, _) =>
        {
            Interlocked.Increment(ref s_passes);
            Interlocked.Add(ref s_rows, rows);
        });
        listener.Start();
        return listener;
    }
}
