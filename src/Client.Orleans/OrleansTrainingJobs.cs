using System.Runtime.CompilerServices;
using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;

namespace MendCluster.Client.Orleans;

/// <summary>
/// The runs of a cluster's trainer. A request is sent once: <see cref="OrleansTrainer"/> is for one that is to outlive a silo.
/// </summary>
public sealed class OrleansTrainingJobs(IEditorTrainerGrain trainer, TimeProvider time) : ITrainingJobs
{
    private readonly CallLivenessProbe _calls = new(trainer.IsUnderWayAsync, time);

    public Task StartAsync(TrainingJobRequest order, CancellationToken cancellation = default) => AskAsync(async () =>
    {
        await trainer.StartAsync(order, cancellation).ConfigureAwait(false);
        return true;
    }, cancellation);

    public async IAsyncEnumerable<TrainingProgress> WatchAsync(string run, long after,
        [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        var steps = trainer.WatchAsync(run, after, cancellation).GetAsyncEnumerator(cancellation);
        try
        {
            while (await LostAsync(() => steps.MoveNextAsync().AsTask(), cancellation).ConfigureAwait(false))
                yield return steps.Current;
        }
        finally
        {
            await steps.DisposeAsync().ConfigureAwait(false);
        }
    }

    public Task<TrainingStatus?> FindAsync(string run, CancellationToken cancellation = default) =>
        AskAsync(() => trainer.FindAsync(run, cancellation), cancellation);

    public Task<TrainingResult> ResultAsync(string run, CancellationToken cancellation = default) =>
        AskAsync(() => trainer.ResultAsync(run, cancellation), cancellation);

    public Task<TrainingResult> CancelAsync(string run, CancellationToken cancellation = default) =>
        AskAsync(() => trainer.CancelAsync(run, cancellation), cancellation);

    private Task<T> AskAsync<T>(Func<Task<T>> ask, CancellationToken cancellation) => LostAsync(() => _calls.RunAsync(ask), cancellation);

    private static async Task<T> LostAsync<T>(Func<Task<T>> ask, CancellationToken cancellation)
    {
        try
        {
            return await ask().ConfigureAwait(false);
        }
        catch (Exception e) when (e is not MendException && !(e is OperationCanceledException && cancellation.IsCancellationRequested))
        {
            throw new MendException(MendError.CoordinatorLost, $"The trainer does not answer: {e.Message}",
                "Look whether the cluster's silos run, then send the request again: a run goes on from its last checkpoint.", e);
        }
    }
}
