using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>One forward pass of fine-tuning.</summary>
/// <param name="Loss">What the optimiser lowers: Edit, or with locality KL + CEdit * Edit.</param>
/// <param name="Edit">NLL of the target.</param>
/// <param name="Locality">KL of the unedited to the edited model on the step's locality batch; null in plain FT.</param>
/// <param name="EditAccuracy">Exact match on the edit.</param>
public sealed record FineTuningStep(double Loss, double Edit, double? Locality, double EditAccuracy);

/// <summary>One epoch of breadth-first fine-tuning.</summary>
/// <param name="Edit">NLL of the targets, mean over the edits, each as its mini-batch came.</param>
/// <param name="EditAccuracy">Exact match on the edits, likewise.</param>
public sealed record BreadthFirstEpoch(double Edit, double EditAccuracy);

/// <summary>
/// The baselines FT and FT+KL (paper, section 4; mend-spec 7.1 and 7.2): gradient steps on the editable weights until the model answers
/// the edit. The gradient of a weight is made from the recorded (u, delta), which is exact; the base weights stay as they are.
/// </summary>
public static class FineTuning
{
    /// <param name="stage">The whole model.</param>
    /// <param name="locality">FT+KL: the unrelated examples of a step, from 0. Null: plain FT.</param>
    /// <returns>
    /// The edits, in the caller's dispose scope, and the figures of each pass. They are those of the last pass: the model that passed the
    /// test, or that of the step limit.
    /// </returns>
    public static (WeightUpdates Edits, IReadOnlyList<FineTuningStep> Steps) Edit(
        Stage stage, FineTuneOptions options, LabelledInput edit, Func<int, ModelInput>? locality = null)
    {
        using var fineTune = new FineTune(options, EditorTraining.EditableWeights(stage), stage.Device);
        var edits = new WeightUpdates(fineTune.Updates);
        using var whole = NewDisposeScope();
        var below = Below(stage, edit.Input); // once for all steps
        var rows = ScoredPositions.Of(edit.Labels, stage.Family.ShiftsLabels);
        var editWeight = locality is null ? 1 : options.CEdit;
        var steps = new List<FineTuningStep>();
        while (true)
        {
            using var scope = NewDisposeScope();
            using var _ = enable_grad();
            var recording = new Recording();
            var scored = Losses.MaskedNll(Logits(stage, below, new ForwardContext(edit.Input, edits, recording), rows.Rows), rows);
            var loss = scored.Nll.Times(editWeight);
            (Tensor Loss, Recording Recording)? kl = locality is null ? null : Kl(stage, edits, locality(steps.Count));
            var nll = scored.Loss;
            float? drift = kl?.Loss.Host().item<float>();
            steps.Add(new(drift is null ? nll : drift.Value + editWeight * nll, nll, drift, scored.Accuracy));
            if (scored.Accuracy == 1 || steps.Count == options.MaxEditSteps)
                return (edits, steps);

            var gradients = Gradients(loss, recording);
            if (kl is not null)
                foreach (var (weight, gradient) in Gradients(kl.Value.Loss, kl.Value.Recording))
                    gradients[weight] = gradients[weight].Plus(gradient);
            fineTune.Step(gradients);
        }
    }

    /// <summary>
    /// Many edits in one go, breadth-first (arXiv 2509.22072): epochs over shuffled mini-batches of all edits, where FT as it stands in the
    /// papers on editing brings one edit to its end before it begins the next. Changes one weight.
    /// </summary>
    /// <param name="stage">The whole model, with that weight alone to edit.</param>
    /// <param name="edits">One a row.</param>
    /// <param name="order">Of the rows in an epoch, by its number.</param>
    /// <param name="replay">Questions to keep, by the step and how many; asked where <see cref="BreadthFirstOptions.Replay"/> is above 0.</param>
    /// <returns>
    /// The edits, in the caller's dispose scope, and the figures of each epoch: the last one is answered throughout, or that of the limit.
    /// </returns>
    public static (WeightUpdates Edits, IReadOnlyList<BreadthFirstEpoch> Epochs) BreadthFirst(
        Stage stage, BreadthFirstOptions options, LabelledInput edits, Func<int, IReadOnlyList<int>> order,
        Func<int, int, ModelInput>? replay = null)
    {
        options.Validated();
        if (options.Replay > 0 && replay is null)
            throw Fault.Setting($"replay is {options.Replay}, and there are no questions to keep");
        if (stage.EditableOrder.Count != 1)
            throw Fault.Setting($"breadth-first fine-tuning changes one weight, and this model has {stage.EditableOrder.Count} to edit: choose one of {string.Join(", ", EditableWeights.DownProjections(stage.Family))}");
        using var fineTune = new FineTune(options.Steps, EditorTraining.EditableWeights(stage), stage.Device);
        var made = new WeightUpdates(fineTune.Updates);
        using var whole = NewDisposeScope();
        var below = Below(stage, edits, options.BatchSize); // once for all epochs
        var epochs = new List<BreadthFirstEpoch>();
        var step = 0;
        do
        {
            var (nll, answered) = (0.0, 0.0);
            foreach (var chosen in order(epochs.Count).Chunk(options.BatchSize))
            {
                using var scope = NewDisposeScope();
                using var _ = enable_grad();
                var which = tensor(chosen.Select(i => (long)i).ToArray(), device: CPU);
                var batch = edits.Rows(which);
                which = which.On(stage.Device);
                var rows = ScoredPositions.Of(batch.Labels, stage.Family.ShiftsLabels);
                var recording = new Recording();
                var scored = Losses.MaskedNll(Logits(stage, new(below.Hidden?.index_select(0, which), below.Memory?.index_select(0, which)),
                    new ForwardContext(batch.Input, made, recording), rows.Rows), rows);
                nll += scored.Loss * chosen.Length;
                answered += scored.Accuracy * chosen.Length;
                var gradients = Gradients(scored.Nll, recording);
                if (options.Replay > 0)
                {
                    var (kl, asked) = Kl(stage, made, replay!(step, chosen.Length));
                    foreach (var (weight, gradient) in Gradients(kl.Times(options.Replay), asked))
                        gradients[weight] = gradients[weight].Plus(gradient);
                }
                step++;
                fineTune.Step(gradients);
            }
            epochs.Add(new(nll / edits.Input.BatchSize, answered / edits.Input.BatchSize));
        }
        while (epochs[^1].EditAccuracy < 1 && epochs.Count < options.MaxEpochs);
        return (made, epochs);
    }

    private static Activations Below(Stage stage, LabelledInput edits, int portion)
    {
        using var scope = NewDisposeScope();
        List<Activations> portions = [.. Enumerable.Range(0, (int)(edits.Input.BatchSize + portion - 1) / portion)
            .Select(i => Below(stage, edits.Slice(i * portion, Math.Min(portion, edits.Input.BatchSize - i * portion)).Input))];
        Tensor? Whole(Func<Activations, Tensor?> of) => of(portions[0]) is null ? null
            : cat([.. portions.Select(part => of(part)!)], 0).MoveToOuterDisposeScope();
        return new(Whole(part => part.Hidden), Whole(part => part.Memory));
    }

    private static (Tensor Loss, Recording Recording) Kl(Stage stage, WeightUpdates edits, ModelInput input)
    {
        var below = Below(stage, input); // once for both models
        var rows = Losses.LocalityRows(input, stage.Family);
        Tensor before;
        using (no_grad())
            before = Logits(stage, below, new ForwardContext(input), rows);
        var recording = new Recording();
        return (Losses.LocalityKl(before, Logits(stage, below, new ForwardContext(input, edits, recording), rows)), recording);
    }

    private static Activations Below(Stage stage, ModelInput input)
    {
        using var _ = no_grad();
        return stage.ForwardFrozen(Activations.None, new ForwardContext(input));
    }

    /// <returns>[N, V], of the given rows of the flattened [B * T] positions.</returns>
    private static Tensor Logits(Stage stage, Activations below, ForwardContext pass, Tensor rows) =>
        stage.Logits(stage.ForwardEditable(below, pass), rows);

    private static Dictionary<string, Tensor> Gradients(Tensor loss, Recording recording) =>
        recording.Factors(Derivatives.Of([loss], recording.Outputs))
            .ToDictionary(factors => factors.Key, factors => FineTune.Gradient(factors.Value));
}
