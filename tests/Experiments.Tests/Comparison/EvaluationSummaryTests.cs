
namespace MendCluster.Experiments.Tests;

public class EvaluationSummaryTests
{
    private static readonly AnswerScore Right = new(true, 1, 0.1);
    private static readonly AnswerScore Half = new(false, 0.5, 2);

    [Fact]
    public void Figures_AreThoseOfTheirDefinitions()
    {
        CaseResult[] results =
        [
            // 1 of 1 on the edit, 1 of 2 rephrases; of two locality questions the edit breaks one and changes the other wrong answer.
            new(0, Question(Half, Right), [Question(Half, Right), Question(Right, Half)],
                [Question(Right, Half, retained: false), Question(Half, Half, retained: false)], 0.2, FreeRunning: true),
            // 0 of 1 on the edit, 0 of 1 rephrases; four locality questions stay right.
            new(1, Question(Right, Half), [Question(Right, Half)],
                [.. Enumerable.Repeat(Question(Right, Right), 4)], 0.1, FreeRunning: false),
        ];

        var summary = EvaluationSummary.Of(results);

        Assert.Equal(0.5, summary.EditSuccess.Value);
        Assert.Equal(0.25, summary.RephraseSuccess!.Value, 1e-12);        // cases count alike: (1/2 + 0) / 2, not 1/3
        Assert.Equal(1.0 / 3, summary.UnionSuccess.Value, 1e-12);         // of prompt and rephrases together: (2/3 + 0) / 2
        Assert.Equal(2.0 / 3, summary.UneditedSuccess!.Value, 1e-12);     // before: (1/3 + 1) / 2
        Assert.Equal(0.5, summary.FreeRunningSuccess!.Value, 1e-12);
        Assert.Equal(0.625, summary.RephraseTokenAccuracy!.Value, 1e-12); // (3/4 + 1/2) / 2
        Assert.Equal(0.75, summary.LocalityAccuracy!.Value, 1e-12);       // (1/2 + 1) / 2
        Assert.Equal(0.25, summary.Drawdown!.Value, 1e-12);               // (1/2 + 0) / 2
        Assert.Equal(0.5, summary.Retained!.Value, 1e-12);                // (0 + 1) / 2
        Assert.Equal(0.15, summary.LocalityKl!.Value, 1e-12);
    }

    [Fact]
    public void EditsThatShareAModel_AreNotTakenForIndependent()
    {
        // 20 models of 5 edits each, of which either all succeed or none
        List<CaseResult> results = [.. Enumerable.Range(0, 100)
            .Select(i => new CaseResult(i, Question(Half, i / 5 % 2 == 0 ? Right : Half), [], [], null))];
        var (alone, shared) = (EvaluationSummary.Of(results).EditSuccess, EvaluationSummary.Of(results, edits: 5).EditSuccess);
        Assert.Equal(alone.Value, shared.Value);
        Assert.InRange((shared.High - shared.Low) / (alone.High - alone.Low), 1.8, 2.7); // sqrt(5) is 2.24
    }

    [Fact]
    public void PerplexityDrawdown_IsOfAllLocalityTokensTogether()
    {
        CaseResult[] results =
        [
            Case(Question(new(true, 1, 1), new(true, 1, 2), tokens: 3)),
            Case(Question(new(true, 1, 0.5), new(true, 1, 0.5), tokens: 1)),
        ];
        var expected = Math.Exp((3 * 2 + 0.5) / 4) - Math.Exp((3 * 1 + 0.5) / 4);
        Assert.Equal(expected, EvaluationSummary.Of(results).PerplexityDrawdown!.Value, 1e-12);
    }

    [Fact]
    public void FiguresWithoutQuestions_AreAbsent_AndOthersCountTheCasesThatHaveThem()
    {
        var bare = new CaseResult(0, Question(Half, Right), [], [], null);
        var summary = EvaluationSummary.Of([bare]);
        Assert.Equal(1, summary.EditSuccess.Value);
        Assert.Null(summary.RephraseSuccess);
        Assert.Equal(1, summary.UnionSuccess.Value); // nothing but the edit itself
        Assert.Null(summary.FreeRunningSuccess);
        Assert.Null(summary.Drawdown);
        Assert.Null(summary.PerplexityDrawdown);
        Assert.Null(summary.LocalityKl);

        var mixed = EvaluationSummary.Of([bare, Case(Question(Right, Half))]);
        Assert.Equal((1.0, 1), (mixed.Drawdown!.Value, mixed.Drawdown.Cases));
        Assert.Equal(2, mixed.EditSuccess.Cases);
    }

    private static CaseResult Case(QuestionResult locality) => new(0, Question(Half, Right), [], [locality], 0.1);

    private static QuestionResult Question(AnswerScore before, AnswerScore after, bool retained = true, int tokens = 2) =>
        new("Q?", "A", tokens, before, after, retained);
}
