using static TorchSharp.torch;

namespace MendCluster.Engine.Checkpoints;

/// <summary>Tensors to and from the bytes of a checkpoint.</summary>
public static class TensorBytes
{
    /// <summary>Reads a stored tensor into memory: one copy, and one conversion where the type differs.</summary>
    /// <param name="dtype">Type in memory; null keeps the stored one.</param>
    public static unsafe Tensor Load(StoredTensor stored, ScalarType? dtype = null)
    {
        var tensor = empty(stored.Shape, DTypeOf(stored.Type));
        fixed (byte* start = tensor.bytes)
            stored.CopyTo((nint)start, stored.ByteLength);
        if (dtype is not { } wanted || wanted == tensor.dtype)
            return tensor;
        using (tensor)
            return tensor.to_type(wanted);
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
        _ => ScalarType.Bool,
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
