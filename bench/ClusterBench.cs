using System.Diagnostics;
using System.Globalization;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;

namespace MendCluster.Bench;

/// <summary>
/// What distribution costs: one edit (28 tokens, 10 of them labels, the editor's own step, 8 probes) on GPT-2-small's shape with an editor
/// of rank 1920, float32. All layouts take turns in every round, so ratios hold on a machine that does other things too.
/// </summary>
internal static class ClusterBench
{
    public const int PromptTokens = 18;

    private const int Rounds = 15, WarmUp = 3, TargetTokens = 10, AnswerTokens = 16;

    private static readonly int[] Layouts = [1, 2, 4];
    private static readonly TimeSpan AskFor = TimeSpan.FromSeconds(15);
    private static readonly EditOptions OwnStep = new() { Confidence = null };
    private static readonly Probe[] Probes =
        [.. Enumerable.Range(0, 8).Select(i => new Probe(Letters(PromptTokens, 100 + i), Letters(2, i)))];

    public static Task RunAsync() => WithModelAsync(async model =>
    {
        var embedded = new List<(string Name, IMendCluster Cluster)>();
        foreach (var stages in Layouts)
            embedded.Add(($"{stages} stage{(stages > 1 ? "s" : "")}, one process", await OpenAsync(model, stages)));
        var times = await EditsAsync(embedded);
        for (var i = 0; i < Layouts.Length; i++)
            Report(embedded[i].Name, times[i], times[0]);
        await AsksAsync(embedded[1].Cluster);
        foreach (var (_, cluster) in embedded)
            await cluster.DisposeAsync();

        foreach (var silos in Layouts.Append(3).Order())
            await OnSilosAsync(Path.GetDirectoryName(model)!, model, silos);
    });

    /// <summary>Something with a generated model's directory, which is deleted afterwards.</summary>
    public static async Task WithModelAsync(Func<string, Task> work)
    {
        Console.WriteLine($"GPT-2-small's shape, float32, editor of rank 1920; {TorchRuntime.Description}");
        var folder = Directory.CreateTempSubdirectory("mend-bench-").FullName;
        try
        {
            var model = Path.Combine(folder, "model");
            LargeCheckpoint.Make(model, DType.Float32,
                """{"model_type": "gpt2", "vocab_size": 50258, "n_positions": 1024, "n_embd": 768, "n_layer": 12, "n_head": 12, "eos_token_id": 257, "pad_token_id": 256}""");
            BytePairTrainer.Train(["a"], 258, ["<pad>", "</s>"]).Save(model, null); // a token for each byte
            File.WriteAllLines(Path.Combine(model, "probes.tsv"), Probes.Select(probe => $"{probe.Question}\t{probe.Answer}"));
            await work(model);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task OnSilosAsync(string folder, string model, int silos)
    {
        var at = Path.Combine(folder, $"silos-{silos}");
        Mend("cluster", "up", "--silos", Text(silos), "--model", model, "--folder", at);
        try
        {
            await using var remote = await OrleansCluster.ConnectAsync(Path.Combine(at, "members.json"), "model");
            await using var local = await OpenAsync(model, silos);
            var times = await EditsAsync([("", local), ("", remote)]);
            var before = LoopbackBytes();
            await EditAndRevertAsync(remote, 99);
            Report($"{silos} silo{(silos > 1 ? "s" : "")} of a stage each", times[1], times[0],
                $"; {(LoopbackBytes() - before) / 1e6:0.00} MB over the loopback an edit and its revert");
        }
        finally
        {
            Mend("cluster", "down", "--folder", at);
        }
    }

    /// <summary>Seconds of each edit, by cluster.</summary>
    private static async Task<IReadOnlyList<IReadOnlyList<double>>> EditsAsync(IReadOnlyList<(string Name, IMendCluster Cluster)> clusters)
    {
        List<List<double>> times = [.. clusters.Select(_ => new List<double>())];
        for (var round = 0; round < WarmUp + Rounds; round++)
            for (var i = 0; i < clusters.Count; i++)
            {
                var (seconds, _) = await EditAndRevertAsync(clusters[i].Cluster, round);
                if (round >= WarmUp)
                    times[i].Add(seconds);
            }
        return times;
    }

    public static Task<EditReceipt> EditAsync(IMendCluster cluster, int number) =>
        cluster.EditAsync(Letters(PromptTokens, number), Letters(TargetTokens, number + 1), OwnStep);

    /// <summary>Seconds of both; every edit meets the same model.</summary>
    public static async Task<(double Edit, double Revert)> EditAndRevertAsync(IMendCluster cluster, int number)
    {
        var start = Stopwatch.GetTimestamp();
        var receipt = await EditAsync(cluster, number);
        var edited = Stopwatch.GetTimestamp();
        await cluster.RevertAsync(receipt.Id);
        return (Stopwatch.GetElapsedTime(start, edited).TotalSeconds, Stopwatch.GetElapsedTime(edited).TotalSeconds);
    }

    /// <summary>Seconds of an answer.</summary>
    public static async Task<double> AskAsync(IMendCluster cluster, int number)
    {
        var start = Stopwatch.GetTimestamp();
        await cluster.AskAsync(Letters(PromptTokens, number), new(MaxTokens: AnswerTokens, Temperature: 1, Seed: number));
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    /// <summary>Tokens a second of one reader, alone and beside edits that follow each other without a pause.</summary>
    private static async Task AsksAsync(IMendCluster cluster)
    {
        var alone = await ReadAsync(cluster, CancellationToken.None);
        using var enough = new CancellationTokenSource();
        var edits = Task.Run(async () =>
        {
            var made = 0;
            for (; !enough.IsCancellationRequested; made++)
                await EditAndRevertAsync(cluster, made);
            return made;
        });
        var start = Stopwatch.GetTimestamp();
        var beside = await ReadAsync(cluster, enough.Token);
        await enough.CancelAsync();
        var made = await edits;
        Console.WriteLine(FormattableString.Invariant(
            $"  asks on 2 stages: {alone:0.0} tokens/s alone, {beside:0.0} beside {made / Stopwatch.GetElapsedTime(start).TotalSeconds:0.00} edits/s (ratio {beside / alone:0.00})"));
    }

    private static async Task<double> ReadAsync(IMendCluster cluster, CancellationToken cancellation)
    {
        var (start, tokens) = (Stopwatch.GetTimestamp(), 0);
        for (var i = 0; Stopwatch.GetElapsedTime(start) < AskFor && !cancellation.IsCancellationRequested; i++, tokens += AnswerTokens)
            await AskAsync(cluster, i);
        return tokens / Stopwatch.GetElapsedTime(start).TotalSeconds;
    }

    public static async Task<IMendCluster> OpenAsync(string model, int stages) => await EmbeddedCluster.OpenAsync(new()
    {
        ModelDirectory = model,
        Editor = Path.Combine(model, "editor.safetensors"),
        Ledger = Path.Combine(model, $"ledger-{Guid.NewGuid():N}"),
        Stages = stages,
        Probes = Probes,
    });

    private static void Report(string name, IReadOnlyList<double> times, IReadOnlyList<double> beside, string more = "")
    {
        var ratio = times.Zip(beside, (a, b) => a / b).Order().ElementAt(times.Count / 2); // of the same rounds
        Console.WriteLine(FormattableString.Invariant($"  {name,-26} {1000 * times.Order().ElementAt(times.Count / 2),7:0.0} ms an edit, ratio {ratio:0.000}{more}"));
    }

    public static void Mend(params string[] arguments)
    {
        var program = Path.GetFullPath(Path.Combine(AppContext.BaseDirectory, "..", "..", "Cli", "release", "mend.dll"));
        using var process = Process.Start(new ProcessStartInfo(Environment.ProcessPath!,
            [program, .. arguments])
        { RedirectStandardOutput = true })!;
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"mend {string.Join(' ', arguments)}: {output}");
    }

    internal static double LoopbackBytes() => double.Parse(
        File.ReadLines("/proc/net/dev").Single(line => line.TrimStart().StartsWith("lo:", StringComparison.Ordinal))
        .Split([' ', ':'], StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);

    internal static string Letters(int count, int seed) =>
        string.Concat(Enumerable.Range(0, count).Select(i => (char)('a' + (seed * 7 + i * 11) % 26)));

    private static string Text(int number) => number.ToString(CultureInfo.InvariantCulture);
}
