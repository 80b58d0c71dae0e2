using MendCluster.Contracts;

namespace MendCluster.Testing;

/// <summary>
/// A shard whose process dies just before a call and is started anew: loaded, at version 0, with no sessions. What it kept is gone.
/// </summary>
/// <param name="shard">The first one.</param>
/// <param name="start">Makes the next one, not loaded.</param>
public sealed class RestartingShard(IModelShard shard, Func<IModelShard> start) : InterruptedShard(shard)
{
    private ShardStep? _step;
    private int _passedOver;

    /// <summary>Whether the fault is still to come.</summary>
    public bool IsArmed => _step is not null;

    /// <param name="passedOver">Calls of this kind that come through before.</param>
    public void Arm(ShardStep step, int passedOver = 0) => (_step, _passedOver) = (step, passedOver);

    protected override async Task MeetAsync(ShardStep step)
    {
        if (_step != step || _passedOver-- > 0)
            return;
        _step = null;
        await Shard.DisposeAsync();
        Shard = start();
        await Shard.LoadAsync();
    }
}
