using System.Globalization;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Data;
using MendCluster.Engine.Files;
using MendCluster.Engine.Training;

namespace MendCluster.Experiments;

/// <summary>What a sequence is measured with; must not change between two runs on one folder.</summary>
/// <param name="Source">Where edits and unrelated questions come from, for people.</param>
/// <param name="Unrelated">How many questions.</param>
/// <param name="MaxTokens">Of an answer.</param>
/// <param name="Inputs">Digest of the editor, the edits, the unrelated questions and the probes.</param>
/// <param name="ConsolidateEvery">Edits; 0: never.</param>
/// <param name="Replay">Questions that consolidations learn to leave as they are, and that rewordings are learned from.</param>
/// <param name="Router">Digest of the router, where edits are routed.</param>
/// <param name="PreservedWeight">Where edits go round those before: how much the editor's preserved keys count beside all of these.</param>
public sealed record SequenceSettings(string Source, int Unrelated, double? Confidence, double? MaxDrawdown, int MaxTokens, int Probes,
    string Inputs, int ConsolidateEvery, int Replay = 0, string? Router = null, double? PreservedWeight = null);

/// <summary>All of a sequence's edits, taken back.</summary>
/// <param name="Edits">That were taken back.</param>
/// <param name="Seconds">Of the last run that took some back.</param>
/// <param name="SameAnswers">Unrelated questions that are answered as by the unedited model.</param>
/// <param name="IsRestored">The shards' checksums and all unrelated answers are those of the unedited model.</param>
public sealed record SequenceReverted(int Edits, double Seconds, int SameAnswers, bool IsRestored);

/// <summary>A sequence so far.</summary>
/// <param name="Checksums">Of the unedited model's shards.</param>
/// <param name="Reverted">Null: nothing was taken back.</param>
public sealed record SequenceResults(SequenceSettings Settings, IReadOnlyList<string> Checksums, SequentialProgress Progress,
    SequenceReverted? Reverted)
{
    private static readonly string[] Columns =
        ["edits", "refused", $"newest {SequentialEdits.NewestEdits}", $"oldest {SequentialEdits.OldestEdits}", "all", "made and answered", "paraphrases of all", "unrelated kept", "drawdown",
        "ms an edit", "ms an answer", "factors", "consolidations"];

    private IReadOnlyList<SequentialPoint> Points => [.. Progress.Points.OrderBy(point => point.Edits)];

    public ResultTable Table() => new("Edits one after another; 95% intervals over edits or questions", Columns,
        [.. Points.Select(point => new[]
        {
            Number(point.Edits), Number(point.Refused), Text(point.Newest), Text(point.Oldest),
                Text(point.Prompts),
                MadeAndAnswered(point), Text(point.Rephrases),
                Text(point.Retained), Text(point.Drawdown),
            point.EditMilliseconds is { } edit ? Number(edit) : "-", Number(point.AskMilliseconds),
                string.Create(CultureInfo.InvariantCulture, $"{point.Bytes / 1e6:0.0} MB"),
                Number(point.Consolidations),
        })], [Protocol()]);

    public LineChart Curve()
    {
        return new("Edits one after another", "edits", "fraction of questions",
        [
            new("newest edits", Line(point => point.Newest)),
            new("all edits", Line(point => point.Prompts)),
            new("paraphrases", Line(point => point.Rephrases)),
            new("unrelated kept", Line(point => point.Retained)),
        ])
        {
            XNames = [.. Points.Select(point => point.Edits.ToString(CultureInfo.InvariantCulture))],
        };

        IReadOnlyList<ChartPoint> Line(Func<SequentialPoint, Estimate?> figure) =>
            [.. Points.Index().Where(point => figure(point.Item) is not null)
                .Select(point => (point.Index, Estimate: figure(point.Item)!))
                    .Select(at => new ChartPoint(at.Index, at.Estimate.Value, at.Estimate.Low, at.Estimate.High))];
    }

    private string Protocol()
    {
        var text = string.Create(CultureInfo.InvariantCulture,
            $"Edits: {Settings.Source}. Answers are generated freely and greedily, up to {Settings.MaxTokens} tokens, and count when their text is the wanted one; "
            + $"where a later edit is about the same, the later target. {Settings.Unrelated} unrelated questions; kept: answered as by the unedited model; drawdown: of the true answers. "
            + $"95% intervals by bootstrap over edits or questions. Step: {(Settings.Confidence is { } confidence ? $"as large as gives the target {confidence}" : "the editor's own")}; "
            + $"{Settings.Probes} probes; {(Settings.MaxDrawdown is { } limit ? $"edits that cost more than {limit} of them are refused" : "no edit is refused for its drawdown")}. "
            + $"{(Settings.ConsolidateEvery > 0 ? $"After every {Settings.ConsolidateEvery} edits those in force are consolidated, {Settings.Replay} known questions replayed. " : "")}"
            + $"{(Settings.Router is null ? "" : $"Edits are routed, each by its prompt and by rewordings that {Settings.Replay} known questions teach. ")}"
            + $"{(Settings.PreservedWeight is { } weight ? $"Edits go round the keys of those before them, and round preserved keys, which count {weight} times as much as all of them. " : "")}"
            + $"Times: medians, of an edit over the newest {SequentialEdits.NewestEdits}. Factors: of all edits, as the ledger keeps them. Float32.");
        return Reverted is null ? text : text + string.Create(CultureInfo.InvariantCulture,
            $" Then {Reverted.Edits} edits were taken back in a random order in {Reverted.Seconds:0.0} s: the checksum of the model {(Reverted.IsRestored ? "is" : "IS NOT")} that of before, "
            + $"and {Reverted.SameAnswers} of {Settings.Unrelated} unrelated answers are those of the unedited model.");
    }

    /// <summary>Of the edits that were asked for; the columns beside it are of those that were made.</summary>
    private static string MadeAndAnswered(SequentialPoint point) => ((point.Prompts?.Value ?? 0) * (point.Edits - point.Refused) / point.Edits)
        .ToString("0.0000", CultureInfo.InvariantCulture);

    private static string Number(double value) => value.ToString("0.#", CultureInfo.InvariantCulture);

    private static string Text(Estimate? estimate) => estimate?.ToString() ?? "-";
}

/// <summary>Edits of a sequence, and what they must leave alone.</summary>
/// <param name="Source">Where they come from, for people.</param>
public sealed record SequenceData(IReadOnlyList<EditExample> Edits, IReadOnlyList<QaPair> Unrelated, string Source)
{
    /// <summary>The generated world's: every other held-out fact, then made-up subjects; the facts between are what has to stay.</summary>
    /// <param name="edits">At most so many.</param>
    /// <param name="unrelated">At most so many.</param>
    public static SequenceData OfWorld(ulong seed, int edits, int unrelated)
    {
        var all = SyntheticTasks.ManyEdits(seed, edits);
        return new(all, SequentialEdits.Unrelated(all, unrelated, Prng.At(seed, 2)),
            "every other held-out fact of the generated world, then made-up subjects that no training has; unrelated: questions about the held-out facts between, which are never edited");
    }
}

/// <summary>
/// Edits one after another on an embedded cluster, in a folder: its ledger, <c>results.json</c>, <c>results.md</c> and <c>curve.svg</c>.
/// The same folder again goes on.
/// </summary>
/// <param name="folder">Is made.</param>
/// <param name="data">Edits and unrelated questions.</param>
/// <param name="options">Of every edit.</param>
/// <param name="maxTokens">Of an answer.</param>
/// <param name="time">Measures edits and answers.</param>
/// <param name="consolidateEvery">Edits; 0: never.</param>
/// <param name="consolidation">How.</param>
public sealed class SequenceRun(string folder, SequenceData data, EditOptions options, int maxTokens, TimeProvider time,
    int consolidateEvery = 0, ConsolidateOptions? consolidation = null)
{
    public const string ResultsFile = "results.json";

    private const string TableFile = "results.md", CurveFile = "curve.svg", Ledger = "sequence.ledger";

    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true };

    private readonly SequentialEdits _sequence = new(data.Edits, data.Unrelated, options, new(maxTokens), time, consolidateEvery, consolidation);

    public static SequenceResults? Read(string folder) => File.Exists(Path.Combine(folder, ResultsFile))
        ? JsonSerializer.Deserialize<SequenceResults>(File.ReadAllText(Path.Combine(folder, ResultsFile))) : null;

    private static double? PreservedWeight(string editor)
    {
        using var checkpoint = EditorCheckpoint.Open(editor);
        return checkpoint.Algorithm == EditorAlgorithm.Malmen && checkpoint.OptionsAs<MalmenOptions>() is { Sequential: true } options ? options.Beta : null;
    }

    /// <summary>Makes the edits up to the greatest count and measures at every count.</summary>
    /// <param name="model">A Hugging Face directory.</param>
    /// <param name="editor">The editor's file.</param>
    /// <param name="probes">Questions that each edit is judged by.</param>
    /// <param name="replay">Questions that consolidations learn to leave as they are.</param>
    /// <param name="revertAll">Then takes all edits back, in a random order, and looks whether the model is the unedited one.</param>
    /// <param name="progress">Told the share that is done.</param>
    /// <param name="device">Of the model's stages.</param>
    /// <param name="router">File of the router; null: edits are seen by every question.</param>
    /// <exception cref="InvalidDataException">The folder's figures were measured with other settings.</exception>
    public async Task<SequenceResults> RunAsync(string model, string editor, IReadOnlyList<Probe> probes, IReadOnlyList<Probe> replay,
        IReadOnlyList<int> counts, bool revertAll,
        Action<double>? progress = null, string device = "cpu", string? router = null, CancellationToken cancellation = default)
    {
        var inputs = Digest.OfText(JsonSerializer.Serialize(new { Editor = Digest.OfFile(editor), data.Edits, data.Unrelated, probes, replay }));
        var settings = new SequenceSettings(data.Source, data.Unrelated.Count, options.Confidence, options.MaxDrawdown, maxTokens,
            probes.Count, inputs, consolidateEvery, replay.Count, router is null ? null : Digest.OfFile(router), PreservedWeight(editor));
        using var own = OwnFolder.Take(folder, "mend sequence", [ResultsFile, TableFile, CurveFile, Ledger]);
        var earlier = Read(folder);
        if (earlier is not null && earlier.Settings != settings)
            throw new MendException(MendError.RunDiffers,
                $"{Path.Combine(folder, ResultsFile)} was measured with {earlier.Settings}, now asked for with {settings}.",
                "Ask as before, or use another folder.");
        if (earlier is { Progress.Edits.Count: > 0 } && !File.Exists(Path.Combine(folder, Ledger)))
            throw new MendException(MendError.RunDiffers,
                $"{Path.Combine(folder, ResultsFile)} tells of {earlier.Progress.Edits.Count} edits, and {Ledger} beside it, which has them, is missing.",
                "Put it back, or begin anew in another folder.");
        await using var cluster = await EmbeddedCluster.OpenAsync(
            new()
            {
                ModelDirectory = model,
                Editor = editor,
                Ledger = Path.Combine(folder, Ledger),
                Probes = probes,
                Replay = replay,
                Router = router,
                Device = device,
            }, cancellation).ConfigureAwait(false);
        var results = earlier ?? new(settings, await ChecksumsAsync(cluster).ConfigureAwait(false),
            new(new Dictionary<string, string>(), [], []), null);
        double steps = counts.Max() * (revertAll ? 2 : 1);
        await foreach (var now in _sequence.RunAsync(cluster, counts, earlier?.Progress, cancellation).ConfigureAwait(false))
        {
            results = results with { Progress = now };
            Save(results, withPictures: now.Points.Count > 0 && now.Points[^1].Edits == now.Edits.Count);
            progress?.Invoke(now.Edits.Count / steps);
        }
        if (revertAll)
            results = await RevertAllAsync(cluster, results, reverted => progress?.Invoke((counts.Max() + reverted) / steps), cancellation)
                .ConfigureAwait(false);
        return results;
    }

    private async Task<SequenceResults> RevertAllAsync(EmbeddedCluster cluster, SequenceResults results, Action<int> progress,
        CancellationToken cancellation)
    {
        var start = time.GetTimestamp();
        var reverted = 0;
        await foreach (var _ in SequentialEdits.RevertAllAsync(cluster, Prng.At(DemoRecipe.Seed, 0), cancellation).ConfigureAwait(false))
            progress(++reverted);
        var seconds = time.GetElapsedTime(start).TotalSeconds;
        var same = await _sequence.AnsweredAsUneditedAsync(cluster, results.Progress, cancellation).ConfigureAwait(false);
        var restored = results.Checksums.SequenceEqual(await ChecksumsAsync(cluster).ConfigureAwait(false))
            && same == results.Progress.Unedited.Count;
        if (reverted > 0 || results.Reverted is null)
            results = results with { Reverted = new(reverted, seconds, same, restored) };
        Save(results, withPictures: true);
        return results;
    }

    private static async Task<IReadOnlyList<string>> ChecksumsAsync(EmbeddedCluster cluster) =>
        [.. (await cluster.StatusAsync().ConfigureAwait(false)).Select(shard => shard.Checksum)];

    private void Save(SequenceResults results, bool withPictures)
    {
        AtomicFile.Write(Path.Combine(folder, ResultsFile), JsonSerializer.Serialize(results, Json));
        if (!withPictures)
            return;
        AtomicFile.Write(Path.Combine(folder, TableFile), $"{results.Table().ToMarkdown()}\n![curve]({CurveFile})\n");
        AtomicFile.Write(Path.Combine(folder, CurveFile), results.Curve().ToSvg());
    }
}
