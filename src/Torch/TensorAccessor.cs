using System.Runtime.InteropServices;
using static TorchSharp.torch;

namespace TorchSharp.Utils;

/// <summary>The elements of a tensor in row-major order.</summary>
public readonly struct TensorAccessor<T> where T : unmanaged
{
    private readonly Tensor _tensor;

    internal TensorAccessor(Tensor tensor)
    {
        Tensor.CheckType<T>(tensor.dtype);
        _tensor = tensor;
    }

    public long Count => _tensor.numel();

    public unsafe T[] ToArray()
    {
        var needsCopy = !_tensor.is_contiguous() || _tensor.device_type != DeviceType.CPU;
        using var scope = NewDisposeScope();
        var plain = needsCopy ? _tensor.cpu().contiguous() : _tensor;
        var result = new T[plain.numel()];
        new ReadOnlySpan<byte>(plain.Data(), checked(result.Length * sizeof(T))).CopyTo(MemoryMarshal.AsBytes(result.AsSpan()));
        GC.KeepAlive(plain);
        return result;
    }
}
