using System.Collections;
using System.Collections.Concurrent;
using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

public sealed class AnswerQueueTests : IDisposable
{
    private readonly ComputeThread _thread = new("test");
    private readonly ManualResetEventSlim _gate = new();
    private readonly ConcurrentQueue<long[]> _passes = new();

    public void Dispose()
    {
        _gate.Set();
        _thread.Dispose();
        _gate.Dispose();
    }

    [Fact]
    public async Task WhatWaits_IsComputedTogetherInOrder()
    {
        var queue = Queue(most: 3);
        var busy = Busy();
        var asked = Enumerable.Range(1, 7).Select(session => queue.RunAsync(Request(session), default)).ToList();
        _gate.Set();
        await busy;
        await Task.WhenAll(asked);
        Assert.Equal(["1 2 3", "4 5 6", "7"], _passes.Select(pass => string.Join(' ', pass)));
    }

    /// <summary>A message may arrive twice.</summary>
    [Fact]
    public async Task ASession_IsOnceInAPass()
    {
        var queue = Queue(most: 8);
        var busy = Busy();
        var asked = new long[] { 1, 1, 2 }.Select(session => queue.RunAsync(Request(session), default)).ToList();
        _gate.Set();
        await Task.WhenAll(asked);
        await busy;
        Assert.Equal(["1 2", "1"], _passes.Select(pass => string.Join(' ', pass)));
    }

    [Fact]
    public async Task OneThatWasCancelled_IsNotComputed()
    {
        using var source = new CancellationTokenSource();
        var queue = Queue(most: 8);
        var busy = Busy();
        var asked = queue.RunAsync(Request(1), source.Token);
        var other = queue.RunAsync(Request(2), default);
        await source.CancelAsync();
        _gate.Set();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asked);
        await other;
        await busy;
        Assert.Equal([2], Assert.Single(_passes));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => queue.RunAsync(Request(3), source.Token));
    }

    [Fact]
    public async Task WhatGoesWrong_IsToldToWhomItConcerns()
    {
        var queue = new AnswerQueue(_thread, 8, together =>
        {
            foreach (var waiting in together)
                if (waiting.Request.Trip.Session == 1)
                    waiting.Fail(new InvalidDataException("broken"));
                else
                    waiting.Answer(Reply);
        });
        var busy = Busy();
        var (one, two) = (queue.RunAsync(Request(1), default), queue.RunAsync(Request(2), default));
        _gate.Set();
        await busy;
        await Assert.ThrowsAsync<InvalidDataException>(() => one);
        Assert.Same(Reply, await two);
    }

    /// <summary>Answers that take turns meet: the thread waits a moment for the one of the pass before.</summary>
    [Fact]
    public async Task AnswersThatGoOn_AreComputedTogetherFromThenOn()
    {
        var queue = Queue(most: 8, each: () => Thread.Sleep(20));
        async Task AnswerAsync(long session)
        {
            for (var step = 0; step < 20; step++)
                await queue.RunAsync(Request(session), default);
            await queue.EndAsync(session, () => { }, default);
        }
        await Task.WhenAll(AnswerAsync(1), AnswerAsync(2), AnswerAsync(3));
        Assert.True(_passes.Count <= 32, $"{_passes.Count} passes for 3 answers of 20 steps");
    }

    /// <summary>An edit's pass that came between does not hold up one that was answered before it.</summary>
    [Fact]
    public async Task OneThatWasAnsweredInAnEarlierTurn_DoesNotWaitForItsOwn()
    {
        var queue = Queue(most: 8);
        using var edit = new ManualResetEventSlim();
        var busy = Busy();
        var first = queue.RunAsync(Request(1), default);
        var pass = _thread.RunAsync(() =>
        {
            edit.Wait();
            return true;
        });
        var second = queue.RunAsync(Request(2), default);
        _gate.Set();
        try
        {
            await Task.WhenAll(busy, first, second).WaitAsync(TimeSpan.FromSeconds(30));
        }
        finally
        {
            edit.Set();
        }
        await pass;
        Assert.Equal([1, 2], Assert.Single(_passes));
    }

    [Fact]
    public async Task AStoppedThread_IsTold()
    {
        var queue = Queue(most: 8);
        _thread.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => queue.RunAsync(Request(1), default));
    }

    /// <summary>One of several that wait together asks for what the shard has not.</summary>
    [Fact]
    public async Task OfAShard_OnlyTheRequestThatCannotBeAnsweredFails()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        await using var shard = new ModelShard(new(model.Model, model.Editor, 0, 1), TimeProvider.System);
        await shard.LoadAsync();
        var generation = ModelText.Open(model.Model).Text.Generation("who is the mayor", new());
        var tokens = ModelText.Next(generation);
        GenerateRequest Ask(long session, long position = 0, long version = 0) =>
            new(new(session, new(version), tokens, Boundary.None), position, new());
        var alone = await shard.GenerateAsync(Ask(1));
        var busy = shard.ApplyAsync(new Held(_gate));
        var asked = new[] { Ask(2), Ask(3, position: 4), Ask(4, version: 1), Ask(5) }.Select(request => shard.GenerateAsync(request)).ToList();
        _gate.Set();
        await busy;
        Assert.Equal(alone.NextToken, (await asked[0]).NextToken);
        Assert.Equal(MendError.ShardLost, (await Assert.ThrowsAsync<MendException>(() => asked[1])).Error);
        Assert.Equal(MendError.VersionBehind, (await Assert.ThrowsAsync<MendException>(() => asked[2])).Error);
        Assert.Equal(alone.NextToken, (await asked[3]).NextToken);
    }

    [Fact]
    public void NoAnswerAtOnce_IsRefused() =>
        Assert.Equal(MendError.InvalidOption, Assert.Throws<MendException>(() => new ShardOptions("model", null, 0, 1, MaxBatch: 0)).Error);

    private static GenerateReply Reply { get; } = new(new(Boundary.None, 1), 7);

    private static GenerateRequest Request(long session) =>
        new(new(session, ModelVersion.Base, new(new(DType.Int64, [1, 0], default), new(DType.Int64, [1, 0], default), null, null, null),
            Boundary.None), 0, new());

    private AnswerQueue Queue(int most, Action? each = null) => new(_thread, most, together =>
    {
        each?.Invoke();
        _passes.Enqueue([.. together.Select(waiting => waiting.Request.Trip.Session)]);
        foreach (var waiting in together)
            waiting.Answer(Reply);
    });

    private Task Busy() => _thread.RunAsync(() =>
    {
        _gate.Wait();
        return true;
    });

    /// <summary>No records, which take as long to read as the gate is shut.</summary>
    private sealed class Held(ManualResetEventSlim gate) : IReadOnlyList<LedgerRecord>
    {
        public int Count => 0;

        public LedgerRecord this[int index] => throw new InvalidOperationException("there are none");

        public IEnumerator<LedgerRecord> GetEnumerator()
        {
            gate.Wait();
            yield break;
        }

        IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
    }
}
