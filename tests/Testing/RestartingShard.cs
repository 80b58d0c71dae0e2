using MendCluster.Contracts;

namespace MendCluster.Testing;

/// <summary>The calls of a shard that a fault can meet.</summary>
public enum ShardStep
{
    Generate,
    Record,
    Backward,
    TryBefore,
    TryAfter,
    Apply,
    End,
}

/// <summary>
/// A shard whose process dies just before a call and is started anew: loaded, at version 0, with no sessions. What it kept is gone.
/// </summary>
/// <param name="shard">The first one.</param>
/// <param name="start">Makes the next one, not loaded.</param>
public sealed class RestartingShard(IModelShard shard, Func<IModelShard> start) : IModelShard
{
    private IModelShard _shard = shard;
    private ShardStep? _step;
    private int _passedOver;

    /// <summary>Whether the fault is still to come.</summary>
    public bool IsArmed => _step is not null;

    /// <param name="passedOver">Calls of this kind that come through before.</param>
    public void Arm(ShardStep step, int passedOver = 0) => (_step, _passedOver) = (step, passedOver);

    public Task<ShardStatus> LoadAsync(CancellationToken cancellation = default) => _shard.LoadAsync(cancellation);

    public Task<ShardStatus> StatusAsync(CancellationToken cancellation = default) => _shard.StatusAsync(cancellation);

    public async Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default)
    {
        await MeetAsync(ShardStep.Apply);
        await _shard.ApplyAsync(records, cancellation);
    }

    public async Task<StageReply> ForwardAsync(StageRequest request, CancellationToken cancellation = default)
    {
        await MeetAsync(Enum.Parse<ShardStep>(request.Purpose.ToString()));
        return await _shard.ForwardAsync(request, cancellation);
    }

    public async Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default)
    {
        await MeetAsync(ShardStep.Backward);
        return await _shard.BackwardAsync(request, cancellation);
    }

    public async Task EndAsync(long session, CancellationToken cancellation = default)
    {
        await MeetAsync(ShardStep.End);
        await _shard.EndAsync(session, cancellation);
    }

    public ValueTask DisposeAsync() => _shard.DisposeAsync();

    private async Task MeetAsync(ShardStep met)
    {
        if (_step != met || _passedOver-- > 0)
            return;
        _step = null;
        await _shard.DisposeAsync();
        _shard = start();
        await _shard.LoadAsync();
    }
}
