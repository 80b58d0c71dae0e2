using System.Diagnostics;
using MendCluster.Contracts;
using MendCluster.Engine.Torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// Requests for next tokens that wait for a shard's compute thread. What waits when the thread comes is handed over together, so answers
/// join and leave between two tokens. The next request of an answer comes a moment after the reply to its last; so the thread waits that
/// moment for the answers of its last pass, unless it has other work: answers that take turns would never meet.
/// </summary>
/// <param name="most">Requests that are handed over together, at most.</param>
/// <param name="compute">Answers each of them, one way or the other. Each is of another session.</param>
internal sealed class AnswerQueue(ComputeThread thread, int most, Action<IReadOnlyList<AnswerQueue.Waiting>> compute)
{
    /// <summary>The thread waits for a fourth of its last pass, within these.</summary>
    private static readonly TimeSpan MinPause = TimeSpan.FromMilliseconds(1), MaxPause = TimeSpan.FromMilliseconds(5);

    private readonly object _lock = new(); // for Monitor.Wait
    private readonly List<Waiting> _waiting = [];
    private HashSet<long> _last = [];
    private int _light;
    private TimeSpan _pause; // on the compute thread

    /// <param name="cancellation">Takes the request out of the queue; once begun it is finished.</param>
    /// <exception cref="ObjectDisposedException">The thread has been stopped.</exception>
    public async Task<GenerateReply> RunAsync(GenerateRequest request, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        var waiting = new Waiting(request, cancellation);
        lock (_lock)
        {
            _waiting.Add(waiting);
            Monitor.Pulse(_lock);
        }
        _ = TakeTurnAsync(waiting);
        return await waiting.Reply.ConfigureAwait(false);
    }

    /// <summary>The request's turn. It may be answered in an earlier one, and does not wait for this.</summary>
    private async Task TakeTurnAsync(Waiting waiting)
    {
        try
        {
            await RunLightAsync(Turn_OnComputeThread, CancellationToken.None).ConfigureAwait(false);
        }
        catch (Exception e) // the thread has been stopped
        {
            waiting.Fail(e);
        }
    }

    /// <summary>Ends a session: it is not waited for.</summary>
    /// <param name="end">What else is to be done, on the compute thread.</param>
    public Task EndAsync(long session, Action end, CancellationToken cancellation)
    {
        lock (_lock)
        {
            _last.Remove(session);
            Monitor.Pulse(_lock);
        }
        return RunLightAsync(end, cancellation);
    }

    /// <summary>Work for which the thread's moment need not end.</summary>
    private async Task RunLightAsync(Action work, CancellationToken cancellation)
    {
        Interlocked.Increment(ref _light);
        try
        {
            await thread.RunAsync(() =>
            {
                work();
                return true;
            }, cancellation).ConfigureAwait(false);
        }
        finally
        {
            Interlocked.Decrement(ref _light);
        }
    }

    /// <summary>Every request has a turn; one that finds its request done does nothing.</summary>
    private void Turn_OnComputeThread()
    {
        if (Taken() is not { Count: > 0 } together)
            return;
        var start = Stopwatch.GetTimestamp();
        compute(together);
        _pause = TimeSpan.FromTicks(Math.Clamp(Stopwatch.GetElapsedTime(start).Ticks / 4, MinPause.Ticks, MaxPause.Ticks));
    }

    private List<Waiting> Taken()
    {
        lock (_lock)
        {
            for (var start = Stopwatch.GetTimestamp(); IsWorthWaiting() && Stopwatch.GetElapsedTime(start) < _pause;)
                Monitor.Wait(_lock, MinPause);
            List<Waiting> taken = [.. _waiting.DistinctBy(waiting => waiting.Request.Trip.Session).Take(most)];
            _waiting.RemoveAll(taken.Contains);
            if (taken.Count > 0)
                _last = [.. taken.Select(waiting => waiting.Request.Trip.Session)];
            return [.. taken.Where(waiting => !waiting.IsCancelled())];
        }
    }

    private bool IsWorthWaiting() => _waiting.Count is var there && there > 0 && there < most && thread.Waiting < Volatile.Read(ref _light)
        && _last.Any(session => _waiting.All(waiting => waiting.Request.Trip.Session != session));

    /// <summary>A request with the promise of its reply.</summary>
    internal sealed class Waiting(GenerateRequest request, CancellationToken cancellation)
    {
        private readonly TaskCompletionSource<GenerateReply> _reply = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public GenerateRequest Request => request;

        public Task<GenerateReply> Reply => _reply.Task;

        public bool IsCancelled() => cancellation.IsCancellationRequested && _reply.TrySetCanceled(cancellation);

        public void Answer(GenerateReply reply) => _reply.TrySetResult(reply);

        public void Fail(Exception why) => _reply.TrySetException(DeviceMemory.Named(why));
    }
}
