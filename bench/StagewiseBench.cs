using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;

namespace MendCluster.Bench;

/// <summary>
/// An edit of a model that need not fit this machine: a process for every stage, one at a time, boundary tensors by files. Says what each
/// process held beside its weights, and how fast it loaded beside reading the same files with cat.
/// </summary>
internal static class StagewiseBench
{
    private const int Tokens = 28, Labels = 10, Rounds = 3;

    /// <summary>What a stage's process says of itself. Bytes.</summary>
    /// <param name="Held">Weights and editor.</param>
    /// <param name="Tensors">Most that libtorch's allocator gave out while loading.</param>
    /// <param name="Before">Resident before loading: the runtime and its libraries.</param>
    /// <param name="Peak">Most that was resident while loading.</param>
    /// <param name="Anonymous">Resident after loading, of which no file is the source.</param>
    /// <param name="Mapped">Resident after loading, of mapped files.</param>
    /// <param name="End">Most that was resident in the process's life.</param>
    private sealed record Report(
        double LoadSeconds, long Held, long Tensors, long Before, long Peak, long Anonymous, long Mapped, double Seconds, long End,
        double? LogProbability);

    public static int Run(string directory, int stages, string dtype)
    {
        var plan = StagePlan.Read(directory, Editor(directory), new() { Stages = stages, BytesPerWeight = dtype == "BFloat16" ? 2 : 4 });
        var lowest = plan.Stages.ToList().FindIndex(stage => stage.Editable.Count > 0);
        var work = Directory.CreateTempSubdirectory("mend-stages-");
        try
        {
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{directory}: {Files(directory).Sum(file => new FileInfo(file).Length) / 1e9:0.00} GB in {Files(directory).Count()} files with the editor; {stages} stages, weights {dtype}; {TorchRuntime.Description}"));
            Evict(directory);
            var cold = Cat(directory);
            var warm = Enumerable.Range(0, Rounds).Min(_ => Cat(directory));
            Console.WriteLine(Invariant($"cat of all files: {cold:0.00} s from the disk, {warm:0.00} s again"));
            Console.WriteLine("stage  pass    load s    held GB  tensors at most  resident: before  at most  less before / held   of files  pass s  at most");
            var best = Enumerable.Repeat(double.PositiveInfinity, stages).ToArray();
            void Step(int stage, string pass)
            {
                var report = Start(directory, stage, stages, dtype, pass, work.FullName);
                best[stage] = Math.Min(best[stage], report.LoadSeconds);
                Console.WriteLine(Invariant(
                    $"{stage,5}  {pass,-6}  {report.LoadSeconds,6:0.00}  {report.Held / 1e9,9:0.000}  {(double)report.Tensors / report.Held,15:0.000}  {report.Before / 1e9,16:0.000}  {report.Peak / 1e9,7:0.000}  {(double)(report.Peak - report.Before) / report.Held,18:0.000}   {report.Mapped / 1e9,8:0.000}  {report.Seconds,6:0.00}  {report.End / 1e9,7:0.000}{(report.LogProbability is { } found ? Invariant($"  log p(target) {found:0.0000}") : "")}"));
            }
            for (var stage = 0; stage < stages; stage++)
            {
                Evict(directory);
                Step(stage, "load");
            }
            Console.WriteLine(Invariant($"all stages loaded from the disk: {best.Sum():0.00} s, {best.Sum() / cold:0.00} times cat"));
            for (var round = 0; round < Rounds; round++)
                for (var stage = 0; stage < stages; stage++)
                    Step(stage, "load");
            Console.WriteLine(Invariant($"all stages loaded again, each at its best: {best.Sum():0.00} s, {best.Sum() / warm:0.00} times cat"));
            var watch = Stopwatch.StartNew();
            for (var stage = 0; stage < stages - 1; stage++)
                Step(stage, "up");
            for (var stage = stages - 1; stage >= lowest; stage--)
                Step(stage, "down");
            Console.WriteLine(Invariant($"edit, loading included: {watch.Elapsed.TotalSeconds:0.0} s"));
            for (var stage = lowest; stage < stages; stage++)
                Step(stage, "try");
            return 0;
        }
        finally
        {
            work.Delete(recursive: true);
        }
    }

    /// <summary>One stage, one pass, in this process.</summary>
    public static async Task RunStageAsync(string directory, int stage, int stages, string dtype, string pass, string work)
    {
        var meter = AllocationMeter.Install(); // and libtorch is loaded: it is not the checkpoint's
        var editor = Editor(directory);
        var type = Enum.Parse<DType>(dtype);
        var plan = StagePlan.Read(directory, editor, new() { Stages = stages, BytesPerWeight = type == DType.BFloat16 ? 2 : 4 });
        var before = Passes.StatusBytes("VmRSS");
        var watch = Stopwatch.StartNew();
        await using var shard = new ModelShard(new(directory, editor, stage, stages, type), TimeProvider.System);
        await shard.LoadAsync();
        var load = watch.Elapsed.TotalSeconds;
        var (peak, anonymous, mapped, tensors) = (Passes.StatusBytes("VmHWM"), Passes.StatusBytes("RssAnon"), Passes.StatusBytes("RssFile"), meter.Peak);

        watch.Restart();
        double? logProbability = null;
        var below = stage == 0 || pass is "load" ? Boundary.None : Load<Boundary>(work, $"up-{stage - 1}");
        var batch = Batch(ModelFamily.FromDirectory(directory));
        var needsGradient = plan.Stages.Take(stage).Any(lower => lower.Editable.Count > 0);
        if (pass is "up" or "down")
        {
            var reply = await shard.ForwardAsync(new(new(1, ModelVersion.Base, batch, below), needsGradient));
            Save(work, $"up-{stage}", reply.Result.Above);
            logProbability = reply.Scores?[0].LogProbability;
            if (pass == "down")
            {
                var above = stage == stages - 1 ? Boundary.None : Load<BackwardReply>(work, $"down-{stage + 1}").Below;
                Save(work, $"down-{stage}", await shard.BackwardAsync(new(1, above)));
            }
        }
        else if (pass is "try")
        {
            var changes = Load<BackwardReply>(work, $"down-{stage}").Changes[0];
            await shard.ApplyAsync([new(new(new(1), default, LedgerKind.Edit, new(1)), changes)]);
            var reply = await shard.TryAsync(new(new(1, new(1), batch, below)));
            Save(work, $"up-{stage}", reply.Result.Above);
            logProbability = reply.Scores?[0].LogProbability;
        }
        Console.WriteLine(JsonSerializer.Serialize(new Report(load, plan.Stages[stage].WeightBytes + plan.Stages[stage].EditorBytes,
            tensors, before, peak,
            anonymous, mapped, watch.Elapsed.TotalSeconds, Passes.StatusBytes("VmHWM"), logProbability)));
    }

    private static Report Start(string directory, int stage, int stages, string dtype, string pass, string work)
    {
        using var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!,
            [typeof(StagewiseBench).Assembly.Location, "stage", directory, $"{stage}", $"{stages}", dtype, pass, work])
        { RedirectStandardOutput = true })!;
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        return process.ExitCode == 0 ? JsonSerializer.Deserialize<Report>(output)!
            : throw new InvalidOperationException($"stage {stage} failed: {output}");
    }

    private static TokenBatch Batch(ModelFamily family)
    {
        var ids = Enumerable.Range(0, Tokens).Select(i => (100 + 7919L * i) % (family.VocabularySize - 1)).ToArray();
        var labels = ids.Select((id, i) => i < Tokens - Labels ? ScoredPositions.Ignored : id).ToArray();
        WireTensor Row(IEnumerable<long> values) => new(DType.Int64, [1, Tokens], values.SelectMany(BitConverter.GetBytes).ToArray());
        return new(Row(ids), Row(ids.Select(_ => 1L)), null, null, Row(labels));
    }

    /// <summary>Seconds.</summary>
    private static double Cat(string directory) =>
        double.Parse(Bash($"TIMEFORMAT=%R; time cat {Quoted(directory)} >/dev/null"), CultureInfo.InvariantCulture);

    /// <summary>GNU dd with nocache and nothing to copy asks the kernel to forget a file.</summary>
    private static void Evict(string directory) =>
        Bash($"sync; for f in {Quoted(directory)}; do dd if=\"$f\" iflag=nocache count=0 status=none; done");

    private static string Quoted(string directory) => string.Join(' ', Files(directory).Select(file => $"'{file}'"));

    private static string Bash(string script)
    {
        using var process = Process.Start(new ProcessStartInfo("bash", ["-c", script]) { RedirectStandardError = true })!;
        var said = process.StandardError.ReadToEnd();
        process.WaitForExit();
        return said;
    }

    private static IEnumerable<string> Files(string directory) =>
        Directory.EnumerateFiles(directory, "*.safetensors").Order(StringComparer.Ordinal);

    private static string Editor(string directory) => Path.Combine(directory, EditorCheckpoint.FileName);

    private static void Save<T>(string folder, string name, T value) =>
        File.WriteAllText(Path.Combine(folder, name), JsonSerializer.Serialize(value));

    private static T Load<T>(string folder, string name) => JsonSerializer.Deserialize<T>(File.ReadAllText(Path.Combine(folder, name)))!;

    private static string Invariant(FormattableString text) => FormattableString.Invariant(text);
}
