using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>
/// Load, edit, ask and training step of one model in so many stages on one device: the GPU kit's part of ours. bench/gpu/reference.py does
/// the same passes over the same texts in plain PyTorch; bench/gpu/report.py puts the two beside each other.
/// An edit has 28 tokens of which 10 are labels (T5: 28 and 6), a training step is a window of 10 edits, each with a rephrase and an
/// unrelated example of 32 tokens, and one step of Adam.
/// </summary>
internal static class GpuBench
{
    private const int WarmUp = 3, Rounds = 10, Asks = 3, AnswerTokens = 32, Window = 10, Windows = 3;

    private static readonly JsonSerializerOptions Indented =
        new() { WriteIndented = true, NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals };

    /// <param name="output">A JSON object, written anew after each part: what was measured before an end by force is there.</param>
    public static async Task RunAsync(string directory, int stages, string deviceName, string output)
    {
        var device = Devices.Of(deviceName);
        ones(1).to(device).Dispose(); // loads the device's libraries: they are not the checkpoint's
        Wait(device);
        var found = new Dictionary<string, object>
        {
            ["stages"] = stages,
            ["runtime"] = TorchRuntime.Description,
            ["memory_before_gb"] = MemoryGB(device)
        };
        void Save(string part)
        {
            found[$"memory_after_{part}_gb"] = MemoryGB(device);
            File.WriteAllText(output, JsonSerializer.Serialize(found, Indented));
        }
        await ClusterAsync(directory, stages, deviceName, found);
        Save("cluster");
        if (stages == 1)
            WholeModel(directory, device, found);
        else
            await TrainAsync(directory, stages, deviceName, found);
        Save("training");
    }

    /// <summary>Until the device has done what it was told.</summary>
    public static void Wait(Device device)
    {
        if (device.type == TorchSharp.DeviceType.CUDA)
            cuda.synchronize();
    }

    /// <summary>As users meet it: a cluster in this process.</summary>
    private static async Task ClusterAsync(string directory, int stages, string device, Dictionary<string, object> found)
    {
        var ledger = Path.Combine(directory, $"ledger-{Guid.NewGuid():N}");
        var start = Stopwatch.GetTimestamp();
        await using var cluster = await EmbeddedCluster.OpenAsync(new()
        {
            ModelDirectory = directory,
            Editor = EditorOf(directory),
            Ledger = ledger,
            Stages = stages,
            DType = DType.BFloat16,
            Device = device,
        });
        var load = Stopwatch.GetElapsedTime(start).TotalSeconds;
        var bytes = Directory.EnumerateFiles(directory, "*.safetensors").Sum(file => new FileInfo(file).Length);
        (found["load_s"], found["load_gb"], found["load_gb_s"]) = (load, bytes / 1e9, bytes / 1e9 / load);

        var (prompt, target) = Texts(directory, 0);
        var (wall, receipts) = (new List<double>(), new List<EditReceipt>());
        for (var round = 0; round < WarmUp + Rounds; round++)
        {
            start = Stopwatch.GetTimestamp();
            var receipt = await cluster.EditAsync(prompt, target, new() { Confidence = null });
            if (round >= WarmUp)
                (wall, receipts) = ([.. wall, Stopwatch.GetElapsedTime(start).TotalMilliseconds], [.. receipts, receipt]);
            await cluster.RevertAsync(receipt.Id); // so that every edit meets the same model
        }
        double Phase(Func<EditTimes, TimeSpan> of) => Median(receipts.Select(receipt => of(receipt.Times).TotalMilliseconds));
        found["edit_ms"] = Median(wall);
        found["edit_passes_ms"] = Phase(times => times.Forward + times.Backward + times.Editor);
        found["edit_phases_ms"] = new Dictionary<string, double>
        {
            ["forward"] = Phase(times => times.Forward),
            ["backward"] = Phase(times => times.Backward),
            ["editor"] = Phase(times => times.Editor),
            ["try"] = Phase(times => times.Try),
            ["append"] = Phase(times => times.Append),
            ["broadcast"] = Phase(times => times.Broadcast),
        };
        (found["log_p_before"], found["log_p_after"]) =
            (Math.Log(receipts[^1].Figures.ProbabilityBefore), Math.Log(receipts[^1].Figures.ProbabilityAfter));

        var first = await AskMsAsync(cluster, prompt, 1);
        found["first_token_ms"] = first;
        found["tokens_s"] = 1000 * AnswerTokens / (await AskMsAsync(cluster, prompt, 1 + AnswerTokens) - first);
    }

    private static async Task<double> AskMsAsync(IMendCluster cluster, string prompt, int tokens)
    {
        var times = new List<double>();
        for (var round = 0; round < 1 + Asks; round++)
        {
            var start = Stopwatch.GetTimestamp();
            await cluster.AskAsync(prompt, new(MaxTokens: tokens));
            times.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
        }
        return Median(times.Skip(1));
    }

    /// <summary>The passes alone, without cluster, ledger and tries: what the script in PyTorch does; and the ceilings.</summary>
    private static void WholeModel(string directory, Device device, Dictionary<string, object> found)
    {
        using var files = HuggingFaceDirectory.Open(directory);
        using var mend = EditorCheckpoint.LoadEditor(EditorOf(directory), device: device);
        using var stage = Stage.LoadWhole(ModelFamily.FromDirectory(directory), new CheckpointWeights(files, ScalarType.BFloat16, device),
            [.. mend.Weights.Select(weight => weight.Name)]);
        using var optimiser = new EditorOptimiser(mend, 1e-6, 1e-4, Window, gradClip: 100);
        using var scope = NewDisposeScope();
        var text = new TextBatch(stage.Family, TokenizerFiles.Load(directory));
        List<EditBatch> batches = [.. Enumerable.Range(0, Window).Select(i => Batch(text, directory, i))];

        var (before, gradient) = TrainingStep.Record(stage, batches[0].Inner);
        var after = TrainingStep.Score(stage, batches[0].Inner, new WeightUpdates(mend.Propose(gradient)));
        (found["passes_log_p_before"], found["passes_log_p_after"]) = (-before.Loss, -after.Loss);

        long rows = 0;
        found["passes_ms"] = 1000 * Median(Times(device, WarmUp, Rounds, () =>
        {
            var (_, factors) = TrainingStep.Record(stage, batches[0].Inner);
            rows = factors.Values.Sum(factor => factor.u.shape[0]);
            mend.Propose(factors);
        }));

        var prompt = TokenizerFiles.Load(directory).Encode(Texts(directory, 0).Prompt);
        double Answer(int tokens) => Median(Times(device, 1, Asks, () =>
        {
            if (Generation.Run(stage, prompt, new(tokens)).Count is var count && count != tokens)
                throw new InvalidOperationException($"the answer ended after {count} of {tokens} tokens: tokens a second would be wrong; make the checkpoint from another seed");
        }));
        var first = Answer(1);
        (found["passes_first_token_ms"], found["passes_tokens_s"]) = (1000 * first, AnswerTokens / (Answer(1 + AnswerTokens) - first));

        found["step_ms"] = 1000 * Median(Times(device, 1, Windows, () =>
        {
            foreach (var batch in batches)
            {
                using var edit = NewDisposeScope();
                optimiser.Take(TrainingStep.Run(stage, mend, batch, new(), optimiser.Parameters).Gradients);
            }
        })) / Window;

        var roofs = Roofs.Measure(device, stage, batches[0].Inner.Input.InputIds.shape[1]);
        found["roofs"] = new Dictionary<string, double>
        {
            ["copy_in_gb_s"] = roofs.CopyIn / 1e9,
            ["stream_gb_s"] = roofs.Stream / 1e9,
            ["float32_tflops"] = roofs.Float32 / 1e12,
            ["bfloat16_tflops"] = roofs.BFloat16 / 1e12,
            ["bfloat16_at_shape_tflops"] = roofs.BFloat16AtShape / 1e12,
        };
        Floor("edit", Operations.Edit(stage, mend, batches[0], rows), Traffic.Edit(stage, mend));
        Floor("step", Operations.TrainingStep(stage, mend, batches[0], rows), Traffic.TrainingStep(stage, mend, Window));
        Floor("token", null, Traffic.Token(stage));

        void Floor(string what, Operations? operations, double bytes)
        {
            if (operations is not null)
                (found[$"{what}_gflop"], found[$"{what}_floor_operations_ms"]) = ((operations.Base + operations.Editor) / 1e9,
                    1000 * (operations.Base / roofs.BFloat16AtShape + operations.Editor / roofs.Float32));
            (found[$"{what}_gb"], found[$"{what}_floor_bytes_ms"]) = (bytes / 1e9, 1000 * bytes / roofs.Stream);
        }
    }

    /// <summary>A training run of shards, one replica.</summary>
    private static async Task TrainAsync(string directory, int stages, string device, Dictionary<string, object> found)
    {
        var run = Path.Combine(directory, $"run-{Guid.NewGuid():N}");
        var text = new TextBatch(ModelFamily.FromDirectory(directory), TokenizerFiles.Load(directory));
        EditBatch Batch(long i) => GpuBench.Batch(text, directory, (int)(i % Window));
        using var mend = EditorCheckpoint.Open(EditorOf(directory));
        var options = new EditorTrainingOptions { Mend = mend.Options, AccumulateBs = Window, ValInterval = 1000 * Window };
        using var enough = new CancellationTokenSource();
        var steps = new List<long>();
        var start = Stopwatch.GetTimestamp();
        try
        {
            await using var trainer =
                new EmbeddedTrainer(directory, 1, stages,
                EditorTrainerOptions.Of(directory, new(options, Batch, i => Batch(i), "bench"), run), DType.BFloat16, device);
            await trainer.TrainAsync(new Steps(() =>
            {
                steps.Add(Stopwatch.GetTimestamp());
                if (steps.Count == 1 + Windows)
                    enough.Cancel();
            }), enough.Token);
        }
        finally
        {
            Directory.Delete(run, recursive: true);
        }
        // loading, the first step and the first checkpoint
        found["training_start_s"] = Stopwatch.GetElapsedTime(start, steps[0]).TotalSeconds;
        found["step_ms"] = Median(steps.Zip(steps.Skip(1), (from, to) => Stopwatch.GetElapsedTime(from, to).TotalMilliseconds)) / Window;
    }

    private static EditBatch Batch(TextBatch text, string directory, int i)
    {
        var (prompt, target) = Texts(directory, i);
        var unrelated = Texts(directory, 200 + i, more: 4);
        return new(text.Of([(prompt, target)]), text.Of([(Texts(directory, 100 + i).Prompt, target)]), text.Of([unrelated]));
    }

    /// <summary>
    /// Prompt and target of 28 tokens together (T5: of 28 and 6, the end of each included): a token for each letter, and the blank before a
    /// target.
    /// </summary>
    private static (string Prompt, string Target) Texts(string directory, int seed, int more = 0) =>
        ModelFamily.FromDirectory(directory).IsEncoderDecoder ? (Letters(27 + more, seed), Letters(5, seed + 1))
        : (Letters(18 + more, seed), Letters(9, seed + 1));

    private static string Letters(int count, int seed) =>
        string.Concat(Enumerable.Range(0, count).Select(i => (char)('a' + (seed * 7 + i * 11) % 26)));

    private static string EditorOf(string directory) => Path.Combine(directory, "editor.safetensors");

    /// <summary>Seconds of each round after the warm-up, until the device is done.</summary>
    private static IEnumerable<double> Times(Device device, int warmUp, int rounds, Action action)
    {
        for (var round = 0; round < warmUp + rounds; round++)
        {
            using var scope = NewDisposeScope();
            var start = Stopwatch.GetTimestamp();
            action();
            Wait(device);
            if (round >= warmUp)
                yield return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
    }

    private static double Median(IEnumerable<double> values)
    {
        List<double> sorted = [.. values.Order()];
        return sorted[sorted.Count / 2];
    }

    /// <summary>
    /// Of a GPU: memory that the driver has given out, to all programs together. libtorch keeps what it was given, so what is given out at
    /// the end is the most that was needed. Of the CPU: the most that was resident of this process.
    /// </summary>
    private static double MemoryGB(Device device)
    {
        if (device.type == TorchSharp.DeviceType.CPU)
            return 1024.0 / 1e9 * long.Parse(File.ReadLines("/proc/self/status")
                .First(line => line.StartsWith("VmHWM", StringComparison.Ordinal)).Split(' ', StringSplitOptions.RemoveEmptyEntries)[1],
                CultureInfo.InvariantCulture);
        using var process = Process.Start(new ProcessStartInfo("nvidia-smi",
            [$"--id={Math.Max(0, device.index)}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"])
        {
            RedirectStandardOutput =
            true
        })!;
        var said = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return double.Parse(said, CultureInfo.InvariantCulture) * (1 << 20) / 1e9;
    }

    private sealed class Steps(Action tick) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value) => tick();
    }
}
