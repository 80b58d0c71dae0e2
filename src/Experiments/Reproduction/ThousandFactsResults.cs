using System.Globalization;
using System.IO.Compression;
using System.Text.Json;

namespace MendCluster.Experiments;

/// <summary>One edit among those that were made with it.</summary>
/// <param name="Batch">Those of one batch share a model.</param>
/// <param name="Success">Its prompt is answered with the target. Exact match of all tokens and the end is also what greedy writing gives.</param>
/// <param name="Rephrases">Share of its rephrases.</param>
/// <param name="Before">Share of prompt and rephrases that the unedited model answers so.</param>
/// <param name="Lost">By stratum, of its unrelated questions the share answered rightly before less that after; null without any.</param>
/// <param name="Kl">Of the unedited to the edited model, per token of the unrelated questions.</param>
/// <param name="Implied">Share of the questions in two steps that are answered as follows from the edit; null without any.</param>
/// <param name="ImpliedBefore">The same before the edit.</param>
public sealed record FactsCase(int Batch, double Success, double Rephrases, double Before, IReadOnlyDictionary<Stratum, double?> Lost, double? Kl,
    double? Implied = null, double? ImpliedBefore = null);

/// <summary>An editor, measured with so many edits at once in one world.</summary>
/// <param name="Line">Of the picture.</param>
/// <param name="Milliseconds">Of a batch.</param>
/// <param name="NotMade">As <see cref="EditorReport.NotMade"/>.</param>
public sealed record FactsReport(string Line, string Editor, int Edits, double Milliseconds, IReadOnlyList<FactsCase> Cases, int NotMade = 0)
{
    public static FactsReport Of(string line, EditorReport report, ThousandFacts facts)
    {
        return new(line, report.Editor, report.Edits, report.PerBatch.TotalMilliseconds, [.. report.Cases.Select(Case)], report.NotMade);

        FactsCase Case(CaseResult result)
        {
            var asked = result.Locality.ToLookup(question => facts.StratumOf(result.Edit.Question, question.Question));
            return new(result.Index / report.Edits, Share(result.Edit.After.Exact),
                result.Rephrases.Average(question => Share(question.After.Exact)),
                result.Rephrases.Append(result.Edit).Average(question => Share(question.Before.Exact)),
                Enum.GetValues<Stratum>().ToDictionary(stratum => stratum, stratum => asked[stratum].Any()
                    ? asked[stratum].Average(question => Share(question.Before.Exact) - Share(question.After.Exact)) : (double?)null),
                result.LocalityKl, result.Implied.Count == 0 ? null : result.Implied.Average(question => Share(question.After.Exact)),
                result.Implied.Count == 0 ? null : result.Implied.Average(question => Share(question.Before.Exact)));
        }

        static double Share(bool holds) => holds ? 1 : 0;
    }
}

/// <summary>What editors did to a thousand facts, over all worlds together.</summary>
public static class ThousandFactsResults
{
    private const string Name = "results.json.gz";

    private static readonly (Stratum Stratum, string Name)[] Strata =
        [(Stratum.SameSubject, "same subject"), (Stratum.SameRelation, "same relation"), (Stratum.Far, "far")];

    /// <summary>With all cases, from which tables over several worlds are made.</summary>
    public static void Write(string folder, IReadOnlyList<FactsReport> reports)
    {
        using var file = File.Create(Path.Combine(folder, Name));
        using var zip = new GZipStream(file, CompressionLevel.SmallestSize);
        JsonSerializer.Serialize(zip, reports, MeasurementStore.Json);
    }

    public static IReadOnlyList<FactsReport> Read(string folder)
    {
        using var file = File.OpenRead(Path.Combine(folder, Name));
        using var zip = new GZipStream(file, CompressionMode.Decompress);
        return JsonSerializer.Deserialize<List<FactsReport>>(zip, MeasurementStore.Json)!;
    }

    /// <param name="worlds">The same editors in each.</param>
    public static ResultTable AtOnce(IReadOnlyList<IReadOnlyList<FactsReport>> worlds) => new(
        $"A thousand facts, edits at once; 95% intervals over {(worlds.Count == 1 ? "" : $"{worlds.Count} worlds, ")}batches and edits",
        ["editor", "edits at once", "edit success", "on paraphrases", "before the edit", .. Strata.Select(stratum => $"drawdown, {stratum.Name}"),
            "KL", "implied", "implied before", "ms a batch", "cases"],
        [.. Together(worlds).Select(row => (IReadOnlyList<string>)
        [
            row.Editor, Number(row.Edits), Text(Of(row, one => one.Success)), Text(Of(row, one => one.Rephrases)),
            Text(Of(row, one => one.Before)), .. Strata.Select(stratum => Text(Of(row, one => one.Lost[stratum.Stratum]))),
            Text(Of(row, one => one.Kl)), Text(Of(row, one => one.Implied)), Text(Of(row, one => one.ImpliedBefore)), row.Milliseconds.ToString("0", CultureInfo.InvariantCulture), Number(row.Cases.Count),
        ])],
        ["Every world has a model and editors of its own. Exact match of the whole answer, which is also what greedy writing gives. Rephrases and unrelated questions are in wordings that no "
            + "editor was trained on; unrelated questions are about facts that none of the edits changes. Drawdown is against the unedited model, and of single questions drawn per edit. "
            + "Implied: questions in two steps, such as where the employer of somebody is based, after an edit of the one or the other; the model answers such questions before. "
            + "Replay and beta: the weight of known training facts, which the edits are to leave alone; nothing that is measured is among them.",
            .. EditorReport.NotesOn(Together(worlds).Select(row => (row.Editor, row.Edits, row.NotMade)))]);

    /// <summary>Of edits about made-up subjects, in few columns.</summary>
    /// <param name="worlds">The same editors in each.</param>
    public static ResultTable MadeUp(IReadOnlyList<IReadOnlyList<FactsReport>> worlds) => new("Edits about subjects that the model never heard of",
        ["editor", "edits at once", "edit success", "on paraphrases", "before the edit", .. Strata.Skip(1).Select(stratum => $"drawdown, {stratum.Name}"), "cases"],
        [.. Together(worlds).Select(row => (IReadOnlyList<string>)
        [
            row.Editor, Number(row.Edits), Text(Of(row, one => one.Success)), Text(Of(row, one => one.Rephrases)), Text(Of(row, one => one.Before)),
            .. Strata.Skip(1).Select(stratum => Text(Of(row, one => one.Lost[stratum.Stratum]))), Number(row.Cases.Count),
        ])],
        ["As above, but for the subjects: their names are of a generator that neither the model's questions nor any training of an editor has names of. Of such a subject there is nothing else to ask."]);

    /// <summary>Edits at once at which some editor is measured with so many settings that they make a curve.</summary>
    public static IReadOnlyList<int> Drawn(IReadOnlyList<IReadOnlyList<FactsReport>> worlds) =>
        [.. worlds[0].GroupBy(row => (row.Line, row.Edits)).Where(settings => settings.Count() > 2).Select(settings => settings.Key.Edits).Distinct().Order()];

    /// <summary>Beyond it a model is ruined, and a picture of it would press the others together.</summary>
    private const double MaxDrawn = 0.5;

    /// <summary>Paraphrases against the worst stratum's drawdown: a line for the settings of each editor.</summary>
    public static LineChart Curve(IReadOnlyList<IReadOnlyList<FactsReport>> worlds, int edits) => new(
        $"{edits} edits at once, those that cost at most half: up and left is better", "drawdown, worst stratum", "edit success on paraphrases",
        [.. Together(worlds).Where(row => row.Edits == edits && Worst(row) <= MaxDrawn).GroupBy(row => row.Line).Select(line => new ChartLine(line.Key,
            [.. line.Select(row => new ChartPoint(Math.Max(0, Worst(row)), Of(row, one => one.Rephrases)!.Value)).OrderBy(point => point.X)]))]);

    /// <summary>What was aimed at, beside the editor of those here that comes nearest: it misses the least on any of the three.</summary>
    public static ResultTable Aims(IReadOnlyList<IReadOnlyList<FactsReport>> worlds) => new("Aims", ["edits at once", "aim: success, paraphrases, drawdown",
        "nearest", "success, paraphrases, drawdown of the worst stratum", "met"],
        [.. Wanted.Select(aim => (aim, Best: Together(worlds).Where(row => row.Edits == aim.Edits).MinBy(row => Missed(row, aim))))
            .Where(found => found.Best is not null).Select(found => (IReadOnlyList<string>)
            [
                Number(found.aim.Edits), Triple(found.aim.Success, found.aim.Rephrases, found.aim.Drawdown), found.Best!.Editor,
                Triple(Of(found.Best, one => one.Success)!.Value, Of(found.Best, one => one.Rephrases)!.Value, Worst(found.Best)),
                Missed(found.Best, found.aim) <= 0 ? "yes" : "no",
            ])], ["An editor of the table above, chosen after the fact, so read it as the best that could be picked."]);

    private static readonly (int Edits, double Success, double Rephrases, double Drawdown)[] Wanted =
        [(1, 0.98, 0.96, 0.005), (25, 0.99, 0.92, 0.01), (125, 0.98, 0.90, 0.03), (250, 0.97, 0.87, 0.05), (1000, 0.95, 0.80, 0.10)];

    private static double Missed(FactsReport row, (int Edits, double Success, double Rephrases, double Drawdown) aim) => Math.Max(
        Math.Max(aim.Success - Of(row, one => one.Success)!.Value, aim.Rephrases - Of(row, one => one.Rephrases)!.Value), Worst(row) - aim.Drawdown);

    private static double Worst(FactsReport row) => Strata.Max(stratum => Of(row, one => one.Lost[stratum.Stratum])?.Value ?? 0);

    /// <summary>The cases of all worlds: batches of different worlds are different batches.</summary>
    private static IEnumerable<FactsReport> Together(IReadOnlyList<IReadOnlyList<FactsReport>> worlds) =>
        worlds.SelectMany((reports, world) => reports.Select(report => (report, world)))
            .GroupBy(entry => (entry.report.Editor, entry.report.Edits)).Select(same => same.First().report with
            {
                Milliseconds = same.Average(entry => entry.report.Milliseconds),
                NotMade = same.Sum(entry => entry.report.NotMade),
                Cases = [.. same.SelectMany(entry => entry.report.Cases.Select(one => one with { Batch = one.Batch * worlds.Count + entry.world }))],
            });

    private static Estimate? Of(FactsReport row, Func<FactsCase, double?> figure)
    {
        List<IReadOnlyList<double>> batches = [.. row.Cases.GroupBy(one => one.Batch)
            .Select(batch => (IReadOnlyList<double>)[.. batch.Select(figure).OfType<double>()]).Where(batch => batch.Count > 0)];
        return batches.Count == 0 ? null : Bootstrap.OfGroups(batches, drawn => drawn.Average());
    }

    private static string Text(Estimate? estimate) => estimate?.ToString() ?? "-";

    private static string Number(int value) => value.ToString(CultureInfo.InvariantCulture);

    private static string Triple(double success, double rephrases, double drawdown) =>
        string.Create(CultureInfo.InvariantCulture, $"{success:0.000}, {rephrases:0.000}, {drawdown:0.000}");
}
