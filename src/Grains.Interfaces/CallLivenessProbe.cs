namespace MendCluster.Grains.Interfaces;

/// <summary>
/// Calls that do not wait for what is gone. A call or its answer is lost with the silo that carries it, which may be a gateway and none of
/// those that the caller knows of; nobody tells, and timeouts are as long as the longest honest answer. So whoever waits asks in between
/// whether the call is still under way.
/// </summary>
/// <param name="isUnderWay">Asks the grain that was called; see <see cref="InFlightCalls"/>.</param>
public sealed class CallLivenessProbe(Func<Guid, Task<bool>> isUnderWay, TimeProvider time)
{
    /// <summary>Under this name the call's number travels with it.</summary>
    internal const string Number = "mend.call";

    /// <summary>Before it is given up: an answer may be on its way just when the question is asked, or the silo busy.</summary>
    private const int MaxSilent = 3;

    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(2);

    /// <param name="send">A cancelled call is waited for too: its answer says whether it was stopped in time.</param>
    /// <exception cref="TimeoutException">The call is lost, or whoever has it does not answer.</exception>
    public async Task<T> RunAsync<T>(Func<Task<T>> send)
    {
        var call = Guid.NewGuid();
        RequestContext.Set(Number, call);
        var request = send();
        using var answered = new CancellationTokenSource();
        var gone = GoneAsync(call, answered.Token);
        if (await Task.WhenAny(request, gone).ConfigureAwait(false) == gone)
        {
            _ = request.ContinueWith(late => late.Exception, TaskScheduler.Default); // nobody waits for its failure any more
            throw new TimeoutException("The call is no longer under way, and was not answered.");
        }
        await answered.CancelAsync().ConfigureAwait(false);
        return await request.ConfigureAwait(false);
    }

    /// <summary>Ends when the call is found gone several times in a row, or with the call.</summary>
    private async Task GoneAsync(Guid call, CancellationToken answered)
    {
        RequestContext.Remove(Number); // the question must not pass for the call itself
        for (var silent = 0; silent < MaxSilent && !answered.IsCancellationRequested;)
            try
            {
                await Task.Delay(Pause, time, answered).ConfigureAwait(false);
                silent = await isUnderWay(call).ConfigureAwait(false) ? 0 : silent + 1;
            }
            catch (Exception)
            {
                silent++; // or the call was answered, and the loop ends
            }
    }
}

/// <summary>What a silo's grains are doing just now, by the numbers of <see cref="CallLivenessProbe"/>.</summary>
public sealed class InFlightCalls : IIncomingGrainCallFilter
{
    private readonly HashSet<Guid> _calls = [];
    private readonly Lock _lock = new();

    public bool Has(Guid call)
    {
        lock (_lock)
            return _calls.Contains(call);
    }

    public async Task Invoke(IIncomingGrainCallContext context)
    {
        if (RequestContext.Get(CallLivenessProbe.Number) is not Guid call || !Begin(call))
        {
            await context.Invoke();
            return;
        }
        try
        {
            await context.Invoke();
        }
        finally
        {
            lock (_lock)
                _calls.Remove(call);
        }
    }

    private bool Begin(Guid call)
    {
        lock (_lock)
            return _calls.Add(call);
    }
}
