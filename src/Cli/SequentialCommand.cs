using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Engine.Data;
using MendCluster.Engine.Metrics;
using MendCluster.Engine.Recipes;
using MendCluster.Engine.Training;
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
        var demo = new Option<bool>("--demo") { Description = "the demo's model; its 300 held-out facts first" };
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
            var set = parsed.GetValue(demo) ? Demo() : Read(parsed.GetValue(data)!.FullName, parsed.GetValue(task), parsed.GetValue(unrelated));
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
            AnsiConsole.Write(Table(results));
            AnsiConsole.MarkupLineInterpolated($"[grey]{Protocol(results)}[/]");
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

    /// <summary>The demo's edits: held-out facts, then training facts, then the first ones anew. The validation facts are never edited.</summary>
    private static EditSet Demo()
    {
        const int all = 1000;
        var world = World.Generate(DemoRecipe.Seed);
        var (heldOut, training) = (DemoRecipe.HeldOutEdits(), world.Split.Training);
        List<EditExample> edits = [.. heldOut.Concat(world.EditExamples(training, Prng.At(DemoRecipe.Seed, 301), newPhrasings: true)).Take(all)];
        var again = all - edits.Count;
        edits.AddRange(world.EditExamples(world.Split.HeldOut, Prng.At(DemoRecipe.Seed, 302), newPhrasings: true).Take(again));
        return new(edits,
            [.. world.Split.Validation.SelectMany(fact => fact.Questions().TakeLast(World.NewPhrasings).Select(question => new QaPair(question, fact.Object)))],
            $"the demo's {heldOut.Count} held-out facts, then {all - again - heldOut.Count} facts that the editor was trained on, then {again} of the held-out ones once more; "
            + $"unrelated: its {world.Split.Validation.Count} validation facts, which are never edited");
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
        : [.. list.Split(',').Select(part => int.TryParse(part, CultureInfo.InvariantCulture, out var count) ? count
            : throw new InvalidDataException($"--edits \"{list}\": '{part}' is no number; expected numbers with commas between them, such as 1,10,100"))];

    private static void Save(string folder, Results results, bool withPictures)
    {
        var (file, partial) = (Path.Combine(folder, ResultsFile), Path.Combine(folder, ResultsFile + ".part"));
        File.WriteAllText(partial, JsonSerializer.Serialize(results, Json));
        File.Move(partial, file, overwrite: true); // whole or not at all: a stop must not cost what was measured
        if (!withPictures)
            return;
        File.WriteAllText(Path.Combine(folder, "results.md"), Markdown(results));
        File.WriteAllText(Path.Combine(folder, "curve.svg"), Curve(results.Progress.Points));
    }

    private static string Curve(IReadOnlyList<SequentialPoint> points)
    {
        return LineChart.Svg("Edits one after another", "edits (log)", "fraction of questions",
        [
            ("newest edits", "#4477aa", Line(point => point.Newest)),
            ("all edits", "#228833", Line(point => point.Prompts)),
            ("paraphrases", "#ccbb44", Line(point => point.Rephrases)),
            ("unrelated kept", "#cc3311", Line(point => point.Retained)),
        ], logX: true, logY: false);

        IReadOnlyList<(double, double)> Line(Func<SequentialPoint, Estimate?> figure) =>
            [.. points.Where(point => figure(point) is not null).OrderBy(point => point.Edits).Select(point => ((double)point.Edits, figure(point)!.Value))];
    }

    private static readonly string[] Columns = ["edits", "refused", $"newest {SequentialEdits.NewestEdits}", "all", "paraphrases of all", "unrelated kept", "drawdown", "ms an edit", "ms an answer", "factors"];

    private static IEnumerable<string[]> Rows(Results results) => results.Progress.Points.OrderBy(point => point.Edits).Select(point => new[]
    {
        Number(point.Edits), Number(point.Refused), Text(point.Newest), Text(point.Prompts), Text(point.Rephrases), Text(point.Retained), Text(point.Drawdown),
        point.EditMilliseconds is { } edit ? Number(edit) : "-", Number(point.AskMilliseconds), string.Create(CultureInfo.InvariantCulture, $"{point.Bytes / 1e6:0.0} MB"),
    });

    private static Table Table(Results results)
    {
        var table = new Table().Border(TableBorder.Simple).Title("Edits one after another; 95% intervals over edits or questions").AddColumns(Columns);
        foreach (var row in Rows(results))
            table.AddRow(row);
        return table;
    }

    private static string Markdown(Results results)
    {
        var text = new StringBuilder($"# Edits one after another\n\n| {string.Join(" | ", Columns)} |\n|{string.Concat(Columns.Select(_ => " --- |"))}\n");
        foreach (var row in Rows(results))
            text.Append($"| {string.Join(" | ", row)} |\n");
        return text.Append($"\n![curve](curve.svg)\n\n{Protocol(results)}\n").ToString();
    }

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
