using MendCluster.Contracts;
using Orleans.Concurrency;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// One stage of one replica; the key is a <see cref="ShardKey"/>. The promises are those of <see cref="IModelShard"/>. What may be large
/// travels as a <see cref="Parcel{T}"/>.
/// </summary>
[Alias("mend.ModelShard")]
public interface IModelShardGrain : IGrainWithStringKey
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

    /// <summary>A piece of a parcel on its way here. Pieces come in any order, and may come twice.</summary>
    [Alias("put")]
    Task PutAsync(ParcelSlip slip, ParcelPiece piece, ReadOnlyMemory<byte> bytes);

    /// <summary>A piece of a parcel that waits here.</summary>
    [Alias("get")]
    Task<ReadOnlyMemory<byte>> GetAsync(Guid parcel, ParcelPiece piece);

    /// <summary>The parcel has arrived and need not wait any longer.</summary>
    [Alias("drop"), OneWay]
    Task DropAsync(Guid parcel);
}
