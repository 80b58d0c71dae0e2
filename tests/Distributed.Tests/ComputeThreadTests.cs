using MendCluster.Distributed.Editing;

namespace MendCluster.Distributed.Tests;

public class ComputeThreadTests
{
    [Fact]
    public async Task AllWork_RunsOnOneThreadInOrder()
    {
        using var thread = new ComputeThread("test");
        var order = new List<int>();
        var threads = await Task.WhenAll(Enumerable.Range(0, 100).Select(i => thread.RunAsync(() =>
        {
            order.Add(i);
            return Environment.CurrentManagedThreadId;
        })));
        Assert.Equal(Enumerable.Range(0, 100), order);
        Assert.Single(threads.Distinct());
        Assert.NotEqual(Environment.CurrentManagedThreadId, threads[0]);
    }

    [Fact]
    public async Task AnException_ReachesTheCallerAndNotTheNext()
    {
        using var thread = new ComputeThread("test");
        var thrown = new InvalidDataException("broken");
        Assert.Same(thrown, await Assert.ThrowsAsync<InvalidDataException>(() => thread.RunAsync<int>(() => throw thrown)));
        Assert.Equal(7, await thread.RunAsync(() => 7));
    }

    [Fact]
    public async Task CancelledBeforeItsTurn_IsNotRun()
    {
        using var thread = new ComputeThread("test");
        using var source = new CancellationTokenSource();
        using var gate = new ManualResetEventSlim();
        var ran = false;
        var first = thread.RunAsync(() =>
        {
            gate.Wait();
            return 1;
        });
        var second = thread.RunAsync(() => ran = true, source.Token);
        await source.CancelAsync();
        gate.Set();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
        Assert.Equal(1, await first);
        Assert.False(ran);
    }

    [Fact]
    public async Task Stopping_FinishesWhatIsQueuedAndTakesNothingMore()
    {
        var thread = new ComputeThread("test");
        var queued = Enumerable.Range(0, 10).Select(i => thread.RunAsync(() => i)).ToList();
        thread.Dispose();
        thread.Dispose();
        Assert.Equal(Enumerable.Range(0, 10), await Task.WhenAll(queued));
        await Assert.ThrowsAsync<ObjectDisposedException>(() => thread.RunAsync(() => 1));
    }

    /// <summary>A continuation on the compute thread would hold up the shard, and wait for ever if it asked the same shard again.</summary>
    [Fact]
    public async Task WhatFollowsAnAwait_RunsElsewhere()
    {
        using var thread = new ComputeThread("test");
        var own = await thread.RunAsync(() => Environment.CurrentManagedThreadId);
        Assert.DoesNotContain(own, await Followers(thread));

        static async Task<List<int>> Followers(ComputeThread thread)
        {
            var followers = new List<int>();
            for (var i = 0; i < 20; i++)
            {
                await thread.RunAsync(() => i).ConfigureAwait(false);
                followers.Add(Environment.CurrentManagedThreadId);
            }
            return followers;
        }
    }
}
