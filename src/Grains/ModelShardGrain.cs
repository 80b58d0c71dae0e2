using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Grains.Interfaces;
using Orleans.Concurrency;
using Orleans.Placement;

namespace MendCluster.Grains;

/// <summary>
/// The address of a shard. Reentrant: the shard's own queue puts calls in order, and its state must be told while it computes. Weights
/// outlive activations, so they are the host's.
/// </summary>
[GrainType(PinnedPlacement.ShardType), PinnedPlacement, KeepAlive, Immovable, Reentrant]
public sealed class ModelShardGrain(ShardHost shards) : Grain, IModelShardGrain
{
    private ShardKey Key => ShardKey.Parse(this.GetPrimaryKeyString());

    private IModelShard Shard => shards.Get(Key.Replica, Key.Stage);

    public Task<ShardStatus> LoadAsync(CancellationToken cancellation = default) => Shard.LoadAsync(cancellation);

    public Task<ShardStatus> StatusAsync(CancellationToken cancellation = default) =>
        shards.StatusAsync(Key.Replica, Key.Stage, cancellation);

    public Task ApplyAsync(LedgerRecord[] records, CancellationToken cancellation = default) => Shard.ApplyAsync(records, cancellation);

    public Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default) =>
        Shard.GenerateAsync(request, cancellation);

    public Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default) =>
        Shard.ForwardAsync(request, cancellation);

    public Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default) =>
        Shard.TryAsync(request, cancellation);

    public Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default) =>
        Shard.BackwardAsync(request, cancellation);

    public Task BranchAsync(BranchRequest request, CancellationToken cancellation = default) => Shard.BranchAsync(request, cancellation);

    public Task BeginFitAsync(BeginFitRequest request, CancellationToken cancellation = default) =>
        Shard.BeginFitAsync(request, cancellation);

    public Task StepFitAsync(StepFitRequest request, CancellationToken cancellation = default) =>
        Shard.StepFitAsync(request, cancellation);

    public Task<FitReply> TakeFitAsync(long session, CancellationToken cancellation = default) => Shard.TakeFitAsync(session, cancellation);

    public Task EndAsync(long session, CancellationToken cancellation = default) => Shard.EndAsync(session, cancellation);
}
