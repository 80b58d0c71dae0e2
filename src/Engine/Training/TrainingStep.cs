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
        using var _ = enable_grad();
        var top = stage.Forward(Activations.None, new ForwardContext(edit.Input, active, recording), needsInputGradient: false,
            keepsGraph: true);
        var scored = Score(stage, top, edit.Labels);
        var deltas = Derivatives.Of([scored.Nll], recording.Outputs);
        return (scored, recording.Factors(deltas));
    }

    /// <summary>The (u, delta) of many edits at once, each as if it were made alone, in their order.</summary>
    /// <param name="portions">Edits that pass through the model together.</param>
    /// <param name="active">The edits in force; null: none.</param>
    public static IReadOnlyDictionary<string, GradientFactors> RecordEach(Stage stage, IEnumerable<LabelledInput> portions,
        WeightUpdates? active = null) => RecordEach(stage, portions, active, _ => { });

    /// <param name="tell">Told the loss of each portion, summed over its edits. [] float32.</param>
    private static Dictionary<string, GradientFactors> RecordEach(Stage stage, IEnumerable<LabelledInput> portions, WeightUpdates? active,
        Action<Tensor> tell)
    {
        var rows = stage.EditableOrder.ToDictionary(name => name, _ => (u: new List<Tensor>(), delta: new List<Tensor>()));
        foreach (var (input, labels) in portions)
        {
            using var scope = NewDisposeScope();
            var recording = new Recording();
            using var _ = enable_grad();
            var top = stage.Forward(Activations.None, new ForwardContext(input, active, recording), needsInputGradient: false,
                keepsGraph: true);
            var scored = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
            var loss = Losses.SummedNll(stage.Logits(top, scored.Rows), scored);
            tell(loss.detach().MoveToOuterDisposeScope());
            foreach (var (name, factors) in recording.Factors(Derivatives.Of([loss], recording.Outputs)))
            {
                rows[name].u.Add(factors.u.MoveToOuterDisposeScope());
                rows[name].delta.Add(factors.delta.MoveToOuterDisposeScope());
            }
        }
        return rows.ToDictionary(entry => entry.Key, entry => new GradientFactors(cat(entry.Value.u, 0), cat(entry.Value.delta, 0)));
    }

    /// <summary>
    /// The updates of edits that are made together, in as many of their editor's rounds as bring their loss lowest.
    /// </summary>
    /// <param name="portions">Edits that pass through the model together.</param>
    public static IReadOnlyDictionary<string, LowRankUpdate> Propose(Stage stage, IPreparedEditor editor,
        IReadOnlyList<LabelledInput> portions)
    {
        var first = RecordEach(stage, portions);
        var updates = editor.Propose(first);
        if (editor is not IIteratedEditor { Rounds: > 1 } iterated)
            return updates;
        var typical = first.ToDictionary(entry => entry.Key, entry => entry.Value.TypicalGradient());
        var (lowest, best) = (double.PositiveInfinity, updates);
        for (var round = 1; round < iterated.Rounds; round++)
        {
            var losses = new List<Tensor>();
            var factors = RecordEach(stage, portions, new WeightUpdates(updates), losses.Add);
            var loss = stack([.. losses]).sum().Host().item<float>();
            if (!float.IsFinite(loss))
                return best;
            if (loss < lowest)
                (lowest, best) = (loss, updates);
            var again = iterated.ProposeAgain(factors, typical);
            updates = updates.ToDictionary(entry => entry.Key, entry => LowRankUpdate.Stack([entry.Value, again[entry.Key]]));
        }
        return SummedLoss() < lowest ? updates : best;

        double SummedLoss()
        {
            using var _ = no_grad();
            return portions.Sum(batch =>
            {
                using var scope = NewDisposeScope();
                var top = stage.Forward(Activations.None, new ForwardContext(batch.Input, new WeightUpdates(updates)));
                var scored = ScoredPositions.Of(batch.Labels, stage.Family.ShiftsLabels);
                return Losses.SummedNll(stage.Logits(top, scored.Rows), scored).Host().item<float>();
            });
        }
    }

    /// <summary>The keys of answered questions on the unedited model, by weight: what an editor can be told to preserve.</summary>
    /// <param name="portions">Questions with their answers that pass through the model together; at least one.</param>
    public static IReadOnlyDictionary<string, PreservedKeys> KeysOf(Stage stage, IEnumerable<LabelledInput> portions)
    {
        var sketches = stage.EditableOrder.ToDictionary(name => name, _ => new KeySketch());
        foreach (var portion in portions)
        {
            using var scope = NewDisposeScope();
            foreach (var (name, rows) in RecordEach(stage, [portion]))
                sketches[name].Add(rows.u);
        }
        var keys = sketches.ToDictionary(entry => entry.Key, entry => entry.Value.Keys());
        foreach (var sketch in sketches.Values)
            sketch.Dispose();
        return keys;
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
    /// <returns>The figures, and their total as a tensor that carries the graph to the updates where grad is on.</returns>
    public static (StepFigures Figures, Tensor Total) Evaluate(Stage stage, WeightUpdates edits, EditBatch batch, LossWeights weights)
    {
        var pass = Evaluate(stage, edits, batch.Outer, batch.Locality, weights, EvaluationTrips.None, needsInputGradient: false,
            keepsGraph: is_grad_enabled());
        return (pass.Figures!, pass.Total!);
    }

    /// <summary>One stage's part of the losses: three trips through it, and on the last stage the figures.</summary>
    /// <param name="below">What the stage below made of them.</param>
    /// <param name="needsInputGradient">Whether a stage below has editable weights.</param>
    /// <param name="keepsGraph">Whether this one has, or one below, and the step trains.</param>
    public static EvaluationPass Evaluate(Stage stage, WeightUpdates edits, LabelledInput rephrases, LabelledInput unrelated,
        LossWeights weights, EvaluationTrips below, bool needsInputGradient, bool keepsGraph)
    {
        ForwardContext Edited(LabelledInput batch) => new(batch.Input, edits);
        var plain = new ForwardContext(unrelated.Input);
        var outer = stage.Forward(below.Outer, Edited(rephrases), needsInputGradient, keepsGraph);
        EvaluationTrips top;
        if (below.After is null) // the models are equal up to here, and up to the lowest editable layer: one trip for both
        {
            var shared = WithoutGrad(() => stage.ForwardFrozen(below.Before, plain));
            var before = WithoutGrad(() => stage.ForwardEditable(shared, new ForwardContext(unrelated.Input)));
            using var _ = set_grad_enabled(keepsGraph);
            top = new(outer, before, stage.HasEditable ? stage.ForwardEditable(shared, Edited(unrelated)) : null);
            below = below with { After = shared };
        }
        else
            top = new(outer, stage.Forward(below.Before, plain, needsInputGradient: false, keepsGraph: false),
                stage.Forward(below.After, Edited(unrelated), needsInputGradient, keepsGraph));
        if (stage.Head is null)
            return new(below, top, null, null);
        using var graph = set_grad_enabled(keepsGraph);
        var (figures, total) = Compare(stage, top, rephrases, unrelated, weights);
        return new(below, top, figures, total);
    }

    private static (StepFigures Figures, Tensor Total) Compare(Stage stage, EvaluationTrips top, LabelledInput rephrases,
        LabelledInput unrelated, LossWeights weights)
    {
        var edited = Score(stage, top.Outer, rephrases.Labels);
        var rows = Losses.LocalityRows(unrelated.Input, stage.Family);
        var (scoredBefore, beforeLogits) = WithoutGrad(() => Unrelated(stage, top.Before, unrelated.Labels, rows));
        var (scoredAfter, afterLogits) = Unrelated(stage, top.After!, unrelated.Labels, rows);
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
        var scored = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
        using var _ = no_grad();
        return (Losses.MaskedNll(logits.index_select(0, scored.Among(rows, labels.numel()).On(logits.device)), scored), logits);
    }

    private static T WithoutGrad<T>(Func<T> compute)
    {
        using var _ = no_grad();
        return compute();
    }
}

/// <summary>The losses' three trips, at a place between two layers.</summary>
/// <param name="Outer">The edited model on the rephrases.</param>
/// <param name="Before">The unedited model on the unrelated examples.</param>
/// <param name="After">The edited model on the same; null where the models are still equal.</param>
public sealed record EvaluationTrips(Activations Outer, Activations Before, Activations? After)
{
    /// <summary>Below the first stage.</summary>
    public static EvaluationTrips None { get; } = new(Activations.None, Activations.None, null);
}

/// <summary>One stage's part of the losses.</summary>
/// <param name="Below">What it began with; After as far as this stage made it itself.</param>
/// <param name="Top">What the stage above begins with.</param>
/// <param name="Figures">On the last stage.</param>
/// <param name="Total">On the last stage; carries the graph. [].</param>
public sealed record EvaluationPass(EvaluationTrips Below, EvaluationTrips Top, StepFigures? Figures, Tensor? Total);
