using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Grains.Interfaces;
using Orleans.Concurrency;
using Orleans.Placement;

namespace MendCluster.Grains;

/// <summary>
/// The address of a training shard. Reentrant: a ring's chunks arrive while the shard waits for them. Its editor outlives activations, so it is the
/// host's.
/// </summary>
[GrainType(PinnedPlacement.TrainingShardType), PinnedPlacement, KeepAlive, Immovable, Reentrant]
public sealed class TrainingShardGrain(TrainingShardHost shards, ParcelRoom parcels, RequestsUnderWay requests) : ParcelGrain(parcels, requests), ITrainingShardGrain
{
    private ITrainingShard Shard
    {
        get
        {
            var key = ShardKey.Parse(this.GetPrimaryKeyString());
            return shards.Get(new(key.Replica, key.Stage));
        }
    }

    public Task<TrainingShardStatus> OpenAsync(TrainingSetup setup, CancellationToken cancellation = default) => Shard.OpenAsync(setup, cancellation);

    public Task<WireTensor> ReadAsync(StateSlice slice, CancellationToken cancellation = default) => Shard.ReadAsync(slice, cancellation);

    public Task WriteAsync(StateSlice slice, WireTensor values, CancellationToken cancellation = default) => Shard.WriteAsync(slice, values, cancellation);

    public Task RestoreAsync(Parcel<StateMark> mark, CancellationToken cancellation = default) => Shard.RestoreAsync(Parcels.Take(mark), cancellation);

    public Task<StateMark> MarkAsync(CancellationToken cancellation = default) => Shard.MarkAsync(cancellation);

    public Task BeginAsync(TrainingRound round, CancellationToken cancellation = default) => Shard.BeginAsync(round, cancellation);

    public async Task<Parcel<Boundary>> RecordAsync(Parcel<RecordRequest> request, CancellationToken cancellation = default) =>
        Parcels.Give(await Shard.RecordAsync(Parcels.Take(request), cancellation));

    public async Task<Parcel<RecordedReply>> RecordBackwardAsync(Parcel<PassBackward> request, CancellationToken cancellation = default) =>
        Parcels.Give(await Shard.RecordBackwardAsync(Parcels.Take(request), cancellation));

    public Task ProposeAsync(Parcel<ProposeRequest> request, CancellationToken cancellation = default) => Shard.ProposeAsync(Parcels.Take(request), cancellation);

    public async Task<Parcel<EvaluateReply>> EvaluateAsync(Parcel<EvaluateRequest> request, CancellationToken cancellation = default) =>
        Parcels.Give(await Shard.EvaluateAsync(Parcels.Take(request), cancellation));

    public async Task<Parcel<EvaluatedReply>> EvaluateBackwardAsync(Parcel<PassBackward> request, CancellationToken cancellation = default) =>
        Parcels.Give(await Shard.EvaluateBackwardAsync(Parcels.Take(request), cancellation));

    public Task<bool> GradientAsync(GradientRequest request, CancellationToken cancellation = default) => Shard.GradientAsync(request, cancellation);

    public Task<ReduceReply> ReduceAsync(ReduceRequest request, CancellationToken cancellation = default) => Shard.ReduceAsync(request, cancellation);

    public Task ChunkAsync(RingChunk chunk, CancellationToken cancellation = default) => Shard.PutAsync(chunk, cancellation);

    public async Task<GroupDigest[]> CommitAsync(CommitRequest request, CancellationToken cancellation = default) => [.. await Shard.CommitAsync(request, cancellation)];

    public Task ForgetAsync(long round, int edit, CancellationToken cancellation = default) => Shard.ForgetAsync(round, edit, cancellation);

    public Task EndAsync(long round, CancellationToken cancellation = default) => Shard.EndAsync(round, cancellation);
}
