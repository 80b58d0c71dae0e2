using MendCluster.Engine.Data;

namespace MendCluster.Experiments.Tests;

public sealed class PaperClaimsTests
{
    [Theory]
    [InlineData(0.957, 0.005, true)]
    [InlineData(0.949, 0.005, false)]
    [InlineData(0.957, 0.011, false)]
    public void MendsBar_IsHighSuccessAndLittleDrawdown(double success, double drawdown, bool holds)
    {
        string[] names = ["MEND, to 0.95", "MEND"]; // with the cluster's search for a step, and as published
        var bars = PaperClaims.SideBySide(EditTaskKind.Qa, [.. names.Select(name => Report(name, success, drawdown))]).Take(2);
        Assert.Equal(names.Select(name =>
            $"{name}: edit success at least 0.95 with drawdown at most 0.01: {(holds ? "holds" : "does not hold")} ({FormattableString.Invariant($"{success:0.000}, {drawdown:0.000}")})"),
            bars.Select(bar => bar.ToString()));
    }

    [Fact]
    public void Generation_HasNoBarOfAccuracy() =>
        Assert.DoesNotContain(PaperClaims.SideBySide(EditTaskKind.Gen, [Report("MEND", 1, 0)]),
        ordering => ordering.Claim.Contains("at least", StringComparison.Ordinal));

    [Theory]
    [InlineData(0.92, 0.00, false)] // with intervals of 0.05 to each side, that of a difference is 0.07 to each
    [InlineData(0.90, 0.00, true)]
    [InlineData(0.99, 0.09, true)]
    [InlineData(0.99, 0.07, false)]
    public void ClearlyWorse_IsADifferenceWhoseIntervalIsOnOneSideOf0_OnOneAxis(double success, double drawdown, bool holds)
    {
        EditorReport mend = Report("MEND", 0.98, 0.01);
        Assert.Equal(holds, PaperClaims.SideBySide(EditTaskKind.Fc, [Report("FT", success, drawdown), mend])
            .Single(ordering => ordering.Claim.StartsWith("FT clearly", StringComparison.Ordinal)).Holds);
        var ablations = PaperClaims.Ablations([Report("MEND, no norm", success, drawdown), Report("MEND, only u", 0, 1), mend]).ToList();
        Assert.Equal([holds], ablations.Select(ordering => ordering.Holds)); // of only u nothing is claimed
    }

    [Fact]
    public void GenerationsDrawdown_IsThatOfPerplexity()
    {
        var worse = Report("FT", 0.9, 0, perplexity: 9, task: EditTaskKind.Gen);
        Assert.True(PaperClaims.SideBySide(EditTaskKind.Gen, [worse, Report("MEND", 0.9, 0, perplexity: 0.1, task: EditTaskKind.Gen)])
            .First().Holds);
    }

    [Fact]
    public void TheOrderOfThePaper_IsComparedWhereItsFiguresAreApart()
    {
        // BERT-base: FT .76, FT+KL .64, KE .95; ENN .99 and MEND >.99 are too near to say anything.
        List<EditorReport> reports =
            [Report("FT", 0.7, 0), Report("FT+KL", 0.6, 0), Report("KE", 0.8, 0), Report("ENN", 0.99, 0), Report("MEND", 0.9, 0)];
        var order = PaperClaims.SideBySide(EditTaskKind.Fc, reports).Last();
        Assert.True(order.Holds, order.ToString());
        reports[1] = Report("FT+KL", 0.75, 0);
        order = PaperClaims.SideBySide(EditTaskKind.Fc, reports).Last();
        Assert.False(order.Holds);
        Assert.Contains("6 of 7 pairs; not: FT 0.700 above FT+KL 0.750", order.Figures, StringComparison.Ordinal);
    }

    [Fact]
    public void MendIsToBeAheadOfEnn_From25EditsOn()
    {
        var orderings = PaperClaims.AtOnce([
            Report("ENN", 0.99, 0, edits: 5), Report("ENN", 0.5, 0, edits: 25), Report("ENN", 0.8, 0, edits: 125),
            Report("MEND", 0.9, 0.1, edits: 5), Report("MEND", 0.8, 0.1, edits: 25), Report("MEND", 0.7, 0.2, edits: 125)]).ToList();
        Assert.Equal(["MEND's edit success above ENN's at 25 edits at once: holds (0.800 and 0.500)",
            "MEND's edit success above ENN's at 125 edits at once: does not hold (0.700 and 0.800)"],
            orderings.Select(ordering => ordering.ToString()));
    }

    /// <summary>With intervals of 0.05 to each side.</summary>
    private static EditorReport Report(string editor, double success, double drawdown, double perplexity = 0, int edits = 1,
        EditTaskKind task = EditTaskKind.Qa)
    {
        static Estimate Of(double value) => new(value, value - 0.05, value + 0.05, 100);
        return new(editor, edits, 1, new(Of(1), Of(success), Of(1), null, null, null, null, Of(drawdown), Of(perplexity), null, null),
            TimeSpan.Zero, null,
            new(task, edits, "", "", "", "", 1, 100, "", "", ""), []);
    }
}
