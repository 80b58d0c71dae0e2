using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using MendCluster.Experiments;

namespace MendCluster.Bench;

/// <summary>
/// How fast are gradients summed around a ring, beside a plain copy of the same bytes over loopback TCP? How many training steps a second
/// does the demo's model make in each layout of one machine?
/// </summary>
internal static class TrainingBench
{
    private const int Elements = 8 << 20, Rounds = 5, Steps = 20;

    public static async Task RunAsync(string model)
    {
        foreach (var peers in new[] { 2, 4 })
        {
            var bytes = 2L * (peers - 1) * Elements * sizeof(float) / peers; // that each peer sends
            var copy = await TimeAsync(() => CopyAsync(peers, bytes));
            foreach (var bfloat16 in new[] { false, true })
            {
                var gradients = Enumerable.Range(0, peers).Select(_ => new float[Elements]).ToArray();
                var ring = await TimeAsync(() => ReduceAsync(gradients, bfloat16));
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"ring of {peers}, {(bfloat16 ? "bfloat16" : "float32 ")} on the wire: {bytes / ring / 1e9:0.00} GB/s of float32 a peer; a TCP copy of the float32 bytes {bytes / copy / 1e9:0.00} GB/s; ratio {ring / copy:0.00}"));
            }
        }
        foreach (var (replicas, stages) in new[] { (1, 1), (1, 2), (2, 1), (2, 2) })
        {
            var folder = Directory.CreateTempSubdirectory("mend-bench-").FullName;
            try
            {
                var seconds = await TrainAsync(model, folder, replicas, stages);
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"{replicas} x {stages}: {1 / seconds:0.00} steps/s of {DemoRecipe.Editor.AccumulateBs} edits"));
            }
            finally
            {
                Directory.Delete(folder, recursive: true);
            }
        }
    }

    /// <returns>Median seconds of a step, without the first.</returns>
    private static async Task<double> TrainAsync(string model, string folder, int replicas, int stages)
    {
        var world = World.Generate(DemoRecipe.Seed);
        var text = new TextBatch(ModelFamily.FromDirectory(model), TokenizerFiles.Load(model));
        EditBatch Batch(long i)
        {
            var edit = world.TrainingEdit(world.Split.Training[(int)(i % world.Split.Training.Count)], Prng.At(1, (ulong)i));
            return new(text.Of([(edit.Prompt, edit.Target)]), text.Of([(edit.Rephrases[0], edit.Target)]),
                text.Of([.. edit.Locality.Select(pair => (pair.Question, pair.Answer))]));
        }
        var options = DemoRecipe.Editor with
        {
            ValInterval = 1000 * DemoRecipe.Editor.AccumulateBs,
            MaxIters = Steps * DemoRecipe.Editor.AccumulateBs
        };
        var times = new List<long>();
        await using var trainer =
            new EmbeddedTrainer(model, replicas, stages,
            EditorTrainerOptions.Of(model, new(options, Batch, i => Batch(i), "bench"), folder));
        await trainer.TrainAsync(new Clock(() => times.Add(Stopwatch.GetTimestamp())));
        return times.Zip(times.Skip(1), (from, to) => Stopwatch.GetElapsedTime(from, to).TotalSeconds).Order().ElementAt((Steps - 1) / 2);
    }

    private static Task ReduceAsync(float[][] gradients, bool bfloat16)
    {
        var peers = gradients.Length;
        var mail = Enumerable.Range(0, peers).Select(_ => new RingMail()).ToList();
        return Task.WhenAll(Enumerable.Range(0, peers).Select(rank => Task.Run(() => new RingAllReduce(rank, peers, bfloat16,
            (column, step, values) =>
            {
                mail[(rank + 1) % peers].Put(new(0, "g", column, step, values));
                return Task.CompletedTask;
            },
            (column, step) => mail[rank].TakeAsync("g", column, step, default)).RunAsync(gradients[rank]))));
    }

    private static Task CopyAsync(int connections, long bytes) =>
        Task.WhenAll(Enumerable.Range(0, connections).Select(_ => Task.Run(async () =>
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        using var sender = new TcpClient();
        await sender.ConnectAsync((IPEndPoint)listener.LocalEndpoint);
        using var receiver = await listener.AcceptTcpClientAsync();
        var sending = Task.Run(async () =>
        {
            var block = new byte[RingAllReduce.MaxElements * sizeof(float)];
            for (long sent = 0; sent < bytes; sent += block.Length)
                await sender.GetStream().WriteAsync(block.AsMemory(0, (int)Math.Min(block.Length, bytes - sent)));
        });
        var into = new byte[RingAllReduce.MaxElements * sizeof(float)];
        for (long received = 0; received < bytes;)
            received += await receiver.GetStream().ReadAsync(into);
        await sending;
    })));

    /// <summary>Median seconds.</summary>
    private static async Task<double> TimeAsync(Func<Task> action)
    {
        await action();
        var times = new List<double>();
        for (var i = 0; i < Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            await action();
            times.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        return times.Order().ElementAt(Rounds / 2);
    }

    private sealed class Clock(Action tick) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value) => tick();
    }
}
