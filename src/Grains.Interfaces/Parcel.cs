namespace MendCluster.Grains.Interfaces;

/// <summary>
/// A message in the form of <see cref="ContractFormat"/>, which may be large: its bytes when they are few, otherwise a slip for bytes that travel
/// in pieces. One message of tens of megabytes would hold up the probes that tell whether a silo lives, which share its connection.
/// </summary>
[GenerateSerializer, Immutable, Alias("mend.Parcel`1")]
public sealed record Parcel<T>([property: Id(0)] byte[][]? Parts, [property: Id(1)] ParcelSlip? Slip);

/// <param name="Lengths">Bytes of each part.</param>
[GenerateSerializer, Immutable, Alias("mend.ParcelSlip")]
public sealed record ParcelSlip([property: Id(0)] Guid Id, [property: Id(1)] int[] Lengths);

/// <summary>Where a piece belongs.</summary>
[GenerateSerializer, Immutable, Alias("mend.ParcelPiece")]
public readonly record struct ParcelPiece([property: Id(0)] int Part, [property: Id(1)] int Offset, [property: Id(2)] int Length)
{
    public const int MostBytes = 1 << 20;

    /// <summary>Cuts parts into pieces: every byte is in exactly one.</summary>
    public static IEnumerable<ParcelPiece> Of(IReadOnlyList<int> lengths)
    {
        for (var part = 0; part < lengths.Count; part++)
            for (var offset = 0; offset < lengths[part]; offset += Math.Min(MostBytes, lengths[part] - offset))
                yield return new(part, offset, Math.Min(MostBytes, lengths[part] - offset));
    }
}
