using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests.Histories;

/// <summary>
/// Two replicas of two stages behind a network that loses, doubles and delays, a disk that is full now and then, and a coordinator that
/// dies at any moment. Its successor opens the ledger while messages of the dead one are still under way.
/// </summary>
internal sealed class FaultyCluster : IAsyncDisposable
{
    public const int Stages = 2;
    public const int Replicas = 2;

    private readonly ClusterOfTinyModel _model;
    private readonly string _ledger;
    private readonly bool _routes;
    private readonly Prng _rng;
    private readonly ModelText _text;
    private readonly ProbeSet _probes;
    private readonly byte[] _fingerprint;
    private readonly Clock _time = new();
    private readonly List<FaultyShard> _shards = [];
    private readonly List<Task> _late = [];
    private readonly Lock _lock = new();
    private Generation _current = null!;
    private Task _succession = Task.CompletedTask;
    private bool _isCalm = true;

    private FaultyCluster(ClusterOfTinyModel model, string ledger, int seed, bool routes)
    {
        (_model, _ledger, _rng, _routes) = (model, ledger, new((ulong)seed), routes);
        (_text, _fingerprint) = ModelText.Open(model.Model);
        _probes = new([new("what is red", "blue")], _text);
    }

    private enum Fault
    {
        None,
        RequestLost,
        ReplyLost,
        Doubled,
        Late,
        Restart,
        CoordinatorDies,
    }

    /// <param name="routes">By the router of the model.</param>
    public static async Task<FaultyCluster> StartAsync(ClusterOfTinyModel model, string ledger, int seed, bool routes)
    {
        var cluster = new FaultyCluster(model, ledger, seed, routes);
        for (var replica = 0; replica < Replicas; replica++)
            for (var stage = 0; stage < Stages; stage++)
                cluster._shards.Add(new(cluster, await cluster.NewShardAsync(replica, stage), replica, stage));
        cluster._current = cluster.NewGeneration();
        cluster._isCalm = false;
        return cluster;
    }

    /// <summary>A client's call: answered by the coordinator that lives when it is sent, or not at all when that one dies.</summary>
    public async Task<T> CallAsync<T>(Func<EditCoordinator, Task<T>> call)
    {
        Generation generation;
        lock (_lock)
            generation = _current;
        var answer = call(generation.Coordinator);
        await Task.WhenAny(answer, generation.Death.Task);
        if (!generation.Death.Task.IsCompleted)
            return await answer;
        Later(answer);
        throw new MendException(MendError.CoordinatorLost, "The coordinator died.", "Send it again.");
    }

    /// <summary>Ends all faults, lets everything that is under way arrive, and brings every shard up to date.</summary>
    public async Task<ShardStatus[]> CalmAsync()
    {
        Volatile.Write(ref _isCalm, true);
        while (true)
        {
            List<Task> late;
            Task succession;
            lock (_lock)
                (late, succession) = ([.. _late], _succession);
            await succession;
            await Task.WhenAll(late.Select(async task =>
            {
                try
                {
                    await task;
                }
                catch (Exception)
                {
                    // Nobody waited for it.
                }
            }));
            lock (_lock)
                if (_late.Count == late.Count && _succession == succession)
                    break;
        }
        _time.Advance(TimeSpan.FromMinutes(1)); // no replica is passed over any more
        for (var i = 0; i < Replicas; i++)
            await CallAsync(coordinator => coordinator.AskAsync("blue", new(MaxTokens: 1)));
        return await Task.WhenAll(_shards.Select(shard => shard.StatusAsync()));
    }

    public async ValueTask DisposeAsync()
    {
        await CalmAsync();
        _current.Coordinator.Dispose();
        _current.Routes?.Dispose();
        await _current.Ledger.DisposeAsync();
        foreach (var shard in _shards)
            await shard.DisposeAsync();
    }

    private async Task<IModelShard> NewShardAsync(int replica, int stage)
    {
        var shard = new ModelShard(new(_model.Model, _model.Editor, stage, Stages, Replica: replica), _time);
        await shard.LoadAsync();
        return shard;
    }

    private Generation NewGeneration()
    {
        var routes = _routes ? RouteTable.Open(_model.Router, _text, _fingerprint) : null;
        var ledger = FileLedger.Open(_ledger, routes?.LedgerFingerprint ?? _fingerprint);
        var generation = new Generation(ledger, routes);
        generation.Coordinator =
            new([.. _shards.Chunk(Stages)
            .Select(stages => stages.Select(shard => (IModelShard)new OfGeneration(shard, generation)).ToList())],
            new FaultyLedger(this, ledger, generation), _text, _probes, _time, routes: routes);
        return generation;
    }

    /// <summary>
    /// The coordinator's process is gone: its lock on the ledger, whatever it was about to do, and nothing that it has sent.
    /// </summary>
    private void Die(Generation generation)
    {
        lock (_lock)
        {
            if (_current != generation || !generation.Death.TrySetResult(true))
                return;
            _succession = SucceedAsync(generation);
        }
    }

    private async Task SucceedAsync(Generation dead)
    {
        await Task.Yield();
        await dead.Ledger.DisposeAsync();
        var next = NewGeneration();
        lock (_lock)
            _current = next;
    }

    private void Later(Task task)
    {
        lock (_lock)
            _late.Add(task);
    }

    private Fault Draw(Fault last)
    {
        lock (_lock)
        {
            if (_isCalm || _rng.Next(100) >= 6)
                return Fault.None;
            _time.Advance(TimeSpan.FromSeconds(_rng.Next(4)));
            return (Fault)(1 + _rng.Next((int)last));
        }
    }

    private int DrawDelay()
    {
        lock (_lock)
            return _rng.Next(8);
    }

    /// <summary>One life of the coordinator.</summary>
    private sealed class Generation(FileLedger ledger, RouteTable? routes)
    {
        public FileLedger Ledger => ledger;

        /// <summary>Of a dead one they are left as they are: its requests are still under way.</summary>
        public RouteTable? Routes => routes;

        public EditCoordinator Coordinator { get; set; } = null!;

        public TaskCompletionSource<bool> Death { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    /// <summary>A shard behind the network.</summary>
    private sealed class FaultyShard(FaultyCluster cluster, IModelShard shard, int replica, int stage) : ShardDecorator(shard)
    {
        public async Task<T> CallAsync<T>(Generation caller, Func<IModelShard, Task<T>> call)
        {
            var fault = cluster.Draw(Fault.CoordinatorDies);
            switch (fault)
            {
                case Fault.RequestLost:
                    throw new TimeoutException("the request was lost");
                case Fault.ReplyLost:
                    await call(Shard);
                    throw new TimeoutException("the reply was lost");
                case Fault.Doubled:
                    var first = call(Shard);
                    cluster.Later(call(Shard));
                    return await first;
                case Fault.Late:
                    cluster.Later(LaterAsync(call));
                    throw new TimeoutException("the request takes too long");
                case Fault.Restart:
                    var old = Shard;
                    Shard = await cluster.NewShardAsync(replica, stage);
                    await old.DisposeAsync();
                    break;
                case Fault.CoordinatorDies:
                    cluster.Die(caller);
                    break; // the message is under way all the same
            }
            return await call(Shard);
        }

        private async Task LaterAsync<T>(Func<IModelShard, Task<T>> call)
        {
            for (var i = cluster.DrawDelay(); i > 0; i--)
                await Task.Delay(1);
            await call(Shard);
        }
    }

    /// <summary>The way of one coordinator to a shard.</summary>
    private sealed class OfGeneration(FaultyShard shard, Generation generation) : ShardDecorator(shard)
    {
        public override Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default) =>
            shard.CallAsync(generation, async own =>
        {
            await own.ApplyAsync(records, cancellation);
            return true;
        });

        public override Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default) =>
            shard.CallAsync(generation, own => own.GenerateAsync(request, cancellation));

        public override Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default) =>
            shard.CallAsync(generation, own => own.ForwardAsync(request, cancellation));

        public override Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default) =>
            shard.CallAsync(generation, own => own.TryAsync(request, cancellation));

        public override Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default) =>
            shard.CallAsync(generation, own => own.BackwardAsync(request, cancellation));

        public override Task BranchAsync(BranchRequest request, CancellationToken cancellation = default) =>
            shard.CallAsync(generation, async own =>
        {
            await own.BranchAsync(request, cancellation);
            return true;
        });

        public override Task BeginFitAsync(BeginFitRequest request, CancellationToken cancellation = default) =>
            shard.CallAsync(generation, async own =>
        {
            await own.BeginFitAsync(request, cancellation);
            return true;
        });

        public override Task StepFitAsync(StepFitRequest request, CancellationToken cancellation = default) =>
            shard.CallAsync(generation, async own =>
        {
            await own.StepFitAsync(request, cancellation);
            return true;
        });

        public override Task<FitReply> TakeFitAsync(long session, CancellationToken cancellation = default) =>
            shard.CallAsync(generation, own => own.TakeFitAsync(session, cancellation));

        public override Task EndAsync(long session, CancellationToken cancellation = default) => shard.CallAsync(generation, async own =>
        {
            await own.EndAsync(session, cancellation);
            return true;
        });
    }

    private sealed class FaultyLedger(FaultyCluster cluster, FileLedger ledger, Generation generation) : IEditLedger
    {
        public IReadOnlyList<LedgerEntry> Entries => ledger.Entries;

        public async Task AppendAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default)
        {
            switch (cluster.Draw(Fault.Doubled))
            {
                case Fault.RequestLost:
                    throw new MendException(MendError.LedgerWriteFailed, "The disk is full.", "Make room.");
                case Fault.ReplyLost: // it dies just after the record is durable
                    await ledger.AppendAsync(records, cancellation);
                    cluster.Die(generation);
                    break;
                case Fault.Doubled: // it dies just before
                    cluster.Die(generation);
                    throw new ObjectDisposedException("the coordinator is dead");
                default:
                    await ledger.AppendAsync(records, cancellation);
                    break;
            }
        }

        public Task<IReadOnlyList<LedgerRecord>> ReadAfterAsync(ModelVersion version, CancellationToken cancellation = default) =>
            ledger.ReadAfterAsync(version, cancellation);

        public ValueTask DisposeAsync() => ledger.DisposeAsync();
    }

    private sealed class Clock : TimeProvider
    {
        private long _ticks = new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero).UtcTicks;

        public void Advance(TimeSpan by) => Interlocked.Add(ref _ticks, by.Ticks);

        /// <summary>Moves a little with every look, as clocks do.</summary>
        public override DateTimeOffset GetUtcNow() => new(Interlocked.Add(ref _ticks, 1000), TimeSpan.Zero);
    }
}
