using MendCluster.Contracts;
using Microsoft.Extensions.Logging;
using Polly;

namespace MendCluster.Client.Orleans;

/// <summary>
/// Sends a request again while what it met may pass, after growing pauses of random length: clients that met the same fault do not come
/// back all at once. Whoever sends sees to it that a request which was carried out, and its answer lost, does no harm when sent again.
/// </summary>
internal sealed class RequestRetry(TimeProvider time, ILogger logger)
{
    private static readonly ResiliencePropertyKey<Window> Key = new("mend.retry");

    private readonly ResiliencePipeline _pipeline = new ResiliencePipelineBuilder { TimeProvider = time }.AddRetry(new()
    {
        ShouldHandle = attempt => ValueTask.FromResult(
            attempt.Outcome.Exception is MendException { IsTransient: true } && attempt.Context.Properties.GetValue(Key, null!).IsOpen()),
        BackoffType = DelayBackoffType.Exponential,
        UseJitter = true,
        Delay = TimeSpan.FromMilliseconds(50),
        MaxDelay = TimeSpan.FromSeconds(2),
        MaxRetryAttempts = int.MaxValue, // the window's end comes first
        OnRetry = retry =>
        {
            logger.Retried(retry.Outcome.Exception, retry.AttemptNumber + 1, retry.RetryDelay);
            return ValueTask.CompletedTask;
        },
    }).Build();

    /// <param name="send">One attempt. It may say that the request came further, which begins the time anew.</param>
    /// <param name="total">From an attempt's failure on.</param>
    /// <exception cref="MendException">What the last attempt met.</exception>
    public async Task<T> RunAsync<T>(Func<Window, Task<T>> send, TimeSpan total, CancellationToken cancellation)
    {
        var context = ResilienceContextPool.Shared.Get(cancellation);
        var window = new Window(total, time);
        context.Properties.Set(Key, window);
        try
        {
            return await _pipeline.ExecuteAsync(async _ => await send(window).ConfigureAwait(false), context).ConfigureAwait(false);
        }
        finally
        {
            ResilienceContextPool.Shared.Return(context);
        }
    }

    /// <summary>The time in which a request is sent again: from the first failure, and anew from the next after it came further.</summary>
    internal sealed class Window(TimeSpan total, TimeProvider time)
    {
        private long? _failed;

        public void CameFurther() => _failed = null;

        public bool IsOpen() => time.GetElapsedTime(_failed ??= time.GetTimestamp()) < total;
    }
}
