using System.Diagnostics;
using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>
/// Algorithm 1 of the paper on a whole model: one edit, its losses, and the gradients of phi and alpha. Nothing of a weight's size is
/// formed: gradients are (u, delta), updates are (uTilde, deltaTilde), and autograd reaches phi through them.
/// </summary>
public static class TrainingStep
{
    /// <summary>The edit's own pass: forward, loss, and backward to the editable layers only.</summary>
    /// <param name="stage">The whole model.</param>
    /// <returns>The loss before the edit, and (u, delta) by weight name.</returns>
    public static (Scored Before, IReadOnlyDictionary<string, GradientFactors> Factors) Record(Stage stage, LabelledInput edit,
        WeightUpdates? active = null)
    {
        var recording = new Recording();
        var pass = new ForwardContext(edit.Input, active, recording);
        Activations below;
        using (no_grad())
            below = stage.ForwardFrozen(Activations.None, pass);
        using var _ = enable_grad();
        var scored = Score(stage, stage.ForwardEditable(below, pass), edit.Labels);
        var deltas = Derivatives.Of([scored.Nll], recording.Outputs);
        return (scored, recording.Factors(deltas));
    }

    /// <summary>The (u, delta) of many edits at once, each as if it were made alone, in their order.</summary>
    /// <param name="portions">Edits that pass through the model together.</param>
    public static IReadOnlyDictionary<string, GradientFactors> RecordEach(Stage stage, IEnumerable<LabelledInput> portions)
    {
        var rows = stage.EditableOrder.ToDictionary(name => name, _ => (u: new List<Tensor>(), delta: new List<Tensor>()));
        foreach (var (input, labels) in portions)
        {
            using var scope = NewDisposeScope();
            var recording = new Recording();
            var pass = new ForwardContext(input, recording: recording);
            Activations below;
            using (no_grad())
                below = stage.ForwardFrozen(Activations.None, pass);
            using var _ = enable_grad();
            var scored = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
            var loss = Losses.SummedNll(stage.Logits(stage.ForwardEditable(below, pass), scored.Rows), scored);
            foreach (var (name, factors) in recording.Factors(Derivatives.Of([loss], recording.Outputs)))
            {
                rows[name].u.Add(factors.u.MoveToOuterDisposeScope());
                rows[name].delta.Add(factors.delta.MoveToOuterDisposeScope());
            }
        }
        return rows.ToDictionary(entry => entry.Key, entry => new GradientFactors(cat(entry.Value.u, 0), cat(entry.Value.delta, 0)));
    }

    /// <summary>How well an edited model gives the answers of a batch. Computes no graph.</summary>
    public static Scored Score(Stage stage, LabelledInput batch, WeightUpdates? edits = null)
    {
        using var _ = no_grad();
        return Score(stage, stage.Forward(Activations.None, new ForwardContext(batch.Input, edits)), batch.Labels);
    }

    /// <summary>
    /// One step: figures, and d Total / d parameter in the order given. Of several edits each has the gradient that it would have alone.
    /// </summary>
    /// <param name="parameters">phi and alpha; empty for evaluation, which computes no graph and leaves the statistics alone.</param>
    public static (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Run(
        Stage stage, Mend mend, EditBatch batch, LossWeights weights, IReadOnlyList<Tensor> parameters)
    {
        var trains = parameters.Count > 0;
        var factors = batch.Inner.Input.BatchSize == 1 ? Record(stage, batch.Inner).Factors : RecordEach(stage, [batch.Inner]);
        using var mode = set_grad_enabled(trains);
        var edits = new WeightUpdates(trains ? mend.ProposeForTraining(factors) : mend.Propose(factors));
        var (figures, total) = Evaluate(stage, edits, batch, weights);
        return (figures, trains ? [.. Derivatives.Of([total], [.. parameters])] : []);
    }

    /// <summary>The losses of an edited model against the unedited one.</summary>
    /// <returns>The figures, and their total as a tensor that carries the graph to the updates.</returns>
    public static (StepFigures Figures, Tensor Total) Evaluate(Stage stage, WeightUpdates edits, EditBatch batch, LossWeights weights)
    {
        var outerPass = new ForwardContext(batch.Outer.Input, edits);
        var outer = stage.ForwardEditable(WithoutGrad(() => stage.ForwardFrozen(Activations.None, outerPass)), outerPass);
        var input = batch.Locality.Input;
        var below = WithoutGrad(() => stage.ForwardFrozen(Activations.None, new ForwardContext(input))); // once for both models
        var before = WithoutGrad(() => stage.ForwardEditable(below, new ForwardContext(input)));
        return Compare(stage, outer, before, stage.ForwardEditable(below, new ForwardContext(input, edits)), batch.Outer, batch.Locality,
            weights);
    }

    /// <summary>The last stage's part of <see cref="Evaluate"/>.</summary>
    /// <param name="outer">The edited model's result on the rephrases.</param>
    /// <param name="before">The unedited model's on the unrelated examples.</param>
    /// <param name="after">The edited model's on the same.</param>
    public static (StepFigures Figures, Tensor Total) Compare(
        Stage stage, Activations outer, Activations before, Activations after, LabelledInput rephrases, LabelledInput unrelated,
        LossWeights weights)
    {
        var edited = Score(stage, outer, rephrases.Labels);
        var rows = Losses.LocalityRows(unrelated.Input, stage.Family);
        var (scoredBefore, beforeLogits) = WithoutGrad(() => Unrelated(stage, before, unrelated.Labels, rows));
        var (scoredAfter, afterLogits) = Unrelated(stage, after, unrelated.Labels, rows);
        var kl = Losses.LocalityKl(beforeLogits, afterLogits);

        var total = edited.Nll.Times(weights.CEdit).Plus(kl.Times(weights.CLoc));
        return Devices.Numbers(kl, total, edited.Figures, scoredBefore.Figures, scoredAfter.Figures)
            is [var locality, var sum, var nll, var accuracy, var probability, var nllBefore, var accuracyBefore, _, var nllAfter,
                var accuracyAfter, _]
            ? (new(nll, locality, sum, accuracy, probability, accuracyBefore, accuracyAfter, nllBefore, nllAfter, scoredAfter.Tokens),
                total)
            : throw new UnreachableException();
    }

    private static Scored Score(Stage stage, Activations top, Tensor labels)
    {
        var rows = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
        return Losses.MaskedNll(stage.Logits(top, rows.Rows), rows);
    }

    private static (Scored Scored, Tensor Logits) Unrelated(Stage stage, Activations top, Tensor labels, Tensor rows)
    {
        var logits = stage.Logits(top, rows); // [N, V]
        // The scored rows are among the masked ones, so their logits are not computed again: place[r] is the row of logits of position r.
        var place = zeros([labels.numel()], ScalarType.Int64, CPU)
            .IndexAdd_(0, rows, NewTensor.Arange(0, rows.shape[0], ScalarType.Int64, CPU));
        var scored = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
        using var _ = no_grad();
        return (Losses.MaskedNll(logits.index_select(0, place.index_select(0, scored.Rows).On(logits.device)), scored), logits);
    }

    private static T WithoutGrad<T>(Func<T> compute)
    {
        using var _ = no_grad();
        return compute();
    }
}
