using System.Globalization;
using MendCluster.Engine.Data;
using static System.FormattableString;

namespace MendCluster.Experiments;

/// <summary>Something the paper's comparison says, held against measured figures.</summary>
/// <param name="Figures">That decide it.</param>
public sealed record Ordering(string Claim, bool Holds, string Figures)
{
    public override string ToString() => $"{Claim}: {(Holds ? "holds" : "does not hold")} ({Figures})";
}

/// <summary>
/// What must come out of the paper's comparison. Edit success is that on rephrases, as in the paper's tables; drawdown of accuracy, in
/// generation of perplexity. "Clearly" means that the 95% interval of the difference is on one side of 0; of two estimates it is found from
/// their own intervals (Newcombe 1998; Zou and Donner 2008), as if they were of different cases, which is careful where they are of the
/// same.
/// </summary>
public static class PaperClaims
{
    /// <summary>Two published figures that are closer say nothing of another model.</summary>
    private const double Apart = 0.05;

    private const double MinSuccess = 0.95, MaxDrawdown = 0.01;

    /// <param name="reports">One edit at a time, of one task.</param>
    public static IEnumerable<Ordering> SideBySide(EditTaskKind task, IReadOnlyList<EditorReport> reports)
    {
        var named = reports.ToDictionary(report => report.Editor);
        if (!named.TryGetValue("MEND", out var mend))
            yield break;
        if (task != EditTaskKind.Gen)
            foreach (var editor in reports.Where(report => report == mend
                || report.Editor.StartsWith("MEND, to ", StringComparison.Ordinal)))
                yield return new(Invariant($"{editor.Editor}: edit success at least {MinSuccess} with drawdown at most {MaxDrawdown}"),
                    Success(editor).Value >= MinSuccess && Drawdown(editor).Value <= MaxDrawdown,
                    $"{Text(Success(editor).Value)}, {Text(Drawdown(editor).Value)}");
        if (named.TryGetValue("FT", out var fineTuned))
            yield return ClearlyWorse(fineTuned, mend);
        yield return AsInThePaper(PaperFigures.SideBySide(task), reports);
    }

    /// <param name="reports">MEND and its ablations.</param>
    public static IEnumerable<Ordering> Ablations(IReadOnlyList<EditorReport> reports)
    {
        if (reports.FirstOrDefault(report => report.Editor == "MEND") is not { } mend)
            return [];
        return reports.Where(report => report.Editor is "MEND, no norm" or "MEND, no identity init")
            .Select(ablation => ClearlyWorse(ablation, mend));
    }

    /// <param name="reports">Of question answering.</param>
    public static IEnumerable<Ordering> AtOnce(IReadOnlyList<EditorReport> reports)
    {
        var named = reports.ToDictionary(report => (report.Editor, report.Edits));
        foreach (var mend in reports.Where(report => report.Editor == "MEND" && report.Edits >= 25))
            if (named.TryGetValue(("ENN", mend.Edits), out var enn))
                yield return new(Invariant($"MEND's edit success above ENN's at {mend.Edits} edits at once"),
                    Success(mend).Value > Success(enn).Value,
                    $"{Text(Success(mend).Value)} and {Text(Success(enn).Value)}");
    }

    /// <summary>On one axis or on both.</summary>
    private static Ordering ClearlyWorse(EditorReport worse, EditorReport better)
    {
        var (success, drawdown) =
            (LeastDifference(Success(better), Success(worse)) > 0, LeastDifference(Drawdown(worse), Drawdown(better)) > 0);
        return new($"{worse.Editor} clearly worse than {better.Editor} in edit success or in drawdown", success || drawdown,
            $"edit success{(success ? " is" : " is not")}, {Success(worse)} and {Success(better)}; "
            + $"drawdown{(drawdown ? " is" : " is not")}, {Drawdown(worse)} and {Drawdown(better)}");
    }

    /// <summary>The lower end of the 95% interval of <paramref name="greater"/> less <paramref name="smaller"/>.</summary>
    private static double LeastDifference(Estimate greater, Estimate smaller) =>
        greater.Value - smaller.Value - Math.Sqrt(Math.Pow(greater.Value - greater.Low, 2) + Math.Pow(smaller.High - smaller.Value, 2));

    private static Ordering AsInThePaper(IReadOnlyDictionary<string, PaperFigure> paper, IReadOnlyList<EditorReport> reports)
    {
        var compared = reports.Where(report => paper.ContainsKey(report.Editor)).ToList();
        var pairs = (from better in compared
                     from worse in compared
                     where paper[better.Editor].SuccessValue - paper[worse.Editor].SuccessValue >= Apart
                     select (Better: better, Worse: worse)).ToList();
        var others = pairs.Where(pair => Success(pair.Better).Value <= Success(pair.Worse).Value).ToList();
        return new(Invariant($"Edit success in the paper's order, where its figures are {Apart} or more apart"), others.Count == 0,
            $"{pairs.Count - others.Count} of {pairs.Count} pairs"
            + (others.Count == 0 ? ""
            : "; not: " + string.Join(", ",
            others.Select(pair => $"{pair.Better.Editor} {Text(Success(pair.Better).Value)} above {pair.Worse.Editor} {Text(Success(pair.Worse).Value)}"))));
    }

    private static Estimate Success(EditorReport report) => report.Summary.RephraseSuccess ?? report.Summary.EditSuccess;

    private static Estimate Drawdown(EditorReport report) =>
        (report.Protocol.Task == EditTaskKind.Gen ? report.Summary.PerplexityDrawdown : report.Summary.Drawdown)
        ?? throw new InvalidDataException($"{report.Editor} was measured without unrelated questions, so there is no drawdown: give the cases some");

    private static string Text(double value) => value.ToString("0.000", CultureInfo.InvariantCulture);
}
