using System.Collections.Concurrent;
using MendCluster.Engine.Torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// One thread with a queue, the home of one shard's tensors: dispose scopes and grad mode belong to a thread, so all of a shard's
/// arithmetic runs here, one call after another. Whoever waits for a result waits without a thread.
/// </summary>
public sealed class ComputeThread : IDisposable
{
    private const int MaxWaiting = 1024;

    private readonly BlockingCollection<Action> _queue = new(MaxWaiting);
    private readonly Thread _thread;
    private bool _stopped;

    /// <param name="name">Seen in debuggers and dumps.</param>
    public ComputeThread(string name)
    {
        _thread = new(Work) { Name = name, IsBackground = true };
        _thread.Start();
    }

    /// <summary>Calls whose turn has not come.</summary>
    public int Waiting => _queue.Count;

    /// <summary>Runs the work when its turn comes.</summary>
    /// <param name="cancellation">Takes the work out of the queue; once begun it is finished.</param>
    /// <exception cref="ObjectDisposedException">The thread has been stopped.</exception>
    public async Task<T> RunAsync<T>(Func<T> work, CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        var completion = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        void Run()
        {
            if (cancellation.IsCancellationRequested)
            {
                completion.TrySetCanceled(cancellation);
                return;
            }
            try
            {
                completion.TrySetResult(work());
            }
            catch (Exception e) // carried to whoever awaits; the thread serves the next
            {
                completion.TrySetException(DeviceMemory.Named(e));
            }
        }
        try
        {
            _queue.Add(Run, cancellation);
        }
        catch (InvalidOperationException)
        {
            throw new ObjectDisposedException(_thread.Name, "the shard has been stopped");
        }
        return await completion.Task.ConfigureAwait(false);
    }

    /// <summary>Lets the queue run out and ends the thread.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _stopped, true))
            return;
        _queue.CompleteAdding();
        _thread.Join();
        _queue.Dispose();
    }

    private void Work()
    {
        foreach (var work in _queue.GetConsumingEnumerable())
            work();
    }
}
