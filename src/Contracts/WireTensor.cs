using Orleans;

namespace MendCluster.Contracts;

public enum WireType
{
    Float32 = 1,
    Int64 = 2,
    BFloat16 = 3,

    /// <summary>Statistics alone.</summary>
    Float64 = 4,
}

/// <summary>
/// A tensor on its way between processes: row-major, little endian. Its bytes travel as they are; the codec is
/// <c>Grains.Interfaces/WireTensorFieldCodec</c>.
/// </summary>
[Immutable, Alias("mend.WireTensor")]
public sealed record WireTensor(WireType Type, long[] Shape, ReadOnlyMemory<byte> Bytes);
