using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Engine.Data;
using MendCluster.Engine.Metrics;
using MendCluster.Engine.Recipes;
using MendCluster.Engine.Reports;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend sequence</c>: up to a thousand edits one after another through the ledger, and what holds on the way.</summary>
internal static class SequentialCommand
{
    private const string Ledger = "sequence.ledger", ResultsFile = "results.json";

    private static readonly int[] UsualCounts = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000];

    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true };

    public static Command Create()
    {
        var demo = new Option<bool>("--demo") { Description = "the demo's model; half of its held-out facts first, then made-up subjects" };
        var model = new Option<DirectoryInfo?>("--model") { Description = "Hugging Face directory" };
        var editor = new Option<FileInfo?>("--editor") { Description = "editor file; without it editor.safetensors in the model's directory" };
        var data = new Option<FileSystemInfo?>("--data") { Description = "edits: zsRE export (.json), the paper's form (.jsonl) or questions with answers (.tsv); or, with --task, a folder of the task's files" };
        var task = new Option<EditTaskKind?>("--task") { Description = "what --data's folder is for: qa or fc" };
        var counts = new Option<string?>("--edits") { Description = $"measure after so many edits; without it after {string.Join(", ", UsualCounts)} and all, as far as there are so many" };
        var unrelated = new Option<int>("--unrelated") { Description = "ask at most so many unrelated questions", DefaultValueFactory = _ => 300 };
        var maxDrawdown = new Option<double?>("--max-drawdown") { Description = "refuse edits that cost more than this fraction of the probes" };
        var ownStep = new Option<bool>("--own-step") { Description = "make the edits with the editor's own step, as in the paper" };
        var most = new Option<int>("--max-tokens") { Description = "most tokens of an answer", DefaultValueFactory = _ => 32 };
        var revertAll = new Option<bool>("--revert-all") { Description = "take all edits back at the end, in a random order, and check that the model is the unedited one" };
        var output = new Option<DirectoryInfo>("--out") { Description = "folder for results.json, results.md, curve.svg and the ledger; the same folder again: go on", DefaultValueFactory = _ => new("sequence") };
        var command = new Command("sequence", "Make edits one after another, up to a thousand, and measure what holds")
            { demo, model, editor, data, task, counts, unrelated, maxDrawdown, ownStep, most, revertAll, output };
        command.SetAction(async (parsed, cancellation) =>
        {
            if (!parsed.GetValue(demo) && (parsed.GetValue(model) is null || parsed.GetValue(data) is null))
                throw new InvalidDataException("mend sequence needs --demo, or --model and --data");
            var directory = parsed.GetValue(model)?.FullName ?? DemoFiles.Shipped;
            var folder = parsed.GetRequiredValue(output).FullName;
            var set = parsed.GetValue(demo) ? Demo(parsed.GetValue(unrelated)) : Read(parsed.GetValue(data)!.FullName, parsed.GetValue(task), parsed.GetValue(unrelated));
            var options = new EditOptions { MaxDrawdown = parsed.GetValue(maxDrawdown) };
            if (parsed.GetValue(ownStep))
                options = options with { Confidence = null };
            Directory.CreateDirectory(folder);
            await using var cluster = await EmbeddedCluster.OpenAsync(new()
            {
                ModelDirectory = directory,
                Editor = parsed.GetValue(editor)?.FullName ?? DemoFiles.Editor(directory),
                Ledger = Path.Combine(folder, Ledger),
                Probes = DemoFiles.Probes(directory),
            }, cancellation);
            var settings = new Settings(set.Source, set.Unrelated.Count, options.Confidence, options.MaxDrawdown, parsed.GetValue(most), DemoFiles.Probes(directory).Count);
            var sequence = new SequentialEdits(set.Edits, set.Unrelated, options, new(parsed.GetValue(most)), TimeProvider.System);
            var results = await RunAsync(sequence, cluster, folder, settings, Counts(parsed.GetValue(counts), set.Edits.Count), cancellation);
            if (parsed.GetValue(revertAll))
                results = await RevertAllAsync(sequence, cluster, folder, results, cancellation);
            Tables.Show(Table(results));
            return results.Reverted is { IsRestored: false } ? 1 : 0;
        });
        return command;
    }

    private static async Task<Results> RunAsync(
        SequentialEdits sequence, EmbeddedCluster cluster, string folder, Settings settings, IReadOnlyList<int> counts, CancellationToken cancellation)
    {
        var file = Path.Combine(folder, ResultsFile);
        var earlier = File.Exists(file) ? JsonSerializer.Deserialize<Results>(await File.ReadAllTextAsync(file, cancellation)) : null;
        if (earlier is not null && earlier.Settings != settings)
            throw new InvalidDataException($"{file}: was measured with {earlier.Settings}, now asked for with {settings}; use another --out");
        var results = earlier ?? new(settings, await ChecksumsAsync(cluster), new(new Dictionary<string, string>(), [], []), null);
        await AnsiConsole.Progress().AutoClear(true).StartAsync(async progress =>
        {
            var bar = progress.AddTask("edits", maxValue: counts.Max());
            await foreach (var now in sequence.RunAsync(cluster, counts, earlier?.Progress, cancellation))
            {
                bar.Value = now.Edits.Count;
                results = results with { Progress = now };
                Save(folder, results, withPictures: now.Points.Count > 0 && now.Points[^1].Edits == now.Edits.Count);
            }
        });
        return results;
    }

    private static async Task<Results> RevertAllAsync(SequentialEdits sequence, EmbeddedCluster cluster, string folder, Results results, CancellationToken cancellation)
    {
        var start = Stopwatch.GetTimestamp();
        var reverted = 0;
        await AnsiConsole.Progress().AutoClear(true).StartAsync(async progress =>
        {
            var bar = progress.AddTask("reverts", maxValue: results.Progress.Edits.Count);
            await foreach (var _ in SequentialEdits.RevertAllAsync(cluster, Prng.At(DemoRecipe.Seed, 0), cancellation))
                bar.Value = ++reverted;
        });
        var seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        var same = await sequence.AnsweredAsUneditedAsync(cluster, results.Progress, cancellation);
        var restored = results.Checksums.SequenceEqual(await ChecksumsAsync(cluster)) && same == results.Progress.Unedited.Count;
        if (reverted > 0 || results.Reverted is null)
            results = results with { Reverted = new(reverted, seconds, same, restored) };
        Save(folder, results, withPictures: true);
        return results;
    }

    private static async Task<IReadOnlyList<string>> ChecksumsAsync(EmbeddedCluster cluster) => [.. (await cluster.StatusAsync()).Select(shard => shard.Checksum)];

    /// <summary>The demo's edits: every other held-out fact, then made-up subjects; the facts between are what has to stay.</summary>
    private static EditSet Demo(int most)
    {
        var edits = DemoRecipe.HeldOutEdits(UsualCounts[^1]);
        return new(edits, SequentialEdits.Unrelated(edits, most, Prng.At(DemoRecipe.Seed, 2)),
            "every other held-out fact of the demo, then made-up subjects that no training has; unrelated: questions about the held-out facts between, which are never edited");
    }

    private static EditSet Read(string data, EditTaskKind? task, int most)
    {
        if (task == EditTaskKind.Gen)
            throw new InvalidDataException("mend sequence asks questions, and gen has texts; use --task qa or fc");
        var edits = task is { } kind ? TaskFolder.ReadEdits(data, kind, DemoRecipe.Seed).Validation : QuestionAnswering.ReadEdits(data, DemoRecipe.Seed);
        var others = task is { } ofTask ? TaskFolder.OtherQuestions(data, ofTask) : null;
        return new(edits, others is null ? SequentialEdits.Unrelated(edits, most, Prng.At(DemoRecipe.Seed, 2)) : [.. others.DistinctBy(pair => pair.Question).Take(most)],
            $"{edits.Count} edits of {Path.GetFileName(data)}; unrelated: {(others is null ? "their locality" : "Natural Questions")}");
    }

    private static List<int> Counts(string? list, int edits) => list is null
        ? [.. UsualCounts.Where(count => count < edits), Math.Min(edits, UsualCounts[^1])]
        : EditCounts.Parse(list);

    private static void Save(string folder, Results results, bool withPictures)
    {
        WholeFile.Write(Path.Combine(folder, ResultsFile), JsonSerializer.Serialize(results, Json));
        if (!withPictures)
            return;
        File.WriteAllText(Path.Combine(folder, "results.md"), $"{Table(results).ToMarkdown()}\n![curve](curve.svg)\n");
        File.WriteAllText(Path.Combine(folder, "curve.svg"), Curve(results.Progress.Points));
    }

    private static string Curve(IReadOnlyList<SequentialPoint> points)
    {
        List<SequentialPoint> ordered = [.. points.OrderBy(point => point.Edits)];
        var chart = new LineChart("Edits one after another", "edits", "fraction of questions",
        [
            new("newest edits", Line(point => point.Newest)),
            new("all edits", Line(point => point.Prompts)),
            new("paraphrases", Line(point => point.Rephrases)),
            new("unrelated kept", Line(point => point.Retained)),
        ])
        {
            XNames = [.. ordered.Select(point => point.Edits.ToString(CultureInfo.InvariantCulture))],
        };
        return chart.ToSvg();

        IReadOnlyList<ChartPoint> Line(Func<SequentialPoint, Estimate?> figure) =>
            [.. ordered.Index().Where(point => figure(point.Item) is not null)
                .Select(point => (point.Index, Estimate: figure(point.Item)!)).Select(at => new ChartPoint(at.Index, at.Estimate.Value, at.Estimate.Low, at.Estimate.High))];
    }

    private static readonly string[] Columns = ["edits", "refused", $"newest {SequentialEdits.NewestEdits}", "all", "paraphrases of all", "unrelated kept", "drawdown", "ms an edit", "ms an answer", "factors"];

    private static ResultTable Table(Results results) => new("Edits one after another; 95% intervals over edits or questions", Columns,
        [.. results.Progress.Points.OrderBy(point => point.Edits).Select(point => new[]
        {
            Number(point.Edits), Number(point.Refused), Text(point.Newest), Text(point.Prompts), Text(point.Rephrases), Text(point.Retained), Text(point.Drawdown),
            point.EditMilliseconds is { } edit ? Number(edit) : "-", Number(point.AskMilliseconds), string.Create(CultureInfo.InvariantCulture, $"{point.Bytes / 1e6:0.0} MB"),
        })], [Protocol(results)]);

    private static string Protocol(Results results)
    {
        var settings = results.Settings;
        var text = string.Create(CultureInfo.InvariantCulture, $"Edits: {settings.Source}. Answers are generated freely and greedily, up to {settings.MaxTokens} tokens, and count when their text is the wanted one; "
            + $"where a later edit is about the same, the later target. {settings.Unrelated} unrelated questions; kept: answered as by the unedited model; drawdown: of the true answers. "
            + $"95% intervals by bootstrap over edits or questions. Step: {(settings.Confidence is { } confidence ? $"as large as gives the target {confidence}" : "the editor's own")}; "
            + $"{settings.Probes} probes; {(settings.MaxDrawdown is { } limit ? $"edits that cost more than {limit} of them are refused" : "no edit is refused for its drawdown")}. "
            + $"Times: medians, of an edit over the newest {SequentialEdits.NewestEdits}. Factors: of all edits, as the ledger keeps them. Float32.");
        return results.Reverted is not { } reverted ? text : text + string.Create(CultureInfo.InvariantCulture,
            $" Then {reverted.Edits} edits were taken back in a random order in {reverted.Seconds:0.0} s: the checksum of the model {(reverted.IsRestored ? "is" : "IS NOT")} that of before, "
            + $"and {reverted.SameAnswers} of {settings.Unrelated} unrelated answers are those of the unedited model.");
    }

    private static string Number(double value) => value.ToString("0.#", CultureInfo.InvariantCulture);

    private static string Text(Estimate? estimate) => estimate is null ? "-"
        : string.Create(CultureInfo.InvariantCulture, $"{estimate.Value:0.000} ({estimate.Low:0.000}-{estimate.High:0.000})");

    /// <param name="Source">Where edits and unrelated questions come from, for people.</param>
    private sealed record EditSet(IReadOnlyList<EditExample> Edits, IReadOnlyList<QaPair> Unrelated, string Source);

    /// <summary>What must not change between two runs on one folder.</summary>
    private sealed record Settings(string Source, int Unrelated, double? Confidence, double? MaxDrawdown, int MaxTokens, int Probes);

    /// <param name="Seconds">Of the last run that took some back.</param>
    /// <param name="IsRestored">The shards' checksums and all unrelated answers are those of the unedited model.</param>
    private sealed record Reverted(int Edits, double Seconds, int SameAnswers, bool IsRestored);

    /// <param name="Checksums">Of the unedited model's shards.</param>
    private sealed record Results(Settings Settings, IReadOnlyList<string> Checksums, SequentialProgress Progress, Reverted? Reverted);
}
