using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>What checkpoints know of element types.</summary>
public static class DTypes
{
    /// <summary>Bytes an element; of the types of less than a byte 1.</summary>
    public static int ElementSize(this DType type) => (type.Bits() + 7) / 8;

    private static int Bits(this DType type) => type switch
    {
        DType.Float64 or DType.Int64 or DType.UInt64 or DType.Complex64 => 64,
        DType.Float32 or DType.Int32 or DType.UInt32 => 32,
        DType.Float16 or DType.BFloat16 or DType.Int16 or DType.UInt16 => 16,
        DType.Float6E2M3 or DType.Float6E3M2 => 6,
        DType.Float4 => 4,
        _ => 8,
    };

    public static bool IsFloating(this DType type) => type is DType.Float64 or DType.Float32 or DType.Float16 or DType.BFloat16;

    /// <summary>
    /// Bytes of a contiguous tensor, or false where a dimension is negative, they do not fit 63 bits or are no whole number.
    /// </summary>
    public static bool TryByteLength(this DType type, ReadOnlySpan<long> shape, out long byteLength)
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

    /// <summary>As fingerprints of checkpoints and errors about them name it: these names are for ever.</summary>
    internal static string Name(this DType type) => type switch
    {
        DType.Float64 => "F64",
        DType.Float32 => "F32",
        DType.Float16 => "F16",
        DType.BFloat16 => "BF16",
        DType.Int64 => "I64",
        DType.Int32 => "I32",
        DType.Int16 => "I16",
        DType.Int8 => "I8",
        DType.UInt8 => "U8",
        DType.Bool => "Bool",
        DType.UInt16 => "U16",
        DType.UInt32 => "U32",
        DType.UInt64 => "U64",
        DType.Complex64 => "C64",
        DType.Float8E4M3 => "F8E4M3",
        DType.Float8E5M2 => "F8E5M2",
        DType.Float8E8M0 => "F8E8M0",
        DType.Float8E4M3Fnuz => "F8E4M3Fnuz",
        DType.Float8E5M2Fnuz => "F8E5M2Fnuz",
        DType.Float6E2M3 => "F6E2M3",
        DType.Float6E3M2 => "F6E3M2",
        DType.Float4 => "F4",
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "is no element type"),
    };

    internal static string SafetensorsName(this DType type) => type switch
    {
        DType.Float8E4M3 => "F8_E4M3",
        DType.Float8E5M2 => "F8_E5M2",
        DType.Float8E8M0 => "F8_E8M0",
        DType.Float8E4M3Fnuz => "F8_E4M3FNUZ",
        DType.Float8E5M2Fnuz => "F8_E5M2FNUZ",
        DType.Float6E2M3 => "F6_E2M3",
        DType.Float6E3M2 => "F6_E3M2",
        _ => type.Name().ToUpperInvariant(),
    };

    internal static string Show(this DType type, ReadOnlySpan<long> shape) => $"{type.Name()} [{string.Join(", ", shape.ToArray())}]";
}

/// <summary>One tensor of a safetensors file. <paramref name="Offset"/> is that of its first byte, from the start of the file.</summary>
public sealed record TensorEntry(string Name, DType Type, long[] Shape, long Offset, long ByteLength);
