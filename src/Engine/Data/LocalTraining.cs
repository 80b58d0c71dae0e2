using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Data;

/// <summary>Trains an editor on this machine, with the whole model on one device.</summary>
public static class LocalTraining
{
    /// <summary>Trains, or goes on with the run in the folder.</summary>
    /// <param name="model">A Hugging Face directory; not changed.</param>
    /// <param name="open">The task for the model's texts.</param>
    /// <param name="run">Configuration, metrics, checkpoint and the best editor go there.</param>
    /// <param name="device">Where model and editor are.</param>
    /// <param name="preserve">Questions whose keys the editor is to go round; null: none.</param>
    public static TrainingResult Run(string model, Func<TextBatch, IEditTask> open, EditorTrainingOptions options, string run,
        IProgress<TrainingProgress>? progress = null, string device = "cpu", IReadOnlyList<QaPair>? preserve = null,
        CancellationToken cancellation = default)
    {
        var family = ModelFamily.FromDirectory(model);
        using var files = HuggingFaceDirectory.Open(model);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32, Devices.Of(device)),
            EditableWeights.Select(family, options.Editable));
        var data = EditorData.Of(model, open, options, preserve);
        return new EditorTraining(stage, data.Options, data.Training, data.Validation,
            new RunFolder(run, new(Convert.ToHexStringLower(CheckpointFingerprint.Of(model)), data.Digest)), data.Preserved)
            .Run(progress, cancellation);
    }
}
