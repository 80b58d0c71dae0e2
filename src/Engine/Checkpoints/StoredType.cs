namespace MendCluster.Engine.Checkpoints;

/// <summary>Element types that checkpoints hold, by their safetensors names. All are little endian.</summary>
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
}

public static class StoredTypes
{
    /// <summary>Bytes an element.</summary>
    public static int ElementSize(this StoredType type) => type switch
    {
        StoredType.F64 or StoredType.I64 => 8,
        StoredType.F32 or StoredType.I32 => 4,
        StoredType.F16 or StoredType.BF16 or StoredType.I16 => 2,
        _ => 1,
    };

    public static bool IsFloating(this StoredType type) => type is StoredType.F64 or StoredType.F32 or StoredType.F16 or StoredType.BF16;

    /// <summary>Bytes of a contiguous tensor, or false where a dimension is negative or the product does not fit 63 bits.</summary>
    public static bool TryByteLength(this StoredType type, ReadOnlySpan<long> shape, out long byteLength)
    {
        byteLength = type.ElementSize();
        foreach (var dimension in shape)
        {
            // Also past a zero: a shape whose other dimensions overflow is a forgery, not an empty tensor.
            if (dimension < 0 || (dimension > 0 && byteLength > long.MaxValue / dimension))
                return false;
            byteLength *= dimension;
        }
        return true;
    }

    internal static string SafetensorsName(this StoredType type) => type == StoredType.Bool ? "BOOL" : type.ToString();

    internal static string Show(this StoredType type, ReadOnlySpan<long> shape) => $"{type} [{string.Join(", ", shape.ToArray())}]";
}

/// <summary>One tensor of a safetensors file. <paramref name="Offset"/> is that of its first byte, from the start of the file.</summary>
public sealed record TensorEntry(string Name, StoredType Type, long[] Shape, long Offset, long ByteLength);
