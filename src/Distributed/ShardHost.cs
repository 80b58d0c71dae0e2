using MendCluster.Contracts;

namespace MendCluster.Distributed;

/// <summary>
/// Owns the shards of one process. Whoever stands for a shard towards a cluster comes and goes; weights, sessions and compute threads stay here.
/// Loading takes minutes for a large model: meanwhile a shard is asked for its state and refuses the rest at once.
/// </summary>
public sealed class ShardHost(IEnumerable<ShardOptions> shards, TimeProvider time) : IAsyncDisposable
{
    private readonly Dictionary<int, ModelShard> _shards = shards.ToDictionary(options => options.Stage, options => new ModelShard(options, time));
    private Task _loading = Task.CompletedTask;

    /// <summary>The stages that are here.</summary>
    public IReadOnlyCollection<int> Stages => _shards.Keys;

    /// <summary>Loads all shards. One that fails is <see cref="ShardState.Faulted"/> and says why; the others are not held up.</summary>
    public Task LoadAsync(CancellationToken cancellation = default) => _loading = Task.WhenAll(_shards.Values.Select(async shard =>
    {
        try
        {
            await shard.LoadAsync(cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            // Its state has the reason.
        }
    }));

    public Task<ShardStatus> StatusAsync(int stage, CancellationToken cancellation = default) => _loading.IsCompleted
        ? Shard(stage).StatusAsync(cancellation)
        : Task.FromResult(new ShardStatus(ShardState.Loading, ModelVersion.Base, 0, 0, [], 0, null));

    /// <exception cref="MendException">The stage is not here, or is being loaded.</exception>
    public IModelShard Get(int stage) => _loading.IsCompleted ? Shard(stage)
        : throw new MendException(MendError.ShardLost, $"Stage {stage} is being loaded.", "Send the request again when it is ready.");

    public async ValueTask DisposeAsync()
    {
        foreach (var shard in _shards.Values)
            await shard.DisposeAsync().ConfigureAwait(false);
    }

    private ModelShard Shard(int stage) => _shards.GetValueOrDefault(stage)
        ?? throw new MendException(MendError.ShardLost, $"Stage {stage} is not on this machine, which has {string.Join(", ", _shards.Keys)}.", "Correct the cluster's layout.");
}
