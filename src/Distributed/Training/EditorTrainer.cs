using MendCluster.Contracts;
using MendCluster.Distributed.Telemetry;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Training;

/// <summary>
/// Trains an editor on R replicas of a model, each of S stages: the run of every training (<see cref="EditorRun"/>), with the steps of
/// <see cref="TrainingReplicas"/>.
/// </summary>
/// <param name="replicas">Of each replica a shard for every stage, in order.</param>
public sealed class EditorTrainer(IReadOnlyList<IReadOnlyList<ITrainingShard>> replicas, EditorTrainerOptions options) : IEditorTrainer
{
    public async Task<TrainingResult> TrainAsync(IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        var training = options.Training.Validated();
        MendMetrics.Training(1);
        try
        {
            var result = await EditorRun.RunAsync(training, options.Run, Open, progress, cancellation).ConfigureAwait(false);
            options.Logger.RunEnded(result.Iterations, result.Stopped);
            return result;
        }
        finally
        {
            MendMetrics.Training(-1);
        }

        ITrainingReplicas Open(EditorCheckpoint? checkpoint)
        {
            using var scope = NewDisposeScope();
            var editor = checkpoint?.Editor() ?? new Mend(training.Mend, options.Weights, training.Seed);
            return new TrainingReplicas(replicas, options, new(editor, training));
        }
    }
}
