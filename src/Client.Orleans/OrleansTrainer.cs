using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace MendCluster.Client.Orleans;

/// <summary>
/// A run on a cluster of silos. It goes on there when this client goes away; whoever sends the same order watches it again. When the
/// trainer's silo is lost the order is sent again for a while, and another silo, or the same one, goes on from the last checkpoint.
/// Cancelling ends the run.
/// </summary>
/// <param name="logger">Told of orders that are sent again; null: nobody is.</param>
public sealed class OrleansTrainer(
    IEditorTrainerGrain trainer, TrainingJobRequest order, TimeProvider time, ILogger? logger = null) : IEditorTrainer
{
    private readonly CallLivenessProbe _calls = new(trainer.IsUnderWayAsync, time);
    private readonly RequestRetry _retry = new(time, logger ?? NullLogger.Instance);

    /// <summary>How long the order is sent again while the run comes no further.</summary>
    /// <value>30 seconds.</value>
    public TimeSpan RetryTimeout { get; set; } = TimeSpan.FromSeconds(30);

    public async Task<TrainingResult> TrainAsync(IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        long furthest = 0;
        try
        {
            return await _retry.RunAsync(SendAsync, RetryTimeout, cancellation).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            return await _calls.RunAsync(() => trainer.CancelAsync(order.Run, CancellationToken.None)).ConfigureAwait(false);
        }

        async Task<TrainingResult> SendAsync(RequestRetry.Window window)
        {
            try
            {
                await _calls.RunAsync(StartAsync).ConfigureAwait(false);
                await WatchAsync(window).WaitAsync(cancellation).ConfigureAwait(false); // without the token: the run has its own end
                return await _calls.RunAsync(() => trainer.ResultAsync(order.Run, cancellation)).ConfigureAwait(false);
            }
            catch (Exception e) when (e is not MendException && !(e is OperationCanceledException && cancellation.IsCancellationRequested))
            {
                throw new MendException(MendError.CoordinatorLost, $"The trainer does not answer: {e.Message}",
                    "Look whether the cluster's silos run, then send the order again: the run goes on from its last checkpoint.", e);
            }
        }

        async Task WatchAsync(RequestRetry.Window window)
        {
            await foreach (var step in trainer.WatchAsync(order.Run, furthest, CancellationToken.None).ConfigureAwait(false))
            {
                furthest = step.Iteration;
                window.CameFurther();
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
