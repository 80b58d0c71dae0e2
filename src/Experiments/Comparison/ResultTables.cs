using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using MendCluster.Engine.Data;
using MendCluster.Engine.Files;

namespace MendCluster.Experiments;

/// <summary>The paper's tables and pictures of measured editors.</summary>
public static class ResultTables
{
    /// <summary>Editors one edit at a time (the paper's tables 3, 4 and 6).</summary>
    /// <param name="reports">At least one, all with one edit at a time, of one model and task.</param>
    public static ResultTable SideBySide(IReadOnlyList<EditorReport> reports) =>
        Table($"{reports[0].Protocol.Cases} edits, each of the unedited model; 95% intervals over the edits", reports, atOnce: false);

    /// <summary>Editors with more and more edits at once (the paper's table 5).</summary>
    /// <param name="reports">At least one, of one model and task.</param>
    public static ResultTable AtOnce(IReadOnlyList<EditorReport> reports) =>
        Table("Edits made at once; 95% intervals over the batches and their edits", reports, atOnce: true);

    /// <summary>The table that suits the reports.</summary>
    public static ResultTable Of(IReadOnlyList<EditorReport> reports) => IsOneByOne(reports) ? SideBySide(reports) : AtOnce(reports);

    /// <summary>A figure of all editors as a picture: beside each other, or over the number of edits at once.</summary>
    /// <param name="figure">Null where a report lacks it.</param>
    public static LineChart Picture(string title, IReadOnlyList<EditorReport> reports, Func<EvaluationSummary, Estimate?> figure)
    {
        var isOneByOne = IsOneByOne(reports);
        List<string> places = [.. isOneByOne ? reports.Select(report => report.Editor)
            : reports.Select(report => report.Edits).Distinct().Order().Select(Text)];
        return new(title, isOneByOne ? "" : "edits at once", "",
            [.. reports.GroupBy(report => report.Editor)
            .Select(editor => new ChartLine(editor.Key, [.. editor.OrderBy(report => report.Edits).Select(Point).OfType<ChartPoint>()]))])
        {
            XNames = places,
        };

        ChartPoint? Point(EditorReport report) => figure(report.Summary) is not { } found || !double.IsFinite(found.High) ? null
            : new(places.IndexOf(isOneByOne ? report.Editor : Text(report.Edits)), found.Value, found.Low, found.High);
    }

    /// <summary>Writes <c>results.json</c>, <c>results.md</c>, <c>edit-success.svg</c> and <c>drawdown.svg</c>.</summary>
    /// <param name="folder">Made if it does not exist.</param>
    /// <param name="more">Stands in <c>results.md</c>, too.</param>
    public static void Write(string folder, IReadOnlyList<EditorReport> reports, ResultTable? more = null)
    {
        Directory.CreateDirectory(folder);
        WriteFile("results.json", JsonSerializer.Serialize(reports.Select(WithoutCases), MeasurementStore.Json) + "\n");
        WriteFile("results.md", Of(reports).ToMarkdown() + "\n![Edit success](edit-success.svg)\n\n![Drawdown](drawdown.svg)\n"
            + (more is null ? "" : $"\n{more.ToMarkdown()}"));
        WriteFile("edit-success.svg",
            Picture("Edit success on rephrases, 95% intervals", reports, summary => summary.RephraseSuccess).ToSvg());
        WriteFile("drawdown.svg",
            Picture($"{(IsOfTexts(reports) ? "Perplexity drawdown" : "Drawdown")}, 95% intervals", reports,
            summary => DrawdownOf(summary, IsOfTexts(reports))).ToSvg());

        static JsonNode WithoutCases(EditorReport report)
        {
            var node = JsonSerializer.SerializeToNode(report with { Cases = [] }, MeasurementStore.Json)!.AsObject();
            node.Remove("cases");
            return node;
        }

        void WriteFile(string name, string text) => AtomicFile.Write(Path.Combine(folder, name), text);
    }

    /// <summary>The reports that <see cref="Write"/> wrote into the folder, without their cases.</summary>
    public static IReadOnlyList<EditorReport> Read(string folder) =>
        [.. JsonSerializer.Deserialize<List<EditorReport>>(File.ReadAllText(Path.Combine(folder, "results.json")),
        MeasurementStore.Json)!.Select(report => report with { Cases = [] })];

    private const string SharedModels = "Edits that are made together share one edited model: the intervals draw batches, then edits of each. "
        + "Of a single batch they cannot say what another would have given; and cases share unrelated questions, for which they are too narrow.";

    private static bool IsOneByOne(IReadOnlyList<EditorReport> reports) => reports.All(report => report.Edits == 1);

    private static bool IsOfTexts(IReadOnlyList<EditorReport> reports) => reports[0].Protocol.Task == EditTaskKind.Gen;

    private static Estimate? DrawdownOf(EvaluationSummary summary, bool ofTexts) => ofTexts ? summary.PerplexityDrawdown : summary.Drawdown;

    private static ResultTable Table(string title, IReadOnlyList<EditorReport> reports, bool atOnce)
    {
        var ofTexts = IsOfTexts(reports);
        List<(string Head, Func<EditorReport, string> Cell)> columns =
        [
            ("editor", report => report.Editor),
            ("edit success", report => Text(report.Summary.EditSuccess)),
            ("on paraphrases", report => Text(report.Summary.RephraseSuccess)),
            ("on both (Eq. 1)", report => Text(report.Summary.UnionSuccess)),
            ("before the edit", report => Text(report.Summary.UneditedSuccess)),
            ("free-running", report => Text(report.Summary.FreeRunningSuccess)),
            (ofTexts ? "perplexity drawdown" : "drawdown", report => Text(DrawdownOf(report.Summary, ofTexts))),
            ("retained", report => Text(report.Summary.Retained)),
            ("KL", report => Text(report.Summary.LocalityKl)),
            (atOnce ? "ms a batch" : "ms an edit", report => Text(report.PerBatch.TotalMilliseconds, "0.0")),
            ("MB", report => report.PeakBytes is { } bytes ? Text(bytes / 1e6, "0.0") : "not measured"),
        ];
        if (atOnce)
            columns.Insert(1, ("edits at once", report => Text(report.Edits)));
        return new(title, [.. columns.Select(column => column.Head)],
            [.. reports.Select(report => (IReadOnlyList<string>)[.. columns.Select(column => column.Cell(report))])],
            [Note(reports), .. atOnce ? [SharedModels] : Array.Empty<string>(),
                .. EditorReport.NotesOn(reports.Select(report => (report.Editor, report.Edits, report.NotMade)))]);
    }

    private static string Note(IReadOnlyList<EditorReport> reports)
    {
        var protocol = reports[0].Protocol;
        var localities = reports.SelectMany(report => report.Protocol.Locality.TrimEnd('.').Split(". ")).Distinct();
        return $"{protocol.Decoding} {string.Join(". ", localities)}. {protocol.Truncation} {protocol.DType}; seed {protocol.Seed}; "
            + $"{string.Join(", ", reports.Select(report => $"{report.Protocol.Cases} cases {report.Protocol.Data}").Distinct())}; model {protocol.Model}; "
            + string.Join(", ", reports.Select(report => $"{report.Editor} {report.Protocol.Editor}").Distinct()) + ".";
    }

    private static string Text(Estimate? estimate) => estimate?.ToString() ?? "-";

    private static string Text(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);

    private static string Text(int value) => value.ToString(CultureInfo.InvariantCulture);
}
