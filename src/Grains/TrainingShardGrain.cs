using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Grains.Interfaces;
using Orleans.Concurrency;
using Orleans.Placement;

namespace MendCluster.Grains;

/// <summary>
/// The address of a training shard. Reentrant: a ring's chunks arrive while the shard waits for them. Its editor outlives activations, so
/// it is the host's.
/// </summary>
[GrainType(PinnedPlacement.TrainingShardType), PinnedPlacement, KeepAlive, Immovable, Reentrant]
public sealed class TrainingShardGrain(TrainingShardHost shards) : Grain, ITrainingShardGrain
{
    private ITrainingShard Shard
    {
        get
        {
            var key = ShardKey.Parse(this.GetPrimaryKeyString());
            return shards.Get(new(key.Replica, key.Stage));
        }
    }

    public Task<TrainingShardStatus> OpenAsync(TrainingSetup setup, CancellationToken cancellation = default) =>
        Shard.OpenAsync(setup, cancellation);

    public Task<WireTensor> ReadAsync(StateSlice slice, CancellationToken cancellation = default) => Shard.ReadAsync(slice, cancellation);

    public Task WriteAsync(StateSlice slice, WireTensor values, CancellationToken cancellation = default) =>
        Shard.WriteAsync(slice, values, cancellation);

    public Task RestoreAsync(OptimizerProgress mark, CancellationToken cancellation = default) => Shard.RestoreAsync(mark, cancellation);

    public Task<OptimizerProgress> MarkAsync(CancellationToken cancellation = default) => Shard.MarkAsync(cancellation);

    public Task BeginAsync(TrainingRound round, CancellationToken cancellation = default) => Shard.BeginAsync(round, cancellation);

    public Task<Boundary> RecordAsync(RecordRequest request, CancellationToken cancellation = default) =>
        Shard.RecordAsync(request, cancellation);

    public Task<RecordedReply> RecordBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
        Shard.RecordBackwardAsync(request, cancellation);

    public Task ProposeAsync(ProposeRequest request, CancellationToken cancellation = default) => Shard.ProposeAsync(request, cancellation);

    public Task<EvaluateReply> EvaluateAsync(EvaluateRequest request, CancellationToken cancellation = default) =>
        Shard.EvaluateAsync(request, cancellation);

    public Task<EvaluatedReply> EvaluateBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
        Shard.EvaluateBackwardAsync(request, cancellation);

    public Task<bool> GradientAsync(GradientRequest request, CancellationToken cancellation = default) =>
        Shard.GradientAsync(request, cancellation);

    public Task<ReduceReply> ReduceAsync(ReduceRequest request, CancellationToken cancellation = default) =>
        Shard.ReduceAsync(request, cancellation);

    public Task PutAsync(RingChunk chunk, CancellationToken cancellation = default) => Shard.PutAsync(chunk, cancellation);

    public async Task<GroupDigest[]> CommitAsync(CommitRequest request, CancellationToken cancellation = default) =>
        [.. await Shard.CommitAsync(request, cancellation)];

    public Task ForgetAsync(long round, int edit, CancellationToken cancellation = default) => Shard.ForgetAsync(round, edit, cancellation);

    public Task EndAsync(long round, CancellationToken cancellation = default) => Shard.EndAsync(round, cancellation);
}
