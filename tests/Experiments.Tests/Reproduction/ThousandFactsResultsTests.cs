using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

public sealed class ThousandFactsResultsTests
{
    [Fact]
    public void DrawdownIsOfEachStratum_AgainstTheUneditedModel()
    {
        var facts = new ThousandFacts(7, WorldSize.Small);
        var edit = facts.Edits.First(edit => edit.Locality.Count >= 5);
        AnswerScore right = new(true, 1, 0.1), wrong = new(false, 0, 2);
        QuestionResult Question(string text, AnswerScore before, AnswerScore after) => new(text, "A", 1, before, after, true);
        var strata = edit.Locality.ToLookup(other => facts.StratumOf(edit.Prompt, other.Question), other => other.Question);
        var report = Reports.Of("MEND") with
        {
            Edits = 2,
            Cases = [.. Enumerable.Range(1, 2).Select(index => new CaseResult(index, Question(edit.Prompt, wrong, right),
                [Question(edit.Rephrases[0], wrong, right), Question(edit.Rephrases[1], right, wrong)],
                [.. strata[Stratum.SameRelation].Select((text, i) => Question(text, i == 0 ? right : wrong, wrong)),
                    .. strata[Stratum.Far].Select(text => Question(text, wrong, right))], 0.5)
                {
                    Implied = [Question("Where is it?", wrong, right), Question("And in which city?", wrong, wrong)],
                })],
        };
        var read = FactsReport.Of("MEND", report, facts);
        Assert.Equal([0, 1], read.Cases.Select(one => one.Batch)); // the second and the third of batches of two
        var (_, success, rephrases, before, lost, kl, implied, impliedBefore) = read.Cases[0];
        Assert.Equal((1, 0.5, 1 / 3.0, 0.5), (success, rephrases, before, kl!.Value));
        Assert.Equal((0.5, 0.0), (implied!.Value, impliedBefore!.Value));
        Assert.Equal([null, 0.5, -1], [lost[Stratum.SameSubject], lost[Stratum.SameRelation], lost[Stratum.Far]]);
    }

    [Fact]
    public void WorldsArePooled_AndAimsAreHeldAgainstTheNearestEditor()
    {
        IReadOnlyList<IReadOnlyList<FactsReport>> worlds =
        [
            [Report("good", 125, 1, 1, 0), Report("bad", 125, 1, 0, 0), Report("bad, beta 4", 125, 1, 0, 0.5), Report("bad, beta 5", 125, 1, 0, 1)],
            [Report("good", 125, 1, 0.9, 0), Report("bad", 125, 0, 0, 1), Report("bad, beta 4", 125, 1, 0, 0.5), Report("bad, beta 5", 125, 1, 0, 1)],
        ];
        var row = ThousandFactsResults.AtOnce(worlds).Rows[0];
        Assert.Equal(["good", "125", "1.0000 (1.000-1.000)", "0.9500 (0.900-1.000)"], row.Take(4));
        Assert.Equal("20", row[^1]);
        Assert.Equal(["125", "0.980, 0.900, 0.030", "good", "1.000, 0.950, 0.000", "yes"], Assert.Single(ThousandFactsResults.Aims(worlds).Rows));
        Assert.Equal("no", Assert.Single(ThousandFactsResults.Aims([[.. worlds[0].Skip(1)], [.. worlds[1].Skip(1)]]).Rows)[^1]);
        Assert.Equal([125], ThousandFactsResults.Drawn(worlds));
        var bad = ThousandFactsResults.Curve(worlds, 125).Lines.Single(line => line.Name == "bad");
        Assert.Equal([(0.5, 0.0), (0.5, 0.0)], bad.Points.Select(point => (point.X, point.Y)));
    }

    [Fact]
    public void WhatWasWritten_IsRead()
    {
        using var folder = new TemporaryFolder();
        List<FactsReport> reports = [Report("good", 1, 1, 0.5, 0.25)];
        ThousandFactsResults.Write(folder.Path, reports);
        Assert.Equal(ThousandFactsResults.AtOnce([reports]).Rows, ThousandFactsResults.AtOnce([ThousandFactsResults.Read(folder.Path)]).Rows);
    }

    private static FactsReport Report(string editor, int edits, double success, double rephrases, double lost) => new(editor.Split(',')[0], editor,
        edits, 20, [.. Enumerable.Range(0, 10).Select(i => new FactsCase(i / 5, success, rephrases, 0,
            new Dictionary<Stratum, double?> { [Stratum.SameSubject] = lost, [Stratum.SameRelation] = 0, [Stratum.Far] = null }, 0.1))]);
}
