using MendCluster.Grains.Interfaces;

namespace MendCluster.Grains;

/// <summary>The way of a message between silos: at once when it is small, otherwise in pieces of which only a few are under way.</summary>
internal static class Parcels
{
    /// <summary>Orleans has no back pressure of its own: what is sent and not acknowledged waits in memory.</summary>
    private const int Window = 4;

    /// <param name="parts">Of a parcel that travels in pieces.</param>
    public static Parcel<T> Of<T>(T message, Guid id, out byte[][] parts) where T : class
    {
        parts = [.. ContractFormat.Write(message, typeof(T))];
        return parts.Sum(part => (long)part.Length) <= ParcelPiece.MostBytes ? new(parts, null) : new(null, new(id, [.. parts.Select(part => part.Length)]));
    }

    public static T Read<T>(byte[][] parts) where T : class => (T)ContractFormat.Read(typeof(T), [.. parts]);

    /// <summary>Takes the pieces of a large message to the shard.</summary>
    /// <returns>What the shard is to be called with.</returns>
    public static async Task<Parcel<T>> SendAsync<T>(IParcelGrain shard, T message, CancellationToken cancellation) where T : class
    {
        var parcel = Of(message, Guid.NewGuid(), out var parts);
        if (parcel.Slip is { } slip)
            await EachAsync(slip, piece => shard.PutAsync(slip, piece, parts[piece.Part].AsMemory(piece.Offset, piece.Length)), cancellation).ConfigureAwait(false);
        return parcel;
    }

    /// <summary>Fetches the pieces of a large reply from the shard.</summary>
    public static async Task<T> ReceiveAsync<T>(IParcelGrain shard, Parcel<T> parcel, CancellationToken cancellation) where T : class
    {
        if (parcel.Slip is not { } slip)
            return Read<T>(parcel.Parts!);
        byte[][] parts = [.. slip.Lengths.Select(length => new byte[length])];
        await EachAsync(slip, async piece => (await shard.GetAsync(slip.Id, piece).ConfigureAwait(false)).CopyTo(parts[piece.Part].AsMemory(piece.Offset)), cancellation)
            .ConfigureAwait(false);
        await shard.DropAsync(slip.Id).ConfigureAwait(false);
        return Read<T>(parts);
    }

    private static Task EachAsync(ParcelSlip slip, Func<ParcelPiece, Task> carry, CancellationToken cancellation) =>
        Parallel.ForEachAsync(ParcelPiece.Of(slip.Lengths), new ParallelOptions { MaxDegreeOfParallelism = Window, CancellationToken = cancellation },
            async (piece, _) => await carry(piece).ConfigureAwait(false));
}
