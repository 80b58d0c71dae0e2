using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static MendCluster.Bench.Passes;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>
/// Load, edit, ask and training step of one model in so many stages on one device: the GPU kit's part of ours. bench/gpu/reference.py does
/// the same <see cref="Passes"/> in plain PyTorch; bench/gpu/report.py puts the two beside each other.
/// </summary>
internal static class GpuBench
{
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
        using var passes = new Passes(directory, ScalarType.BFloat16, device);
        passes.MeasureEdit(found);
        passes.MeasureAnswer(found);
        passes.MeasureStep(found);

        var (stage, mend, batch) = (passes.Stage, passes.Mend, passes.FirstBatch);
        var roofs = Roofs.Measure(device, ScalarType.BFloat16);
        found["roofs"] = new Dictionary<string, double>
        {
            ["copy_in_gb_s"] = roofs.CopyIn / 1e9,
            ["stream_gb_s"] = roofs.Stream / 1e9,
            ["float32_tflops"] = roofs.Float32 / 1e12,
            ["bfloat16_tflops"] = roofs.BFloat16 / 1e12,
        };
        var traffic = new Traffic(stage, mend);
        Floor("edit", Operations.Edit(stage, mend, batch, passes.Rows), traffic.Edit);
        Floor("step", Operations.TrainingStep(stage, mend, batch, passes.Rows), traffic.TrainingStep(Window));
        Floor("token", null, traffic.Token);

        void Floor(string what, Operations? operations, double bytes)
        {
            if (operations is not null)
                (found[$"{what}_gflop"], found[$"{what}_floor_operations_ms"]) = (operations.Total / 1e9,
                    1000 * roofs.SecondsOf(operations));
            (found[$"{what}_gb"], found[$"{what}_floor_bytes_ms"]) = (bytes / 1e9, 1000 * bytes / roofs.Stream);
        }
    }

    /// <summary>A training run of shards, one replica.</summary>
    private static async Task TrainAsync(string directory, int stages, string device, Dictionary<string, object> found)
    {
        var run = Path.Combine(directory, $"run-{Guid.NewGuid():N}");
        var text = new TextBatch(ModelFamily.FromDirectory(directory), TokenizerFiles.Load(directory));
        EditBatch Batch(long i) => Passes.Batch(text, directory, (int)(i % Window));
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
                if (steps.Count == 1 + Passes.Windows)
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

    /// <summary>
    /// Of a GPU: memory that the driver has given out, to all programs together. libtorch keeps what it was given, so what is given out at
    /// the end is the most that was needed. Of the CPU: the most that was resident of this process.
    /// </summary>
    private static double MemoryGB(Device device)
    {
        if (device.type == TorchSharp.DeviceType.CPU)
            return PeakResidentGB();
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
