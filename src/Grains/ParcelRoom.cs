using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;

namespace MendCluster.Grains;

/// <summary>
/// Where a silo keeps parcels that arrive or leave in pieces. Whoever sent the first pieces may die before the last, so a parcel that nobody
/// touches is thrown away after a while, and there is a limit to what all of them may take.
/// </summary>
public sealed class ParcelRoom(TimeProvider time)
{
    /// <summary>Of all parcels that wait in one silo.</summary>
    public const long MostBytes = 2L << 30;

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    private readonly Dictionary<Guid, Waiting> _waiting = [];
    private readonly Lock _lock = new();

    /// <summary>The message of a parcel whose pieces, if it has any, are all here.</summary>
    public T Take<T>(Parcel<T> parcel) where T : class => Parcels.Read<T>(parcel.Parts ?? Complete(parcel.Slip!));

    /// <summary>Makes a parcel of a message; if it is large it waits here to be fetched.</summary>
    public Parcel<T> Give<T>(T message) where T : class
    {
        var parcel = Parcels.Of(message, Guid.NewGuid(), out var parts);
        if (parcel.Slip is { } slip)
            lock (_lock)
                Add(slip, parts);
        return parcel;
    }

    public void Put(ParcelSlip slip, ParcelPiece piece, ReadOnlySpan<byte> bytes)
    {
        lock (_lock)
        {
            if (!_waiting.TryGetValue(slip.Id, out var waiting))
                waiting = Add(slip, null);
            if (!IsPieceOf(waiting, piece) || bytes.Length != piece.Length)
                throw Malformed($"Piece {piece} with {bytes.Length} bytes is none of parcel {slip.Id}.");
            bytes.CopyTo(waiting.Parts[piece.Part].AsSpan(piece.Offset));
            waiting.Arrived.Add(piece);
            waiting.Touched = time.GetTimestamp();
        }
    }

    public ReadOnlyMemory<byte> Get(Guid parcel, ParcelPiece piece)
    {
        lock (_lock)
        {
            if (!_waiting.TryGetValue(parcel, out var waiting))
                throw Gone(parcel);
            if (!IsPieceOf(waiting, piece))
                throw Malformed($"Piece {piece} is none of parcel {parcel}.");
            waiting.Touched = time.GetTimestamp();
            return waiting.Parts[piece.Part].AsMemory(piece.Offset, piece.Length);
        }
    }

    public void Drop(Guid parcel)
    {
        lock (_lock)
            _waiting.Remove(parcel);
    }

    private byte[][] Complete(ParcelSlip slip)
    {
        lock (_lock)
        {
            if (!_waiting.Remove(slip.Id, out var waiting))
                throw Gone(slip.Id);
            return waiting.Arrived.SetEquals(ParcelPiece.Of(slip.Lengths)) ? waiting.Parts : throw Gone(slip.Id);
        }
    }

    private Waiting Add(ParcelSlip slip, byte[][]? parts)
    {
        foreach (var (id, _) in _waiting.Where(entry => time.GetElapsedTime(entry.Value.Touched) > Patience).ToList())
            _waiting.Remove(id);
        if (slip.Lengths.Any(length => length < 0))
            throw Malformed($"Parcel {slip.Id} has a part of negative length.");
        var length = slip.Lengths.Sum(part => (long)part);
        var taken = _waiting.Values.Sum(waiting => waiting.Parts.Sum(part => (long)part.Length));
        if (taken + length > MostBytes)
            throw new MendException(MendError.ShardLost, $"A message of {length:N0} bytes does not fit beside {taken:N0} bytes that wait; the limit is {MostBytes:N0}.",
                "Send the request again, or make it smaller.");
        return _waiting[slip.Id] = new(parts ?? [.. slip.Lengths.Select(part => new byte[part])], time.GetTimestamp());
    }

    private static bool IsPieceOf(Waiting waiting, ParcelPiece piece) => piece.Part >= 0 && piece.Part < waiting.Parts.Length
        && piece.Offset >= 0 && piece.Length is > 0 and <= ParcelPiece.MostBytes && piece.Offset <= waiting.Parts[piece.Part].Length - piece.Length;

    private static MendException Gone(Guid parcel) =>
        new(MendError.ShardLost, $"Parcel {parcel} is not here or not whole.", "The silo was restarted in between, or it waited too long; send the request again.");

    private static MendException Malformed(string message) => new(MendError.InvalidOption, message, "All silos must be of the same version.");

    private sealed class Waiting(byte[][] parts, long touched)
    {
        public byte[][] Parts => parts;

        public HashSet<ParcelPiece> Arrived { get; } = [];

        public long Touched { get; set; } = touched;
    }
}
