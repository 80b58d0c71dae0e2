using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>Weights of the two losses (mend-spec 4.4).</summary>
/// <param name="CEdit">Of the edit loss L_e.</param>
/// <param name="CLoc">Of the locality loss L_loc.</param>
public sealed record LossWeights(double CEdit = 0.1, double CLoc = 1.0);

/// <summary>What a step measured (mend-spec 3).</summary>
/// <param name="Edit">L_e: NLL of the target on the rephrases, edited model.</param>
/// <param name="Locality">L_loc: KL of the unedited to the edited model on unrelated examples.</param>
/// <param name="Total">CEdit L_e + CLoc L_loc.</param>
/// <param name="EditAccuracy">Exact match on the rephrases, edited model.</param>
/// <param name="LocalityAccuracyBefore">Exact match on the unrelated examples, unedited model.</param>
/// <param name="LocalityAccuracyAfter">The same, edited model.</param>
/// <param name="LocalityNllBefore">NLL of the unrelated examples, unedited model; mean over <paramref name="LocalityTokens"/>.</param>
public sealed record StepFigures(
    double Edit, double Locality, double Total, double EditAccuracy, double EditProbability,
    double LocalityAccuracyBefore, double LocalityAccuracyAfter, double LocalityNllBefore, double LocalityNllAfter, long LocalityTokens)
{
    /// <summary>
    /// Perplexity of the unrelated rows of all steps together, edited model less unedited: exp of the mean over tokens, not a mean of
    /// perplexities (mend-spec 3.5). NaN without steps.
    /// </summary>
    public static double PerplexityDrawdown(IReadOnlyList<StepFigures> steps)
    {
        return Perplexity(step => step.LocalityNllAfter) - Perplexity(step => step.LocalityNllBefore);

        double Perplexity(Func<StepFigures, double> nll) => Math.Exp(steps.Sum(step => nll(step) * step.LocalityTokens) / steps.Sum(step => step.LocalityTokens));
    }
}

/// <summary>
/// Algorithm 1 of the paper on a whole model: one edit, its losses, and the gradients of phi and alpha. Nothing of a weight's size is
/// formed: gradients are (u, delta), updates are (uTilde, deltaTilde), and autograd reaches phi through them.
/// </summary>
public static class TrainingStep
{
    /// <summary>The edit's own pass: forward, loss, and backward to the editable layers only.</summary>
    /// <param name="stage">The whole model.</param>
    /// <returns>The loss before the edit, and (u, delta) by weight name.</returns>
    public static (Scored Before, IReadOnlyDictionary<string, GradientFactors> Factors) Record(Stage stage, LabelledInput edit, Edits? active = null)
    {
        var recording = new Recording();
        var pass = new Pass(edit.Input, active, recording);
        Activations below;
        using (no_grad())
            below = stage.Below(Activations.None, pass);
        using var _ = enable_grad();
        var scored = Score(stage, stage.Above(below, pass), edit.Labels);
        var deltas = autograd.grad([scored.Nll], [.. recording.Outputs]);
        return (scored, recording.Factors([.. deltas]));
    }

    /// <summary>How well an edited model gives the answers of a batch. Computes no graph.</summary>
    public static Scored Score(Stage stage, LabelledInput batch, Edits? edits = null)
    {
        using var _ = no_grad();
        return Score(stage, stage.Forward(Activations.None, new Pass(batch.Input, edits)), batch.Labels);
    }

    /// <summary>One step: figures, and d Total / d parameter in the order given.</summary>
    /// <param name="parameters">phi and alpha; empty for evaluation, which computes no graph and leaves the statistics alone.</param>
    public static (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Run(
        Stage stage, Mend mend, EditBatch batch, LossWeights weights, IReadOnlyList<Tensor> parameters)
    {
        var trains = parameters.Count > 0;
        var (_, factors) = Record(stage, batch.Inner);
        using var mode = set_grad_enabled(trains);
        var edits = new Edits(trains ? mend.ProposeForTraining(factors) : mend.Propose(factors));
        var (figures, total) = Evaluate(stage, edits, batch, weights);
        return (figures, trains ? [.. autograd.grad([total], [.. parameters])] : []);
    }

    /// <summary>The losses of an edited model against the unedited one.</summary>
    /// <returns>The figures, and their total as a tensor that carries the graph to the updates.</returns>
    public static (StepFigures Figures, Tensor Total) Evaluate(Stage stage, Edits edits, EditBatch batch, LossWeights weights)
    {
        var outerPass = new Pass(batch.Outer.Input, edits);
        var outer = Score(stage, stage.Above(WithoutGrad(() => stage.Below(Activations.None, outerPass)), outerPass), batch.Outer.Labels);

        var (input, labels) = batch.Locality;
        var localityBelow = WithoutGrad(() => stage.Below(Activations.None, new Pass(input))); // once for both models
        var rows = Losses.LocalityRows(input, stage.Family);
        var (before, beforeLogits) = WithoutGrad(() => Unrelated(stage, localityBelow, new Pass(input), labels, rows));
        var (after, afterLogits) = Unrelated(stage, localityBelow, new Pass(input, edits), labels, rows);
        var kl = Losses.LocalityKl(beforeLogits, afterLogits);

        var total = outer.Nll * weights.CEdit + kl * weights.CLoc;
        return (new(outer.Nll.item<float>(), kl.item<float>(), total.item<float>(), outer.Accuracy, outer.Probability,
            before.Accuracy, after.Accuracy, before.Nll.item<float>(), after.Nll.item<float>(), after.Tokens), total);
    }

    private static Scored Score(Stage stage, Activations top, Tensor labels)
    {
        var rows = LabelRows.Of(labels, stage.Family.ShiftsLabels);
        return Losses.MaskedNll(stage.Logits(top, rows.Rows), rows);
    }

    private static (Scored Scored, Tensor Logits) Unrelated(Stage stage, Activations below, Pass pass, Tensor labels, Tensor rows)
    {
        var top = stage.Above(below, pass);
        var logits = stage.Logits(top, rows); // [N, V]
        // The scored rows are among the masked ones, so their logits are not computed again: place[r] is the row of logits of position r.
        var place = zeros([labels.numel()], ScalarType.Int64).index_add_(0, rows, arange(rows.shape[0], ScalarType.Int64), 1);
        var scored = LabelRows.Of(labels, stage.Family.ShiftsLabels);
        using var _ = no_grad();
        return (Losses.MaskedNll(logits.index_select(0, place.index_select(0, scored.Rows)), scored), logits);
    }

    private static T WithoutGrad<T>(Func<T> compute)
    {
        using var _ = no_grad();
        return compute();
    }
}
