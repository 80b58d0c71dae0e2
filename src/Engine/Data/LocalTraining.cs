using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
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

    /// <summary>
    /// A trained MALMEN that goes round the keys of questions in so many rounds: nothing is trained, and the file is not changed.
    /// </summary>
    /// <param name="model">A Hugging Face directory; not changed.</param>
    /// <param name="editor">File of the editor, which may go round other keys so far.</param>
    /// <param name="questions">With the answers that are to stay; at least one.</param>
    /// <param name="rounds">Null: the editor's own.</param>
    /// <param name="beta">Weight of the keys, as <see cref="MalmenOptions.Beta"/>; null: the editor's own.</param>
    /// <param name="output">File to write.</param>
    /// <param name="device">Where the model is.</param>
    /// <param name="sequential">As <see cref="MalmenOptions.Sequential"/>; false: as the editor is.</param>
    /// <exception cref="MendException">The editor is of another kind or of another model; a setting makes no sense.</exception>
    public static void Preserve(string model, string editor, IReadOnlyList<QaPair> questions, int? rounds, double? beta, string output,
        string device = "cpu", bool sequential = false)
    {
        using var scope = NewDisposeScope();
        using var checkpoint = EditorCheckpoint.Open(editor);
        var family = ModelFamily.FromDirectory(model);
        checkpoint.Require(EditorAlgorithm.Malmen).RequireFit(family);
        using var files = HuggingFaceDirectory.Open(model);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32, Devices.Of(device)),
            [.. checkpoint.Weights.Select(weight => weight.Name)]);
        var text = new TextBatch(family, TokenizerFiles.Load(model));
        var keys = TrainingStep.KeysOf(stage, EditorData.Portions(text, questions));
        checkpoint.SavePreserving(output, keys, rounds, beta, sequential);
    }
}
