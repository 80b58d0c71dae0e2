using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>The editors that <see cref="EditorTraining"/> trains.</summary>
public enum EditorAlgorithm
{
    Mend,

    /// <summary>KnowledgeEditor, in the paper's tables also EFK.</summary>
    Ke,

    Enn,
}

/// <summary>What the training loop knows of an editor. What it made lives as long as it does.</summary>
public interface ITrainableEditor : IDisposable
{
    EditorAlgorithm Algorithm { get; }

    /// <summary>The algorithm's own settings, for the checkpoint.</summary>
    object Options { get; }

    /// <summary>Those that an edit changes, in configuration order.</summary>
    IReadOnlyList<EditableWeight> Weights { get; }

    /// <summary>All that is trained, in place, with the learning rates.</summary>
    IReadOnlyList<ParameterGroup> Groups { get; }

    /// <summary>All that makes this editor, for the checkpoint.</summary>
    IEnumerable<(string Name, Tensor Value)> State { get; }

    /// <summary>One training step: its figures, and the gradient of the total loss for each of <paramref name="parameters"/>.</summary>
    /// <param name="parameters">Those of <see cref="Groups"/>, in order.</param>
    (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Step(EditBatch batch, LossWeights weights, IReadOnlyList<Tensor> parameters);

    /// <summary>The same figures without training.</summary>
    StepFigures Measure(EditBatch batch, LossWeights weights);
}

/// <summary>Makes what a training run trains.</summary>
public static class TrainableEditor
{
    /// <param name="stage">The whole model. ENN trains its weights.</param>
    /// <param name="checkpoint">Of a run to go on with; null: a new editor.</param>
    /// <exception cref="CheckpointException">The checkpoint is of another algorithm.</exception>
    public static ITrainableEditor Create(Stage stage, EditorTrainingOptions options, EditorCheckpoint? checkpoint = null)
    {
        checkpoint?.Require(options.Algorithm);
        return options.Algorithm switch
        {
            EditorAlgorithm.Ke => new TrainableKnowledgeEditor(stage, options, checkpoint),
            EditorAlgorithm.Enn => new TrainableEnn(stage, options, checkpoint),
            _ => new TrainableMend(stage, options, checkpoint),
        };
    }
}

internal sealed class TrainableMend(Stage stage, EditorTrainingOptions options, EditorCheckpoint? checkpoint) : ITrainableEditor
{
    private readonly Mend _mend = checkpoint?.Editor() ?? new Mend(options.Mend, EditorTraining.EditableWeights(stage), options.Seed);

    public EditorAlgorithm Algorithm => EditorAlgorithm.Mend;

    public object Options => _mend.Options;

    public IReadOnlyList<EditableWeight> Weights => _mend.Weights;

    public IReadOnlyList<ParameterGroup> Groups => EditorOptimiser.GroupsOf(_mend, options.Lr, options.LrLr);

    public IEnumerable<(string Name, Tensor Value)> State => _mend.State;

    public (StepFigures Figures, IReadOnlyList<Tensor> Gradients) Step(EditBatch batch, LossWeights weights, IReadOnlyList<Tensor> parameters) =>
        TrainingStep.Run(stage, _mend, batch, weights, parameters);

    public StepFigures Measure(EditBatch batch, LossWeights weights) => TrainingStep.Run(stage, _mend, batch, weights, []).Figures;

    public void Dispose() => _mend.Dispose();
}
