namespace MendCluster.Contracts;

public enum WireType
{
    Float32 = 1,
    Int64 = 2,
    Float64 = 3,

    /// <summary>Gradients on the wire, where the run asks for it.</summary>
    BFloat16 = 4,
}

/// <summary>A tensor on its way between processes: row-major, little endian.</summary>
public sealed record WireTensor(WireType Type, long[] Shape, byte[] Bytes);
