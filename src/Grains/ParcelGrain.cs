using MendCluster.Grains.Interfaces;

namespace MendCluster.Grains;

/// <summary>A grain that large messages go to and come from, and that knows which calls it has.</summary>
public abstract class ParcelGrain(ParcelRoom parcels, RequestsUnderWay requests) : Grain, IParcelGrain
{
    protected ParcelRoom Parcels => parcels;

    public Task<bool> IsUnderWayAsync(Guid call) => Task.FromResult(requests.Has(call));

    public Task PutAsync(ParcelSlip slip, ParcelPiece piece, ReadOnlyMemory<byte> bytes)
    {
        parcels.Put(slip, piece, bytes.Span);
        return Task.CompletedTask;
    }

    public Task<ReadOnlyMemory<byte>> GetAsync(Guid parcel, ParcelPiece piece) => Task.FromResult(parcels.Get(parcel, piece));

    public Task DropAsync(Guid parcel)
    {
        parcels.Drop(parcel);
        return Task.CompletedTask;
    }
}
