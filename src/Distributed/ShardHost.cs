using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Telemetry;
using MendCluster.Engine.Torch;
using Microsoft.Extensions.Logging;

namespace MendCluster.Distributed;

/// <summary>
/// Owns the shards of one process. Whoever stands for a shard towards a cluster comes and goes; weights, sessions and compute threads stay
/// here. Loading takes minutes for a large model: meanwhile a shard is asked for its state and refuses the rest at once.
/// </summary>
/// <param name="logger">Null: nothing is logged.</param>
public sealed class ShardHost(IEnumerable<ShardOptions> shards, TimeProvider time, ILogger? logger = null) : IAsyncDisposable
{
    private readonly Dictionary<(int Replica, int Stage), ModelShard> _shards =
        shards.ToDictionary(options => (options.Replica, options.Stage), options => new ModelShard(options, time));
    private Task _loading = Task.CompletedTask;

    /// <summary>One line for the log: which libtorch, how many threads, how they wait, which devices.</summary>
    /// <exception cref="TypeInitializationException">
    /// A setting of the process cannot be used; its innermost exception says which.
    /// </exception>
    public static string Runtime => TorchRuntime.Description;

    /// <summary>Loads all shards. One that fails is <see cref="ShardState.Faulted"/> and says why; the others are not held up.</summary>
    public Task LoadAsync(CancellationToken cancellation = default) => _loading = Task.WhenAll(_shards.Select(async entry =>
    {
        try
        {
            var status = await entry.Value.LoadAsync(cancellation).ConfigureAwait(false);
            logger?.ShardLoaded(entry.Key.Stage, entry.Key.Replica, status.FirstLayer, status.EndLayer - 1, status.WeightBytes);
        }
        catch (Exception e) when (e is not OperationCanceledException)
        {
            logger?.ShardFaulted(entry.Key.Stage, entry.Key.Replica, e); // its state has the reason too
        }
    }));

    public Task<ShardStatus> StatusAsync(int replica, int stage, CancellationToken cancellation = default) => _loading.IsCompleted
        ? Shard(replica, stage).StatusAsync(cancellation)
        : Task.FromResult(new ShardStatus(ShardState.Loading, ModelVersion.Base, 0, 0, [], 0, null,
            LoadedFraction: Shard(replica, stage).LoadedFraction));

    /// <exception cref="MendException">The stage is not here, or is being loaded.</exception>
    public IModelShard Get(int replica, int stage) => _loading.IsCompleted ? Shard(replica, stage)
        : throw new MendException(MendError.ShardLost, $"Stage {stage} of replica {replica} is being loaded.",
            "Send the request again when it is ready.");

    public async ValueTask DisposeAsync()
    {
        foreach (var shard in _shards.Values)
            await shard.DisposeAsync().ConfigureAwait(false);
    }

    private ModelShard Shard(int replica, int stage) => _shards.GetValueOrDefault((replica, stage))
        ?? throw new MendException(MendError.ShardLost,
        $"Stage {stage} of replica {replica} is not on this machine, which has {string.Join(", ", _shards.Keys.Select(key => $"{key.Replica}/{key.Stage}"))}.", "Correct the cluster's layout.");
}
