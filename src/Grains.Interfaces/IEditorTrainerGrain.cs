using MendCluster.Contracts;
using Orleans.CodeGeneration;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// Trains editors of one model, one run at a time; the key is the model's name in the cluster. A run goes on whether anybody watches or
/// not. It is named by its folder, so that nobody watches or ends another's.
/// </summary>
[Alias("mend.EditorTrainer"), Version(WireProtocol.Version)]
public interface IEditorTrainerGrain : IGrainWithStringKey
{
    /// <summary>Begins a run, or joins the one that the same order began. Returns when the order was found good.</summary>
    [Alias("start"), ResponseTimeout("00:30:00")]
    Task StartAsync(TrainingJobRequest order, CancellationToken cancellation = default);

    /// <summary>Every step of a run, and those to come until it ends, however it does.</summary>
    /// <param name="after">Only those of later iterations.</param>
    [Alias("watch")]
    IAsyncEnumerable<TrainingProgress> WatchAsync(string folder, long after, CancellationToken cancellation = default);

    /// <summary>Where a run is; null: none of this folder is known.</summary>
    [Alias("find")]
    Task<TrainingStatus?> FindAsync(string folder, CancellationToken cancellation = default);

    /// <summary>How a run ended; waits for it.</summary>
    [Alias("result"), ResponseTimeout("00:30:00")]
    Task<TrainingResult> ResultAsync(string folder, CancellationToken cancellation = default);

    /// <summary>Ends a run before its time, and waits until it has ended.</summary>
    [Alias("cancel"), ResponseTimeout("00:30:00")]
    Task<TrainingResult> CancelAsync(string folder, CancellationToken cancellation = default);

    /// <summary>Whether a call is being carried out here; see <see cref="CallLivenessProbe"/>.</summary>
    [Alias("isUnderWay"), ResponseTimeout("00:00:05")]
    Task<bool> IsUnderWayAsync(Guid call);
}
