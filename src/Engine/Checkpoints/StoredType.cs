namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// Element types that checkpoints hold, all that safetensors knows. All are little endian. Those after <see cref="Bool"/> are read by nothing
/// here: a tensor of them is left alone, and copied as it is.
/// </summary>
public enum StoredType
{
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
    Bool,
    U16,
    U32,
    U64,
    C64,
    F8E4M3,
    F8E5M2,
    F8E8M0,
    F8E4M3Fnuz,
    F8E5M2Fnuz,
    F6E2M3,
    F6E3M2,
    F4,
}

public static class StoredTypes
{
    /// <summary>Bytes an element; of the types of less than a byte 1.</summary>
    public static int ElementSize(this StoredType type) => (type.Bits() + 7) / 8;

    private static int Bits(this StoredType type) => type switch
    {
        StoredType.F64 or StoredType.I64 or StoredType.U64 or StoredType.C64 => 64,
        StoredType.F32 or StoredType.I32 or StoredType.U32 => 32,
        StoredType.F16 or StoredType.BF16 or StoredType.I16 or StoredType.U16 => 16,
        StoredType.F6E2M3 or StoredType.F6E3M2 => 6,
        StoredType.F4 => 4,
        _ => 8,
    };

    public static bool IsFloating(this StoredType type) => type is StoredType.F64 or StoredType.F32 or StoredType.F16 or StoredType.BF16;

    /// <summary>Bytes of a contiguous tensor, or false where a dimension is negative, they do not fit 63 bits or are no whole number.</summary>
    public static bool TryByteLength(this StoredType type, ReadOnlySpan<long> shape, out long byteLength)
    {
        byteLength = 0;
        Int128 bits = type.Bits();
        foreach (var dimension in shape)
        {
            // Also past a zero: a shape whose other dimensions overflow is a forgery, not an empty tensor.
            if (dimension < 0 || (dimension > 0 && bits > 8 * (Int128)long.MaxValue / dimension))
                return false;
            bits *= dimension;
        }
        byteLength = (long)(bits / 8);
        return bits % 8 == 0;
    }

    internal static string SafetensorsName(this StoredType type) => type switch
    {
        StoredType.F8E4M3 => "F8_E4M3",
        StoredType.F8E5M2 => "F8_E5M2",
        StoredType.F8E8M0 => "F8_E8M0",
        StoredType.F8E4M3Fnuz => "F8_E4M3FNUZ",
        StoredType.F8E5M2Fnuz => "F8_E5M2FNUZ",
        StoredType.F6E2M3 => "F6_E2M3",
        StoredType.F6E3M2 => "F6_E3M2",
        _ => type.ToString().ToUpperInvariant(),
    };

    internal static string Show(this StoredType type, ReadOnlySpan<long> shape) => $"{type} [{string.Join(", ", shape.ToArray())}]";
}

/// <summary>One tensor of a safetensors file. <paramref name="Offset"/> is that of its first byte, from the start of the file.</summary>
public sealed record TensorEntry(string Name, StoredType Type, long[] Shape, long Offset, long ByteLength);
