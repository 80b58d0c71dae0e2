using Orleans;

namespace MendCluster.Contracts;

/// <summary>
/// A tensor on its way between processes: row-major, little endian. Its bytes travel as they are; the codec is
/// <c>Grains.Interfaces/WireTensorFieldCodec</c>.
/// </summary>
[Immutable, Alias("mend.WireTensor")]
public sealed record WireTensor(DType Type, long[] Shape, ReadOnlyMemory<byte> Bytes);
