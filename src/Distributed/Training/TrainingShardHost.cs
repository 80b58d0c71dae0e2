using MendCluster.Contracts;

namespace MendCluster.Distributed.Training;

/// <summary>
/// Owns the training shards of one process. A shard is made when it is first asked for; until a run opens it, it holds nothing.
/// </summary>
/// <param name="shards">Those that belong here.</param>
/// <param name="peers">Finds the shards of a run, here or elsewhere.</param>
public sealed class TrainingShardHost(IEnumerable<TrainingShardOptions> shards, Func<ShardPlace, ITrainingShard> peers) : IAsyncDisposable
{
    private readonly Dictionary<ShardPlace, Lazy<TrainingShard>> _shards =
        shards.ToDictionary(options => options.Place, options => new Lazy<TrainingShard>(() => new(options, peers)));

    /// <exception cref="MendException">The shard is not here.</exception>
    public ITrainingShard Get(ShardPlace place) => _shards.TryGetValue(place, out var shard) ? shard.Value
        : throw new MendException(MendError.ShardLost,
        $"The training shard of {place} is not on this machine, which has {string.Join("; ", _shards.Keys)}.",
        "Correct the cluster's layout.");

    public async ValueTask DisposeAsync()
    {
        foreach (var shard in _shards.Values.Where(shard => shard.IsValueCreated))
            await shard.Value.DisposeAsync().ConfigureAwait(false);
    }
}
