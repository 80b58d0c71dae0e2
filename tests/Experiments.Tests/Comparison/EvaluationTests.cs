using MendCluster.Engine.Data;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Experiments.Tests;

public class EvaluationTests
{
    private static readonly EditExample[] Cases =
    [
        new("Who leads it?", "Ann", ["Its leader?", "Who is at the head of it?"], [new("What is this?", "a cat"), new("Where?", "Rome")]),
        new("Where does he play?", "PSG", ["His club?"], [new("Who?", "Bo"), new("What is the capital?", "Oslo"), new("How?", "so")]),
    ];

    public static TheoryData<string> Families => [.. TinyModel.Families];

    [Theory]
    [MemberData(nameof(Families))]
    public void EachQuestionInTheBatch_IsScoredAsIfItWereAskedAlone(string family)
    {
        using var stage = TinyModel.Load(family);
        var text = TinyModel.Text(stage);
        using var scope = NewDisposeScope();
        var edits = FineTuned(stage, text, Cases[1]);

        var result = new Evaluation(stage, text, _ => edits).Run(Cases)[1];

        Assert.Equal((1, 1, 3), (result.Index, result.Rephrases.Count, result.Locality.Count));
        Assert.Equal("His club?", result.Rephrases[0].Question);
        Assert.Equal("PSG", result.Rephrases[0].Answer);
        foreach (var question in result.Rephrases.Concat(result.Locality).Append(result.Edit))
        {
            var (before, predictedBefore) = Alone(question, WeightUpdates.None);
            var (after, predictedAfter) = Alone(question, edits);
            Same(before, question.Before);
            Same(after, question.After);
            Assert.Equal(predictedBefore.SequenceEqual(predictedAfter), question.Retained);
        }
        Assert.Contains(result.Locality, question => !question.Retained);

        (AnswerScore Score, long[] Predicted) Alone(QuestionResult question, WeightUpdates active)
        {
            using var _ = no_grad();
            var (input, labels) = text.Of([(question.Question, question.Answer)]);
            var rows = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
            var top = stage.Forward(Activations.None, new ForwardContext(input, active)).Hidden!;
            var logits = stage.Head!.Logits(top.select(0, 0).index_select(0, rows.Rows));
            var scored = Losses.MaskedNll(logits, rows);
            Assert.Equal(question.Tokens, scored.Tokens);
            var predicted = logits.argmax(1);
            var right = predicted.eq(rows.Targets).to_type(ScalarType.Float32).mean().item<float>();
            return (new(scored.Accuracy == 1, right, scored.Nll.item<float>()), predicted.data<long>().ToArray());
        }

        static void Same(AnswerScore expected, AnswerScore actual)
        {
            Assert.Equal(expected.Exact, actual.Exact);
            Assert.Equal(expected.TokenAccuracy, actual.TokenAccuracy, 1e-6);
            Assert.Equal(expected.Nll, actual.Nll, 1e-4);
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void FreeRunning_IsTeacherForcedExactMatch_WhereThereIsOneAnswer(string family)
    {
        // Greedy decoding leaves the answer's path exactly where teacher forcing has a wrong token.
        using var stage = TinyModel.Load(family);
        EditExample[] cases = [Cases[1] with { Rephrases = [Cases[1].Prompt] }, Cases[1] with { Rephrases = ["Is it so?"] },
            Cases[0] with { Rephrases = [] }];

        var results = FineTune(stage).Run(cases);

        Assert.Equal([true, false, null], results.Select(result => result.FreeRunning));
        Assert.Equal([true, false], results.Take(2).Select(result => result.Rephrases[0].After.Exact));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void LocalityKl_CountsTheTokensOfTheLocalityQuestionsAlone(string family)
    {
        using var stage = TinyModel.Load(family);
        var text = TinyModel.Text(stage);
        using var scope = NewDisposeScope();
        var edits = FineTuned(stage, text, Cases[0]);
        using var _ = no_grad();
        var (input, _) = text.Of([.. Cases[0].Locality.Select(pair => (pair.Question, pair.Answer))]);
        var rows = Losses.LocalityRows(input, stage.Family);

        var result = new Evaluation(stage, text, _ => edits).Run(Cases)[0];

        var expected = Losses.LocalityKl(Logits(WeightUpdates.None), Logits(edits)).item<float>();
        Assert.True(expected > 1e-3);
        Assert.Equal(expected, result.LocalityKl!.Value, 1e-4 * expected);

        Tensor Logits(WeightUpdates active)
        {
            var top = stage.Forward(Activations.None, new ForwardContext(input, active)).Hidden!;
            return stage.Head!.Logits(top.reshape(-1, top.shape[2]).index_select(0, rows));
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void AnEditThatChangesNothing_DrawsNothingDownAndRetainsEverything(string family)
    {
        using var stage = TinyModel.Load(family);
        foreach (var result in new Evaluation(stage, TinyModel.Text(stage), _ => WeightUpdates.None).Run(Cases))
        {
            Assert.Equal(0, result.LocalityKl);
            Assert.All(result.Locality.Concat(result.Rephrases).Append(result.Edit), question =>
            {
                Assert.Equal(question.Before, question.After);
                Assert.True(question.Retained);
            });
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void FineTuning_MakesTheEditSucceed_AndTheNextCaseStartsFromTheBaseModel(string family)
    {
        using var stage = TinyModel.Load(family);
        var evaluation = FineTune(stage);

        var results = evaluation.Run(Cases);

        Assert.All(results, result => Assert.True(result.Edit.After.Exact));
        Assert.All(results, result => Assert.False(result.Edit.Before.Exact));
        Assert.Equal(results[1].Locality, evaluation.Run(Cases[1..])[0].Locality);
    }

    /// <summary>The paper's figures (section 4) of claims and labels: no part of the evaluation knows that it is a classifier.</summary>
    [Fact]
    public void AnEvaluation_ScoresClaimsByTheirLabels()
    {
        using var stage = TinyModel.Load("bert");
        var text = TinyModel.Text(stage);
        var (claim, wrong) = ("a cat is red", "false");
        using (no_grad())
        {
            using var scope = NewDisposeScope();
            var (input, labels) = text.Of([(claim, "true")]);
            if (stage.Logits(stage.Forward(Activations.None, new ForwardContext(input)), tensor([0L])).argmax().item<long>() == 0)
                wrong = "true";
        }
        var options = new FineTuneOptions { EditLr = 3e-3 };
        var result = new Evaluation(stage, text, edit => FineTuning.Edit(stage, options, edit).Edits)
            .Run([new(claim, wrong, ["a red cat"], [new("two", "true"), new("the dog", "false")])])[0];
        Assert.Equal((false, true, 1), (result.Edit.Before.Exact, result.Edit.After.Exact, result.Edit.Tokens));
        Assert.True(result.LocalityKl > 0);
        using var outer = NewDisposeScope();
        using var _ = no_grad();
        foreach (var question in result.Locality)
        {
            var (input, labels) = text.Of([(question.Question, question.Answer)]);
            var rows = ScoredPositions.Of(labels, shifts: false);
            var alone = Losses.MaskedNll(stage.Logits(stage.Forward(Activations.None, new ForwardContext(input)), rows.Rows), rows);
            Assert.Equal(alone.Nll.item<float>(), question.Before.Nll, 1e-5);
        }
    }

    [Fact]
    public void SameCases_GiveTheSameRows_WhichAreReportedAsTheyCome()
    {
        using var stage = TinyModel.Load("gpt2");
        var reported = new List<CaseResult>();

        var first = FineTune(stage).Run(Cases, new Report(reported.Add));
        var second = FineTune(stage).Run(Cases);

        Assert.Equal(first, reported);
        Assert.Equal(first.Select(Row), second.Select(Row));

        static string Row(CaseResult result) =>
            $"{result.Edit} {string.Join(' ', result.Rephrases)} {string.Join(' ', result.Locality)} {result.LocalityKl}";
    }

    [Fact]
    public void CasesWithoutRephrasesOrLocality_LackThoseFiguresOnly()
    {
        using var stage = TinyModel.Load("gpt2");
        var result = new Evaluation(stage, TinyModel.Text(stage), _ => WeightUpdates.None).Run([new("Who?", "Ann", [], [])])[0];
        Assert.Empty(result.Rephrases);
        Assert.Empty(result.Locality);
        Assert.Null(result.LocalityKl);
        Assert.Equal(4, result.Edit.Tokens);
    }

    [Fact]
    public void AnEvaluation_LeavesNoTensorBehind()
    {
        using var stage = TinyModel.Load("gpt2");
        using var scope = NewDisposeScope();
        FineTune(stage).Run(Cases);
        Assert.Equal(0, scope.DisposablesCount);
    }

    [Fact]
    public void Cancelling_StopsBetweenCases()
    {
        using var stage = TinyModel.Load("gpt2");
        using var cancellation = new CancellationTokenSource();
        var seen = 0;
        var report = new Report(_ =>
        {
            seen++;
            cancellation.Cancel();
        });
        Assert.Throws<OperationCanceledException>(() =>
            new Evaluation(stage, TinyModel.Text(stage), _ => WeightUpdates.None).Run(Cases, report, cancellation.Token));
        Assert.Equal(1, seen);
    }

    private static Evaluation FineTune(Stage stage) => new(stage, TinyModel.Text(stage),
        edit => FineTuning.Edit(stage, new FineTuneOptions { EditLr = 1e-3 }, edit).Edits);

    private static WeightUpdates FineTuned(Stage stage, TextBatch text, EditExample example) =>
        FineTuning.Edit(stage, new FineTuneOptions { EditLr = 1e-3 }, text.Of([(example.Prompt, example.Target)])).Edits;

    private sealed class Report(Action<CaseResult> take) : IProgress<CaseResult>
    {
        void IProgress<CaseResult>.Report(CaseResult value) => take(value);
    }
}
