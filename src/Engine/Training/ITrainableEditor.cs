using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>What the training loop knows of an editor. What it made lives as long as it does.</summary>
public interface ITrainableEditor : IStoredEditor
{
    /// <summary>All that is trained, in place, with the learning rates.</summary>
    IReadOnlyList<ParameterGroup> Groups { get; }

    /// <summary>One training step: its figures, and the gradient of the total loss for each of <paramref name="parameters"/>.</summary>
    /// <param name="parameters">Those of <see cref="Groups"/>, in order.</param>
    (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Step(EditBatch batch, LossWeights weights, IReadOnlyList<Tensor> parameters);

    /// <summary>The same figures without training.</summary>
    StepFigures Measure(EditBatch batch, LossWeights weights);
}

/// <summary>An editor whose edits need gradients alone.</summary>
internal abstract class TrainablePreparedEditor(IPreparedEditor editor, EditorTrainingOptions options) : ITrainableEditor
{
    public EditorAlgorithm Algorithm => editor.Algorithm;

    public object Options => editor.Options;

    public IReadOnlyList<EditableWeight> Weights => editor.Weights;

    public IReadOnlyList<ParameterGroup> Groups => EditorOptimiser.GroupsOf(editor, options.Lr, options.LrLr);

    public IEnumerable<(string Name, Tensor Value)> State => editor.State;

    public abstract (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Step(EditBatch batch, LossWeights weights,
        IReadOnlyList<Tensor> parameters);

    public abstract StepFigures Measure(EditBatch batch, LossWeights weights);

    public void Dispose() => editor.Dispose();
}

internal sealed class TrainableMend : TrainablePreparedEditor
{
    private readonly Stage _stage;
    private readonly Mend _mend;

    public TrainableMend(Stage stage, EditorTrainingOptions options, EditorCheckpoint? checkpoint)
        : this(stage, options, checkpoint?.Editor(device: stage.Device)
            ?? new Mend(options.Mend, EditorTraining.EditableWeights(stage), options.Seed, device: stage.Device))
    {
    }

    private TrainableMend(Stage stage, EditorTrainingOptions options, Mend mend)
        : base(mend, options) => (_stage, _mend) = (stage, mend);

    public override (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Step(EditBatch batch, LossWeights weights,
        IReadOnlyList<Tensor> parameters) =>
        TrainingStep.Run(_stage, _mend, batch, weights, parameters);

    public override StepFigures Measure(EditBatch batch, LossWeights weights) =>
        TrainingStep.Run(_stage, _mend, batch, weights, []).Figures;
}

internal sealed class TrainableMalmen : TrainablePreparedEditor
{
    private readonly Stage _stage;
    private readonly Malmen _malmen;

    public TrainableMalmen(Stage stage, EditorTrainingOptions options, EditorCheckpoint? checkpoint,
        Func<IReadOnlyDictionary<string, PreservedKeys>>? preserved)
        : this(stage, options, (Malmen?)checkpoint?.Prepared(device: stage.Device)
            ?? new Malmen(options.Malmen, EditorTraining.EditableWeights(stage), options.Seed, stage.Device, preserved?.Invoke()))
    {
    }

    private TrainableMalmen(Stage stage, EditorTrainingOptions options, Malmen malmen)
        : base(malmen, options) => (_stage, _malmen) = (stage, malmen);

    public override (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Step(EditBatch batch, LossWeights weights,
        IReadOnlyList<Tensor> parameters) =>
        MalmenStep.Run(_stage, _malmen, batch, weights, trains: true);

    public override StepFigures Measure(EditBatch batch, LossWeights weights) =>
        MalmenStep.Run(_stage, _malmen, batch, weights, trains: false).Figures;
}
