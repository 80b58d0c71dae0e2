using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Experiments;

/// <summary>How well a model gives an answer, teacher-forced.</summary>
/// <param name="Exact">Every token of the answer is the most likely one. For one answer that equals greedy decoding.</param>
/// <param name="TokenAccuracy">Fraction of the tokens of which that is true.</param>
/// <param name="Nll">Negative log-likelihood, mean over the answer's tokens.</param>
public sealed record AnswerScore(bool Exact, double TokenAccuracy, double Nll);

/// <summary>One question before and after an edit.</summary>
/// <param name="Answer">What was scored: the edit's target on the edit and its rephrases, the true answer on locality.</param>
/// <param name="Tokens">Of the answer.</param>
/// <param name="Retained">The most likely token is the same before and after at every position of the answer.</param>
public sealed record QuestionResult(string Question, string Answer, int Tokens, AnswerScore Before, AnswerScore After, bool Retained);

/// <summary>One edit, measured.</summary>
/// <param name="Index">Of the case, from 0.</param>
/// <param name="Edit">The edit's own prompt.</param>
/// <param name="LocalityKl">
/// KL of the unedited to the edited model, mean over all tokens of the locality questions; null without any.
/// </param>
/// <param name="FreeRunning">
/// Greedy generation by the edited model writes the target to the first rephrase, from the prompt alone; of a classifier, its answer. Null
/// without a rephrase.
/// </param>
public sealed record CaseResult(
    int Index, QuestionResult Edit, IReadOnlyList<QuestionResult> Rephrases, IReadOnlyList<QuestionResult> Locality, double? LocalityKl,
    bool? FreeRunning = null)
{
    /// <summary>What follows from the edit and something else; none where the case has none.</summary>
    public IReadOnlyList<QuestionResult> Implied { get; init; } = [];
}

/// <summary>
/// Measures an editor as the paper does (section 4; mend-spec 3.5): each case edits the base model afresh, is measured, and is forgotten.
/// Nothing is random, so the same cases give the same rows.
/// </summary>
/// <param name="stage">The whole model; not changed.</param>
/// <param name="text">Makes the batches.</param>
/// <param name="edit">Makes one edit of the base model. Called in a dispose scope that ends with the case.</param>
/// <param name="original">
/// What "before" is; null: <paramref name="stage"/> without the edit. ENN's training alone changes the model.
/// </param>
public sealed class Evaluation(Stage stage, TextBatch text, Func<LabelledInput, WeightUpdates> edit, Stage? original = null)
{
    /// <summary>Measures edits on all their rephrases and locality questions.</summary>
    public IReadOnlyList<CaseResult> Run(
        IEnumerable<EditExample> cases, IProgress<CaseResult>? progress = null, CancellationToken cancellation = default) =>
        RunRows(cases.Select(text.Rows), progress, cancellation);

    /// <param name="cases">Of any task.</param>
    /// <param name="progress">Told each row as it is measured.</param>
    /// <returns>A row per case, in their order.</returns>
    public IReadOnlyList<CaseResult> RunRows(
        IEnumerable<EditRows> cases, IProgress<CaseResult>? progress = null, CancellationToken cancellation = default)
    {
        var results = new List<CaseResult>();
        foreach (var example in cases)
        {
            cancellation.ThrowIfCancellationRequested();
            var result = Measure(example, results.Count);
            results.Add(result);
            progress?.Report(result);
        }
        return results;
    }

    private CaseResult Measure(EditRows example, int index)
    {
        using var scope = NewDisposeScope();
        var edits = edit(text.Of([example.Edit]));

        using var _ = no_grad();
        List<TokenRow> asked = [example.Edit, .. example.Rephrases, .. example.Implied, .. example.Locality];
        var (firstImplied, firstLocality) = (1 + example.Rephrases.Count, 1 + example.Rephrases.Count + example.Implied.Count);
        var (input, labels) = text.Of(asked);
        var scored = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
        var below = stage.ForwardFrozen(Activations.None, new ForwardContext(input)); // once for both models
        var before = original is null ? stage.ForwardEditable(below, new ForwardContext(input))
            : original.Forward(Activations.None, new ForwardContext(input));
        var after = stage.ForwardEditable(below, new ForwardContext(input, edits));

        var questions = Compare(asked, scored, Answers(original ?? stage, before, scored), Answers(stage, after, scored));
        return new(index, questions[0], questions[1..firstImplied], questions[firstLocality..],
            firstLocality == asked.Count ? null : LocalityKl(input, before, after, firstLocality),
            example.Rephrases.Count == 0 ? null : stage.Family.Labels is not null ? questions[1].After.Exact
                : Writes(example.Rephrases[0], edits))
        {
            Implied = questions[firstImplied..firstLocality],
        };
    }

    /// <summary>Whether the model writes the answer when it reads its own tokens instead of the answer's.</summary>
    private bool Writes(TokenRow row, WeightUpdates edits)
    {
        var answer = row.Labels.Where(label => label != ScoredPositions.Ignored).ToList();
        var prompt = stage.Family.IsEncoderDecoder ? row.Ids : row.Ids[..^answer.Count];
        var written = Generation.Run(stage, prompt, new AskOptions(MaxTokens: answer.Count), edits);
        // The end of sequence is no token of what was written: without it there would be one token more.
        return written.Select(token => (long)token).SequenceEqual(stage.Family.EosIds.Contains((int)answer[^1]) ? answer[..^1] : answer);
    }

    private double LocalityKl(ModelInput input, Activations before, Activations after, int firstLocality)
    {
        var rows = Losses.LocalityRows(input, stage.Family);
        var first = before.Hidden!.shape[1] * firstLocality; // the locality questions are the last of the batch
        rows = rows.index_select(0, rows.Ge(first).nonzero().squeeze(1));
        return Losses.LocalityKl((original ?? stage).Logits(before, rows), stage.Logits(after, rows)).Host().item<float>();
    }

    /// <summary>The most likely token and the log-probability of the labelled one, at every scored position.</summary>
    private static (long[] Likeliest, float[] LogProbabilities) Answers(Stage model, Activations top, ScoredPositions scored)
    {
        var logits = model.Logits(top, scored.Rows).to_type(ScalarType.Float32); // [N, V]
        var ofTarget = logits.log_softmax(-1).gather(1, scored.Targets.On(logits.device).unsqueeze(1)).squeeze(1);        // [N]
        return (logits.argmax(1).Host().data<long>().ToArray(), ofTarget.Host().data<float>().ToArray());
    }

    private static List<QuestionResult> Compare(List<TokenRow> asked, ScoredPositions scored,
        (long[] Likeliest, float[] LogProbabilities) before, (long[] Likeliest, float[] LogProbabilities) after)
    {
        var targets = scored.Targets.Host().data<long>().ToArray();
        var places = scored.Sequences.Host().data<long>().ToArray().Select((sequence, place) => (sequence, place))
            .ToLookup(entry => entry.sequence, entry => entry.place);
        return [.. asked.Select((row, i) =>
        {
            int[] own = [.. places[i]];
            return new QuestionResult(row.Prompt, row.Target, own.Length, Score(own, before), Score(own, after),
                own.All(place => before.Likeliest[place] == after.Likeliest[place]));
        })];

        AnswerScore Score(int[] own, (long[] Likeliest, float[] LogProbabilities) answers)
        {
            var right = own.Count(place => answers.Likeliest[place] == targets[place]);
            return new(right == own.Length, (double)right / own.Length, -own.Average(place => (double)answers.LogProbabilities[place]));
        }
    }
}
