using MendCluster.Contracts;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// One stage of one replica; the key is a <see cref="ShardKey"/>. The promises are those of <see cref="IModelShard"/>. What may be large
/// travels as a <see cref="Parcel{T}"/>.
/// </summary>
[Alias("mend.ModelShard")]
public interface IModelShardGrain : IParcelGrain
{
    [Alias("load"), ResponseTimeout("00:30:00")]
    Task<ShardStatus> LoadAsync(CancellationToken cancellation = default);

    [Alias("status")]
    Task<ShardStatus> StatusAsync(CancellationToken cancellation = default);

    [Alias("apply"), ResponseTimeout("00:05:00")]
    Task ApplyAsync(Parcel<LedgerRecord[]> records, CancellationToken cancellation = default);

    [Alias("forward"), ResponseTimeout("00:05:00")]
    Task<Parcel<StageReply>> ForwardAsync(Parcel<StageRequest> request, CancellationToken cancellation = default);

    [Alias("backward"), ResponseTimeout("00:05:00")]
    Task<Parcel<BackwardReply>> BackwardAsync(Parcel<BackwardRequest> request, CancellationToken cancellation = default);

    [Alias("branch"), ResponseTimeout("00:05:00")]
    Task BranchAsync(Parcel<BranchRequest> request, CancellationToken cancellation = default);

    [Alias("end")]
    Task EndAsync(long session, CancellationToken cancellation = default);

    /// <summary>Whether a call is being carried out here; see <see cref="WatchedCalls"/>.</summary>
    [Alias("isUnderWay"), ResponseTimeout("00:00:05")]
    Task<bool> IsUnderWayAsync(Guid call);
}
