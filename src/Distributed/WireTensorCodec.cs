using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed;

/// <summary>Tensors to bytes and back. What arrives is checked before anything is allocated.</summary>
internal static class WireTensorCodec
{
    public static WireTensor Encode(Tensor tensor)
    {
        using var scope = NewDisposeScope();
        var plain = tensor.detach().contiguous().Host();
        return new(TensorBytes.TypeOf(plain.dtype) is var type && Travels(type) ? type
            : throw new ArgumentException($"a tensor of {type} does not travel; float32, bfloat16, float64 and int64 do"), plain.shape,
            plain.bytes.ToArray());
    }

    public static WireTensor? EncodeOrNull(Tensor? tensor) => tensor is null ? null : Encode(tensor);

    /// <param name="device">Null: the host.</param>
    /// <exception cref="MendException">The bytes are not those of a tensor of this type and shape.</exception>
    public static Tensor Decode(WireTensor wire, Device? device = null)
    {
        if (!Travels(wire.Type))
            throw Malformed(wire, "the type is not known");
        var (size, type) = (wire.Type.ElementSize(), TensorBytes.DTypeOf(wire.Type));
        UInt128 bytes = (UInt128)size;
        foreach (var dimension in wire.Shape)
        {
            if (dimension < 0)
                throw Malformed(wire, "a dimension is negative");
            bytes = bytes > int.MaxValue ? bytes : bytes * (UInt128)dimension; // above that it cannot match, whatever follows
        }
        if (bytes != (UInt128)wire.Bytes.Length)
            throw Malformed(wire, "the number of bytes is not that of the shape");
        var tensor = empty(wire.Shape, type, CPU);
        wire.Bytes.Span.CopyTo(tensor.bytes);
        return device is null ? tensor : tensor.On(device);
    }

    public static Tensor? DecodeOrNull(WireTensor? wire, Device? device = null) => wire is null ? null : Decode(wire, device);

    private static bool Travels(DType type) => type is DType.Float32 or DType.Int64 or DType.BFloat16 or DType.Float64;

    private static MendException Malformed(WireTensor wire, string why) => new(MendError.InvalidOption,
        $"A tensor of type {wire.Type}, shape [{string.Join(", ", wire.Shape)}] and {wire.Bytes.Length} bytes arrived: {why}.",
        "Client and server must be of the same version.");
}
