using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace MendCluster.Engine.Checkpoints;

/// <summary>Tensors to and from the bytes of a checkpoint.</summary>
public static class TensorBytes
{
    /// <summary>Bytes that are converted at a time.</summary>
    private const long Piece = 16 << 20;

    /// <summary>Bytes that are on their way to a GPU at a time.</summary>
    private const long UploadPiece = 64 << 20;

    /// <summary>
    /// By type, the two places that a thread's uploads pass through. libtorch keeps pinned memory for good: letting go of it gives nothing
    /// back.
    /// </summary>
    [ThreadStatic]
    private static Dictionary<ScalarType, Tensor[]>? _pinned;

    /// <summary>
    /// Reads a stored tensor into memory: one copy, and one conversion where the type differs, a few rows at a time, so that loading holds
    /// the result and little else.
    /// </summary>
    /// <param name="dtype">Type in memory; null keeps the stored one.</param>
    /// <param name="device">Null: the CPU.</param>
    public static unsafe Tensor Load(StoredTensor stored, ScalarType? dtype = null, Device? device = null)
    {
        var type = DTypeOf(stored.Type);
        if (device is not null && device.type != DeviceType.CPU)
            return Upload(stored, dtype ?? type, device);
        if (dtype is { } wanted && wanted != type)
            return Convert(stored, wanted);
        var tensor = empty(stored.Shape, type, CPU);
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
        var tensor = empty(stored.Shape, dtype, CPU);
        var step = Math.Max(1, Piece / (stored.ByteLength / stored.Shape[0]));
        for (long first = 0; first < stored.Shape[0]; first += step)
        {
            using var rows = Load(stored.Rows(first, Math.Min(step, stored.Shape[0] - first)));
            using var place = tensor.narrow(0, first, rows.shape[0]);
            place.copy_(rows);
        }
        return tensor;
    }

    /// <summary>
    /// Onto a device; types are converted there. A large tensor goes to a GPU by two places of pinned memory in turn, from which the GPU
    /// fetches by itself: while one piece is fetched, the next is read into the other place. The bytes are copied once on the host, as for
    /// the CPU.
    /// </summary>
    private static unsafe Tensor Upload(StoredTensor stored, ScalarType dtype, Device device)
    {
        var rowBytes = stored.Shape is [> 0, ..] ? stored.ByteLength / stored.Shape[0] : 0;
        if (device.type != DeviceType.CUDA || stored.ByteLength <= Piece || rowBytes > UploadPiece)
        {
            using var host = Load(stored);
            using var there = host.On(device);
            return there.to_type(dtype);
        }
        var tensor = empty(stored.Shape, dtype, device);
        var places = Pinned(DTypeOf(stored.Type), stored.Type.ElementSize());
        var step = UploadPiece / rowBytes;
        for (long first = 0, piece = 0; first < stored.Shape[0]; first += step, piece++)
        {
            using var scope = NewDisposeScope();
            var rows = stored.Rows(first, Math.Min(step, stored.Shape[0] - first));
            var place = places[piece % places.Length];
            fixed (byte* start = place.bytes)
                rows.CopyTo((nint)start, rows.ByteLength);
            cuda.synchronize(device); // the piece before has been fetched, so its place is free
            var read = place.narrow(0, 0, rows.ByteLength / stored.Type.ElementSize()).reshape(rows.Shape);
            var wanted = tensor.narrow(0, first, rows.Shape[0]);
            if (dtype == place.dtype)
                wanted.copy_(read, nonBlocking: true);
            else
                wanted.copy_(read.On(device)); // converted by the device
        }
        cuda.synchronize(device); // the places are free for the next tensor
        return tensor;
    }

    private static Tensor[] Pinned(ScalarType type, int elementSize)
    {
        _pinned ??= [];
        if (!_pinned.TryGetValue(type, out var places))
            _pinned[type] = places = [.. Enumerable.Range(0, 2).Select(_ =>
            {
                using var plain = empty([UploadPiece / elementSize], type, CPU);
                return plain.pin_memory().DetachFromDisposeScope();
            })];
        return places;
    }

    /// <summary>A tensor for <see cref="SafetensorsWriter"/>. Must stay alive until it is written.</summary>
    public static TensorToWrite ToWrite(string name, Tensor tensor) => new(name, TypeOf(tensor.dtype), tensor.shape, stream =>
    {
        using var scope = NewDisposeScope();
        stream.Write(tensor.detach().contiguous().Host().bytes);
    });

    public static ScalarType DTypeOf(DType type) => type switch
    {
        DType.Float64 => ScalarType.Float64,
        DType.Float32 => ScalarType.Float32,
        DType.Float16 => ScalarType.Float16,
        DType.BFloat16 => ScalarType.BFloat16,
        DType.Int64 => ScalarType.Int64,
        DType.Int32 => ScalarType.Int32,
        DType.Int16 => ScalarType.Int16,
        DType.Int8 => ScalarType.Int8,
        DType.UInt8 => ScalarType.Byte,
        DType.Bool => ScalarType.Bool,
        _ => throw new ArgumentOutOfRangeException(nameof(type), type, "has no tensors here"),
    };

    public static DType TypeOf(ScalarType dtype) => dtype switch
    {
        ScalarType.Float64 => DType.Float64,
        ScalarType.Float32 => DType.Float32,
        ScalarType.Float16 => DType.Float16,
        ScalarType.BFloat16 => DType.BFloat16,
        ScalarType.Int64 => DType.Int64,
        ScalarType.Int32 => DType.Int32,
        ScalarType.Int16 => DType.Int16,
        ScalarType.Int8 => DType.Int8,
        ScalarType.Byte => DType.UInt8,
        ScalarType.Bool => DType.Bool,
        _ => throw new ArgumentOutOfRangeException(nameof(dtype), dtype, "has no form in a checkpoint"),
    };
}
