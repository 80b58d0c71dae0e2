using System.Globalization;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;

namespace MendCluster.Experiments;

/// <summary>Weights that an editor could edit.</summary>
/// <param name="Name">Says which they are; of a folder, too.</param>
public sealed record LayerCandidate(string Name, IReadOnlyList<string> Weights);

/// <summary>What an editor of a candidate came to.</summary>
/// <param name="Strength">
/// By which its edits are multiplied: of those tried the one with most success on rephrases within the drawdown allowed; where none is within
/// it, the one with least drawdown.
/// </param>
public sealed record LayerReport(LayerCandidate Candidate, double Strength, EditorReport Edited, bool IsWithin);

/// <summary>
/// Which weights of a model are best edited: for each candidate a short training of an editor, whose edits are then measured at several
/// strengths on the cases that training was validated on. At one drawdown, not at one strength: whoever edits more weights moves more.
/// </summary>
/// <param name="train">
/// Trains an editor of the weights in the folder named, or goes on with it; more settings than the weights are the caller's affair.
/// </param>
/// <param name="comparison">Of the model.</param>
/// <param name="cases">To measure on.</param>
/// <param name="maxDrawdown">On the cases' unrelated rows.</param>
public sealed class LayerChoice(Action<IReadOnlyList<string>, string> train, EditorComparison comparison, IReadOnlyList<EditRows> cases,
    double maxDrawdown)
{
    /// <summary>Tried on every candidate.</summary>
    public static IReadOnlyList<double> Strengths { get; } = [0.25, 0.5, 1, 2];

    /// <summary>
    /// The family's choice and parts of it: a decoder's or an encoder's weights, down-projections; and the down-projections of the last
    /// blocks.
    /// </summary>
    public static IReadOnlyList<LayerCandidate> Candidates(ModelFamily family)
    {
        var (own, downs) = (family.DefaultEditableWeights, EditableWeights.DownProjections(family));
        List<LayerCandidate> found =
        [
            new("family's choice", own), new("its down-projections", [.. own.Where(downs.Contains)]),
            new("its other weights", [.. own.Where(name => !downs.Contains(name))]),
        ];
        if (family.IsEncoderDecoder)
            foreach (var stack in new[] { "encoder", "decoder" })
                found.Add(new($"its {stack}", [.. own.Where(name => name.Contains(stack + ".", StringComparison.Ordinal))]));
        foreach (var count in new[] { 1, 2, 3, 6 }.Where(count => count <= downs.Count))
            found.Add(new(string.Create(CultureInfo.InvariantCulture, $"last {count} down-projections"), [.. downs.TakeLast(count)]));
        return [.. found.Where(candidate => candidate.Weights.Count > 0)
            .DistinctBy(candidate => string.Join(' ', candidate.Weights.Order(StringComparer.Ordinal)))];
    }

    /// <summary>Trains and measures one candidate.</summary>
    /// <param name="folder">Of all candidates' trainings.</param>
    public LayerReport Measure(LayerCandidate candidate, string folder, CancellationToken cancellation = default)
    {
        var run = Path.Combine(folder, candidate.Name.Replace(' ', '-').Replace("'", "", StringComparison.Ordinal));
        train(candidate.Weights, run);
        cancellation.ThrowIfCancellationRequested();
        var editor = new TrainedEditor(Path.Combine(run, EditorCheckpoint.FileName));
        var reports = Strengths
            .Select(strength => (Strength: strength, Edited: comparison.Measure(editor.AtStrength(strength), 1, cases, cancellation: cancellation)))
            .ToList();
        var within = reports.Where(report => Drawdown(report.Edited) <= maxDrawdown).ToList();
        var best = within.Count > 0 ? within.MaxBy(report => Success(report.Edited)) : reports.MinBy(report => Drawdown(report.Edited));
        return new(candidate, best.Strength, best.Edited, within.Count > 0);
    }

    /// <summary>The candidate with most success within the drawdown; null: none is within it.</summary>
    public static LayerReport? Best(IReadOnlyList<LayerReport> reports) => reports.Where(report => report.IsWithin)
        .MaxBy(report => Success(report.Edited));

    /// <summary>A row a candidate.</summary>
    public ResultTable Table(IReadOnlyList<LayerReport> reports)
    {
        var protocol = reports[0].Edited.Protocol;
        return new(string.Create(CultureInfo.InvariantCulture,
            $"Where to edit: {protocol.Cases} edits each, at the strength that does most within a drawdown of {maxDrawdown}"),
            ["weights", "how many", "strength", "edit success", "on paraphrases", "drawdown", "ms an edit"],
            [.. reports.Select(report => (IReadOnlyList<string>)
            [
                report.Candidate.Name, Text(report.Candidate.Weights.Count, "0"), Text(report.Strength, "0.##"),
                $"{report.Edited.Summary.EditSuccess}", $"{report.Edited.Summary.RephraseSuccess}",
                report.Edited.Summary.Drawdown + (report.IsWithin ? "" : ", too much"), Text(report.Edited.PerBatch.TotalMilliseconds, "0.0"),
            ])],
            ["The cases are those that each training kept its editor by: measure the choice on others (mend eval)."]);

        static string Text(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
    }

    private static double Success(EditorReport report) => Measured(report.Summary.RephraseSuccess);

    private static double Drawdown(EditorReport report) => Measured(report.Summary.Drawdown);

    private static double Measured(Estimate? figure) => figure?.Value
        ?? throw new InvalidDataException("No case has a rephrase, or none an unrelated question, so nothing can be compared: give edits with both.");
}
