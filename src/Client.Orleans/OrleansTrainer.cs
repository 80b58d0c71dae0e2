using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;

namespace MendCluster.Client.Orleans;

/// <summary>
/// A run on a cluster of silos. It goes on there when this client goes away; whoever sends the same order watches it again. When the trainer's silo
/// is lost the order is sent again for a while, and another silo, or the same one, goes on from the last checkpoint. Cancelling ends the run.
/// </summary>
public sealed class OrleansTrainer(IEditorTrainerGrain trainer, TrainingOrder order, TimeProvider time) : IEditorTrainer
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromMilliseconds(50);
    private static readonly TimeSpan LongestPause = TimeSpan.FromSeconds(2);

    private readonly WatchedCalls _calls = new(trainer.IsUnderWayAsync, time);

    /// <summary>How long the order is sent again while the run comes no further.</summary>
    /// <value>30 seconds.</value>
    public TimeSpan Patience { get; set; } = TimeSpan.FromSeconds(30);

    public async Task<TrainingResult> TrainAsync(IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        long furthest = 0;
        long? lost = null;
        var pause = FirstPause;
        for (; ; pause = pause + pause < LongestPause ? pause + pause : LongestPause)
            try
            {
                if (lost is not null)
                    await Task.Delay(pause, time, cancellation).ConfigureAwait(false);
                await _calls.RunAsync(StartAsync).ConfigureAwait(false);
                await WatchAsync().WaitAsync(cancellation).ConfigureAwait(false); // without the token: what is watched ends with the run
                return await _calls.RunAsync(() => trainer.ResultAsync(order.Run, cancellation)).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
            {
                return await _calls.RunAsync(() => trainer.CancelAsync(order.Run, CancellationToken.None)).ConfigureAwait(false);
            }
            catch (Exception e)
            {
                var failure = e as MendException ?? new(MendError.CoordinatorLost, $"The trainer does not answer: {e.Message}",
                    "Look whether the cluster's silos run, then send the order again: the run goes on from its last checkpoint.", e);
                lost ??= time.GetTimestamp();
                if (!failure.IsTransient || time.GetElapsedTime(lost.Value) > Patience)
                    throw failure;
            }

        async Task WatchAsync()
        {
            await foreach (var step in trainer.WatchAsync(order.Run, furthest, CancellationToken.None).ConfigureAwait(false))
            {
                (furthest, lost, pause) = (step.Iteration, null, FirstPause);
                progress?.Report(step);
            }
        }
    }

    private async Task<bool> StartAsync()
    {
        await trainer.StartAsync(order).ConfigureAwait(false);
        return true;
    }
}
