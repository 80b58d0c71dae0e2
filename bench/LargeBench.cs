using System.Diagnostics;
using System.Globalization;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Torch;
using static MendCluster.Bench.Passes;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>
/// GPT-J 6B edited and asked on this machine's CPUs, in one process and on three silos, and T5-XXL 11B edited stage by stage: generated
/// checkpoints in bfloat16 with the paper's editor. Beside each phase of the edit what <see cref="StagePlan"/> predicts from this machine's
/// rates for products of these shapes.
/// </summary>
internal static class LargeBench
{
    private const int Silos = 3, XxlStages = 4, EditTokens = 28, Labels = 10, Edits = 3, MoreTokens = 4;

    private static readonly EditOptions OwnStep = new() { Confidence = null };

    /// <param name="folder">Of the checkpoints, which are made where they are not there: 38 GB together, and to be deleted afterwards.</param>
    public static async Task RunAsync(string folder)
    {
        foreach (var name in new[] { GeneratedModels.GptJ, GeneratedModels.T5Xxl })
            if (!File.Exists(EditorOf(Path.Combine(folder, name))))
                GeneratedModels.Make(name, Path.Combine(folder, name), DType.BFloat16);
        var (gptJ, xxl) = (Path.Combine(folder, GeneratedModels.GptJ), Path.Combine(folder, GeneratedModels.T5Xxl));
        Console.WriteLine($"weights BFloat16, editors of rank 1920; {TorchRuntime.Description}");
        Start("large-process", gptJ); // in a process of its own, whose memory is its own
        await OnSilosAsync(gptJ);
        if (StagewiseBench.Run(xxl, XxlStages, nameof(DType.BFloat16)) is not 0 and var code)
            throw new InvalidOperationException($"stages of {xxl} ended with {code}");
    }

    /// <summary>One stage, in this process.</summary>
    public static async Task RunInProcessAsync(string model)
    {
        var rates = Rates.Measure();
        var ledger = Directory.CreateTempSubdirectory("mend-large-");
        try
        {
            var start = Stopwatch.GetTimestamp();
            await using var cluster = await EmbeddedCluster.OpenAsync(new()
            {
                ModelDirectory = model,
                Editor = EditorOf(model),
                Ledger = Path.Combine(ledger.FullName, "ledger"),
                Stages = 1,
                DType = DType.BFloat16,
            });
            Say($"{Path.GetFileName(model)}, one process: loaded in {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s");
            await UseAsync(cluster, model, 1, rates);
            Say($"  most resident of the process: {PeakResidentGB():0.00} GB");
        }
        finally
        {
            ledger.Delete(recursive: true);
        }
    }

    private static async Task OnSilosAsync(string model)
    {
        var rates = Rates.Measure();
        var at = Directory.CreateTempSubdirectory("mend-large-").FullName;
        var start = Stopwatch.GetTimestamp();
        ClusterBench.Mend("cluster", "up", "--silos", $"{Silos}", "--model", model, "--dtype", nameof(DType.BFloat16), "--folder", at);
        try
        {
            await using var cluster = await OrleansCluster.ConnectAsync(Path.Combine(at, "members.json"), "model");
            await cluster.AskAsync(Texts(model, 0).Prompt, new(MaxTokens: 1)); // every stage is there
            Say($"{Path.GetFileName(model)}, {Silos} silos of a stage each: up and loaded in {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s");
            await UseAsync(cluster, model, Silos, rates);
            var peaks = SiloProcesses(at).Select(id => StatusBytes("VmHWM", id) / 1e9).ToList();
            Say($"  most resident of the silos: {string.Join(" + ", peaks.Select(peak => peak.ToString("0.00", CultureInfo.InvariantCulture)))} = {peaks.Sum():0.00} GB");
        }
        finally
        {
            ClusterBench.Mend("cluster", "down", "--folder", at);
            Directory.Delete(at, recursive: true);
        }
    }

    /// <summary>Edits, each taken back, and an answer; the median of each phase beside the plan's.</summary>
    private static async Task UseAsync(IMendCluster cluster, string model, int stages, Rates rates)
    {
        var (prompt, target) = Texts(model, 0);
        await EditAsync();
        var before = ClusterBench.LoopbackBytes();
        List<(EditReceipt Receipt, double Seconds)> edits = [];
        for (var i = 0; i < Edits; i++)
            edits.Add(await EditAsync());
        var loopback = (ClusterBench.LoopbackBytes() - before) / Edits;

        var plan = StagePlan.Read(model, EditorOf(model), new()
        {
            Stages = stages,
            BytesPerWeight = 2,
            Tokens = EditTokens,
            LabelledTokens = Labels,
            Flops = rates.BFloat16,
            EditorFlops = rates.Float32,
            Bandwidth = rates.Stream,
        });
        Say($"  mend plan --tflops {rates.BFloat16 / 1e12:0.000} --editor-tflops {rates.Float32 / 1e12:0.000} --bandwidth {rates.Stream / 1e9:0}, rates of this machine for an edit's products");
        Phase("forward", times => times.Forward, stage => stage.Forward);
        Phase("backward", times => times.Backward, stage => stage.Backward);
        Phase("editor", times => times.Editor, stage => stage.Editor);
        Phase("the three", times => times.Forward + times.Backward + times.Editor, stage => stage.EditTime);
        double Median(Func<EditTimes, TimeSpan> of) => Passes.Median(edits.Select(edit => of(edit.Receipt.Times).TotalSeconds));
        Say($"  try {Median(times => times.Try):0.00} s, append {Median(times => times.Append):0.000} s, broadcast {Median(times => times.Broadcast):0.000} s; the whole edit {Passes.Median(edits.Select(edit => edit.Seconds)):0.00} s; {loopback / 1e6:0.00} MB over the loopback an edit and its revert");
        Say($"  log p of the target {Math.Log(edits[^1].Receipt.Figures.ProbabilityBefore):0.000} before, {Math.Log(edits[^1].Receipt.Figures.ProbabilityAfter):0.000} after");

        var first = await AskAsync(1);
        var more = await AskAsync(1 + MoreTokens);
        Say($"  answer: first token {first:0.00} s, then {(more - first) / MoreTokens:0.00} s a token");

        async Task<(EditReceipt, double)> EditAsync()
        {
            var start = Stopwatch.GetTimestamp();
            var receipt = await cluster.EditAsync(prompt, target, OwnStep);
            var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
            await cluster.RevertAsync(receipt.Id);
            return (receipt, seconds);
        }
        async Task<double> AskAsync(int tokens)
        {
            var start = Stopwatch.GetTimestamp();
            await cluster.AskAsync(prompt, new(MaxTokens: tokens));
            return Stopwatch.GetElapsedTime(start).TotalSeconds;
        }
        void Phase(string name, Func<EditTimes, TimeSpan> of, Func<PlannedStage, TimeSpan> planned)
        {
            var (measured, predicted) = (Median(of), plan.Stages.Sum(stage => planned(stage).TotalSeconds));
            Say($"  {name,-9} {measured:0.00} s; planned {predicted:0.00} s; measured / planned {measured / predicted:0.00}");
        }
    }

    /// <summary>Of `mend cluster up`'s folder.</summary>
    private static IEnumerable<string> SiloProcesses(string folder) =>
        Directory.EnumerateDirectories("/proc").Select(path => Path.GetFileName(path)!)
            .Where(id => int.TryParse(id, CultureInfo.InvariantCulture, out _) && CommandOf(id) is var command
                && command.Contains("MendCluster.Silo", StringComparison.Ordinal) && command.Contains(folder, StringComparison.Ordinal));

    private static string CommandOf(string process)
    {
        try
        {
            return File.ReadAllText($"/proc/{process}/cmdline");
        }
        catch (IOException) // it has ended
        {
            return "";
        }
    }

    private static void Start(string what, string model)
    {
        using var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!, [typeof(LargeBench).Assembly.Location, what, model]))!;
        process.WaitForExit();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{what} of {model} ended with {process.ExitCode}");
    }

    private static void Say(FormattableString text) => Console.WriteLine(FormattableString.Invariant(text));

    /// <summary>Operations and bytes a second of this machine, for the rows of an edit times GPT-J's largest matrix.</summary>
    private sealed record Rates(double BFloat16, double Float32, double Stream)
    {
        public static Rates Measure()
        {
            var roofs = Roofs.Measure(CPU, ScalarType.BFloat16);
            return new(Rate(EditTokens, 4096, 16384, true), Rate(3 * EditTokens, 4096, 1920, false), roofs.Stream);

            double Rate(long rows, long m, long n, bool inWeightsType) =>
                2.0 * rows * m * n / roofs.SecondsOf(new Product(rows, m, n, inWeightsType, 1));
        }
    }
}
