using Orleans.Concurrency;

namespace MendCluster.Grains.Interfaces;

/// <summary>A grain that large messages go to and come from, in pieces.</summary>
[Alias("mend.ParcelGrain")]
public interface IParcelGrain : IGrainWithStringKey
{
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
