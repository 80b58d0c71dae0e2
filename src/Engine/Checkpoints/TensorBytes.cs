using static TorchSharp.torch;

namespace MendCluster.Engine.Checkpoints;

/// <summary>Tensors to and from the bytes of a checkpoint.</summary>
public static class TensorBytes
{
    /// <summary>Bytes that are converted at a time.</summary>
    private const long Piece = 16 << 20;

    /// <summary>
    /// Reads a stored tensor into memory: one copy, and one conversion where the type differs, a few rows at a time, so that loading holds
    /// the result and little else.
    /// </summary>
    /// <param name="dtype">Type in memory; null keeps the stored one.</param>
    public static unsafe Tensor Load(StoredTensor stored, ScalarType? dtype = null)
    {
        var type = DTypeOf(stored.Type);
        if (dtype is { } wanted && wanted != type)
            return Convert(stored, wanted);
        var tensor = empty(stored.Shape, type);
        fixed (byte* start = tensor.bytes)
            stored.CopyTo((nint)start, stored.ByteLength);
        return tensor;
    }

    private static Tensor Convert(StoredTensor stored, ScalarType dtype)
    {
        if (stored.Shape.Length == 0 || stored.ByteLength <= Piece)
        {
            using var small = Load(stored);
            return small.to_type(dtype);
        }
        var tensor = empty(stored.Shape, dtype);
        var step = Math.Max(1, Piece / (stored.ByteLength / stored.Shape[0]));
        for (long first = 0; first < stored.Shape[0]; first += step)
        {
            using var rows = Load(stored.Rows(first, Math.Min(step, stored.Shape[0] - first)));
            using var place = tensor.narrow(0, first, rows.shape[0]);
            place.copy_(rows);
        }
        return tensor;
    }

    /// <summary>A tensor for <see cref="SafetensorsWriter"/>. Must stay alive until it is written.</summary>
    public static TensorToWrite ToWrite(string name, Tensor tensor) => new(name, TypeOf(tensor.dtype), tensor.shape, stream =>
    {
        using var scope = NewDisposeScope();
        stream.Write(tensor.detach().cpu().contiguous().bytes);
    });

    public static ScalarType DTypeOf(StoredType type) => type switch
    {
        StoredType.F64 => ScalarType.Float64,
        StoredType.F32 => ScalarType.Float32,
        StoredType.F16 => ScalarType.Float16,
        StoredType.BF16 => ScalarType.BFloat16,
        StoredType.I64 => ScalarType.Int64,
        StoredType.I32 => ScalarType.Int32,
        StoredType.I16 => ScalarType.Int16,
        StoredType.I8 => ScalarType.Int8,
        StoredType.U8 => ScalarType.Byte,
        StoredType.Bool => ScalarType.Bool,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "has no tensors here"),
    };

    public static StoredType TypeOf(ScalarType dtype) => dtype switch
    {
        ScalarType.Float64 => StoredType.F64,
        ScalarType.Float32 => StoredType.F32,
        ScalarType.Float16 => StoredType.F16,
        ScalarType.BFloat16 => StoredType.BF16,
        ScalarType.Int64 => StoredType.I64,
        ScalarType.Int32 => StoredType.I32,
        ScalarType.Int16 => StoredType.I16,
        ScalarType.Int8 => StoredType.I8,
        ScalarType.Byte => StoredType.U8,
        ScalarType.Bool => StoredType.Bool,
        _ => throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "has no form in a checkpoint"),
    };
}
