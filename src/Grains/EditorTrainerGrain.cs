using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Grains.Interfaces;
using Microsoft.Extensions.Logging;
using Orleans.Concurrency;
using Orleans.Placement;

namespace MendCluster.Grains;

/// <summary>
/// The address of a model's trainer. Reentrant: a run is watched and cancelled while it goes on, outside the grain's turns.
/// </summary>
[GrainType(PinnedPlacement.TrainerType), PinnedPlacement, KeepAlive, Immovable, Reentrant]
public sealed class EditorTrainerGrain(ClusterSettings settings, InFlightCalls requests, ILogger<EditorTrainer> logger) : Grain,
    IEditorTrainerGrain
{
    private TrainingJobs? _runs;

    private TrainingJobs Runs => _runs ??= new(settings.ModelDirectory, Replicas(), logger);

    public Task StartAsync(TrainingJobRequest order, CancellationToken cancellation = default) => Runs.StartAsync(order, cancellation);

    public IAsyncEnumerable<TrainingProgress> WatchAsync(string folder, long after, CancellationToken cancellation = default) =>
        Runs.WatchAsync(folder, after, cancellation);

    public Task<TrainingStatus?> FindAsync(string folder, CancellationToken cancellation = default) => Runs.FindAsync(folder, cancellation);

    public Task<TrainingResult> ResultAsync(string folder, CancellationToken cancellation = default) =>
        Runs.ResultAsync(folder, cancellation);

    public Task<TrainingResult> CancelAsync(string folder, CancellationToken cancellation = default) =>
        Runs.CancelAsync(folder, cancellation);

    public Task<bool> IsUnderWayAsync(Guid call) => Task.FromResult(requests.Has(call));

    /// <summary>Before another silo may have the trainer, this one has let go of the run's folder.</summary>
    public override Task OnDeactivateAsync(DeactivationReason reason, CancellationToken cancellationToken) => Runs.DisposeAsync().AsTask();

    private IReadOnlyList<IReadOnlyList<ITrainingShard>> Replicas()
    {
        var shards = GrainTrainingShard.In(GrainFactory, settings.Model);
        return [.. settings.Keys.Select(stages =>
            (IReadOnlyList<ITrainingShard>)[.. stages.Select(key => shards(new(key.Replica, key.Stage)))])];
    }
}
