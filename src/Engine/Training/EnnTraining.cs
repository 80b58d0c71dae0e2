using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>Edits and training steps of ENN (mend-spec 7.3).</summary>
public static class EnnTraining
{
    /// <summary>The edited model: gradient steps on the editable weights.</summary>
    /// <param name="stage">The whole model.</param>
    /// <param name="trains">
    /// Keeps the graph from the updates to the weights and the step sizes. The model's weights must require gradients then.
    /// </param>
    public static WeightUpdates Edit(Stage stage, Enn enn, LabelledInput edit, bool trains = false)
    {
        using var _ = enable_grad();
        IReadOnlyList<Tensor> R =
            [.. stage.EditableOrder.Select(name =>
            zeros([stage.Editable[name].OutFeatures, stage.Editable[name].InFeatures], device: stage.Device).requires_grad_())];
        for (var step = 0; step < enn.Options.EditSteps; step++)
        {
            var loss = Score(stage, edit, At(stage, R)).Nll;
            var secondOrder = trains && !enn.Options.FirstOrder;
            var gradients = secondOrder ? Derivatives.WithGraph([loss], R) : Derivatives.Of([loss], R);
            R = [.. R.Select((weight, i) => enn.Step(i, weight, gradients[i]))];
            if (!trains)
                R = [.. R.Select(weight => weight.detach().requires_grad_())];
        }
        return At(stage, R);
    }

    /// <summary>A trained ENN: its weights take the place of the model's.</summary>
    /// <param name="stage">The model that it was trained from.</param>
    public static Enn Load(Stage stage, EditorCheckpoint checkpoint)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        checkpoint.Require(EditorAlgorithm.Enn);
        foreach (var (name, weight) in stage.Weights.Loaded)
        {
            var value = checkpoint.Read("model." + name);
            weight.Value.copy_(weight.IsTransposed ? value.t() : value);
        }
        return new(checkpoint.OptionsAs<EnnOptions>(), EditorTraining.EditableWeights(stage), checkpoint.Read("edit_lrs", stage.Device));
    }

    /// <summary>
    /// One training step: the losses of the edited model, and beside them, with weight 1, what training itself has done to the model on
    /// unrelated examples.
    /// </summary>
    /// <param name="stage">The model that is trained; all its weights require gradients.</param>
    /// <param name="original">As it was before training.</param>
    /// <param name="parameters">Weights of the model and <see cref="Enn.EditLrs"/>, in any order.</param>
    /// <returns>Figures of the edit; KL of the original to the model on the locality examples; the gradients.</returns>
    public static (StepFigures Figures, double Base, IReadOnlyList<Tensor> Gradients) Step(
        Stage stage, Stage original, Enn enn, EditBatch batch, LossWeights weights, IReadOnlyList<Tensor> parameters)
    {
        using var _ = enable_grad();
        var edits = Edit(stage, enn, batch.Inner, trains: true);
        var outer = Score(stage, batch.Outer, edits);

        var rows = Losses.LocalityRows(batch.Locality.Input, stage.Family);
        var current = Logits(stage, batch.Locality, rows, null);
        var after = Logits(stage, batch.Locality, rows, edits);
        var kl = Losses.LocalityKl(current, after); // the first argument carries no gradient
        Tensor first;
        using (no_grad())
            first = Logits(original, batch.Locality, rows, null);
        var drift = Losses.LocalityKl(first, current);

        var total = outer.Nll.Times(weights.CEdit).Plus(kl.Times(weights.CLoc));
        Tensor[] gradients = [.. Derivatives.Of([total.Plus(drift)], [.. parameters])];
        var (before, kept) = (TrainingStep.Score(stage, batch.Locality), TrainingStep.Score(stage, batch.Locality, edits));
        var numbers = Devices.Numbers(kl, total, drift);
        return (new(outer.Loss, numbers[0], numbers[1], outer.Accuracy, outer.Probability, before.Accuracy, kept.Accuracy, before.Loss,
            kept.Loss, kept.Tokens), numbers[2], gradients);
    }

    private static WeightUpdates At(Stage stage, IReadOnlyList<Tensor> R) =>
        new(stage.EditableOrder.Select((name, i) => (name, update: (WeightUpdate)new DenseUpdate(R[i])))
        .ToDictionary(entry => entry.name, entry => entry.update));

    private static Scored Score(Stage stage, LabelledInput batch, WeightUpdates edits)
    {
        var rows = ScoredPositions.Of(batch.Labels, stage.Family.ShiftsLabels);
        return Losses.MaskedNll(stage.Logits(stage.Forward(Activations.None, new ForwardContext(batch.Input, edits)), rows.Rows), rows);
    }

    private static Tensor Logits(Stage stage, LabelledInput batch, Tensor rows, WeightUpdates? edits) =>
        stage.Logits(stage.Forward(Activations.None, new ForwardContext(batch.Input, edits)), rows);
}

internal sealed class TrainableEnn : ITrainableEditor
{
    private const string ModelPrefix = "model.";
    private readonly Stage _stage;
    private readonly Stage _original;
    private readonly Enn _enn;
    private readonly EditorTrainingOptions _options;

    public TrainableEnn(Stage stage, EditorTrainingOptions options, EditorCheckpoint? checkpoint)
    {
        if (stage.Weights.DType != ScalarType.Float32)
            throw Fault.Setting($"ENN trains all weights of the model, which are {stage.Weights.DType}; load them as float32");
        (_stage, _options) = (stage, options);
        _original = Stage.LoadWhole(stage.Family, new CopiedWeights(stage.Weights), stage.EditableOrder);
        _enn = checkpoint is null ? new(options.Enn, Weights, device: stage.Device) : EnnTraining.Load(stage, checkpoint);
        foreach (var weight in stage.Weights.Loaded.Values)
            weight.Value.requires_grad_();
    }

    public EditorAlgorithm Algorithm => EditorAlgorithm.Enn;

    public object Options => _options.Enn;

    public IReadOnlyList<EditableWeight> Weights => EditorTraining.EditableWeights(_stage);

    public IReadOnlyList<ParameterGroup> Groups =>
        [new([.. _stage.Weights.Loaded.Select(weight => (ModelPrefix + weight.Key, weight.Value.Value))], _options.Lr),
        new([("edit_lrs", _enn.EditLrs)], _options.LrLr)];

    public IEnumerable<(string Name, Tensor Value)> State =>
        _stage.Weights.Loaded.Select(weight => (ModelPrefix + weight.Key, weight.Value.AsStored())).Append(("edit_lrs", _enn.EditLrs));

    public (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Step(EditBatch batch, LossWeights weights,
        IReadOnlyList<Tensor> parameters)
    {
        var (figures, _, gradients) = EnnTraining.Step(_stage, _original, _enn, batch, weights, parameters);
        return (figures, gradients);
    }

    public StepFigures Measure(EditBatch batch, LossWeights weights)
    {
        var edits = EnnTraining.Edit(_stage, _enn, batch.Inner);
        using var _ = no_grad();
        return TrainingStep.Evaluate(_stage, edits, batch, weights).Figures;
    }

    /// <summary>Leaves the model trained, and frozen again.</summary>
    public void Dispose()
    {
        foreach (var weight in _stage.Weights.Loaded.Values)
            weight.Value.requires_grad_(false);
        _enn.Dispose();
        _original.Dispose();
    }
}
