using System.Runtime.CompilerServices;
using MendCluster.Torch;
using TorchSharp.Utils;

namespace TorchSharp;

/// <summary>Types of elements, numbered as in libtorch.</summary>
public static partial class torch
{
    public enum ScalarType : sbyte
    {
        Byte = 0,
        Int8 = 1,
        Int16 = 2,
        Int32 = 3,
        Int64 = 4,
        Float16 = 5,
        Float32 = 6,
        Float64 = 7,
        Bool = 11,
        BFloat16 = 15,
    }

    /// <summary>An n-dimensional array of one element type on one device. Owns one reference to a native tensor.</summary>
    public sealed partial class Tensor : IDisposable
    {
        private const int UsualDims = 8;
        private static long s_total;

        private readonly TensorHandle _handle;

        internal Tensor(nint tensor)
        {
            _handle = new(tensor);
            Interlocked.Increment(ref s_total);
            DisposeScope.Current?.Add(this);
        }

        ~Tensor() => Forget();

        /// <summary>Tensor objects that were made and not yet disposed of or collected.</summary>
        public static long TotalCount => Interlocked.Read(ref s_total);

        /// <summary>Whether the tensor was disposed of.</summary>
        public bool IsInvalid => _handle.IsClosed;

        public unsafe long[] shape
        {
            get
            {
                Native.Info info;
                var sizes = stackalloc long[UsualDims];
                Read(&info, sizes, UsualDims);
                var shape = new long[info.Dims];
                if (info.Dims <= UsualDims)
                    new ReadOnlySpan<long>(sizes, info.Dims).CopyTo(shape);
                else
                    fixed (long* all = shape)
                        Read(&info, all, info.Dims);
                return shape;
            }
        }

        public ScalarType dtype => (ScalarType)Read().DType;

        public Device device => new((DeviceType)Read().DeviceType, Read().DeviceIndex);

        public DeviceType device_type => (DeviceType)Read().DeviceType;

        /// <summary>Whether autograd follows what is computed from this tensor. Setting it is for leaves.</summary>
        public bool requires_grad
        {
            get => Read().RequiresGrad != 0;
            set
            {
                if (Native.mt_set_requires_grad(Pointer("requires_grad"), value ? 1 : 0) != 0)
                    throw Dispatcher.Failure($"requires_grad({this})");
            }
        }

        public long dim() => Read().Dims;

        public long numel() => Read().Elements;

        public long size(int dim) => shape[dim < 0 ? dim + (int)this.dim() : dim];

        public bool is_contiguous() => Read().Contiguous != 0;

        /// <summary>The bytes of a contiguous CPU tensor of less than 2 GiB, in place: what is written here is written to the tensor.</summary>
        public unsafe Span<byte> bytes => new(Data(), checked((int)Read().Bytes));

        /// <summary>The elements in row-major order; copied first when the tensor is not contiguous or not on the CPU.</summary>
        /// <exception cref="ArgumentException">The element type is another one.</exception>
        public TensorAccessor<T> data<T>() where T : unmanaged => new(this);

        /// <summary>The value of a tensor of one element, converted to T when exact types differ in width only.</summary>
        public unsafe T item<T>() where T : unmanaged
        {
            var info = Read();
            if (info.Elements != 1)
                throw new ArgumentException($"item() needs a tensor of one element, this is {this}");
            CheckType<T>((ScalarType)info.DType);
            using var copy = info.DeviceType == 0 ? null : Detached(cpu());
            var value = Unsafe.ReadUnaligned<T>((copy ?? this).Data());
            GC.KeepAlive(this);
            return value;
        }

        /// <summary>Takes the tensor out of its dispose scope; its new owner disposes of it.</summary>
        public Tensor DetachFromDisposeScope()
        {
            Scope?.Remove(this);
            return this;
        }

        /// <summary>Gives the tensor to the scope around its own.</summary>
        public Tensor MoveToOuterDisposeScope()
        {
            Scope?.MoveOut(this);
            return this;
        }

        public void Dispose()
        {
            Scope?.Remove(this);
            Forget();
            GC.SuppressFinalize(this);
        }

        /// <summary>Shape, type and device: <c>[2x3], type = Float32, device = cpu</c>.</summary>
        public override string ToString() =>
            IsInvalid ? "disposed tensor" : $"[{string.Join('x', shape)}], type = {dtype}, device = {device}";

        internal DisposeScope? Scope { get; set; }

        internal nint Pointer(string operation) => _handle.IsClosed
            ? throw new ObjectDisposedException(nameof(Tensor), $"{operation}: a tensor that it was given is disposed of")
            : _handle.DangerousGetHandle();

        internal unsafe void* Data()
        {
            void* data;
            if (Native.mt_data(Pointer("data"), &data) != 0)
                throw Dispatcher.Failure($"data({this})");
            return data;
        }

        internal static void CheckType<T>(ScalarType dtype)
        {
            var fits = dtype switch
            {
                ScalarType.Float32 => typeof(T) == typeof(float),
                ScalarType.Float64 => typeof(T) == typeof(double),
                ScalarType.Float16 => typeof(T) == typeof(Half),
                ScalarType.BFloat16 => typeof(T) == typeof(ushort),
                ScalarType.Int64 => typeof(T) == typeof(long),
                ScalarType.Int32 => typeof(T) == typeof(int),
                ScalarType.Int16 => typeof(T) == typeof(short),
                ScalarType.Int8 => typeof(T) == typeof(sbyte),
                ScalarType.Byte => typeof(T) == typeof(byte),
                ScalarType.Bool => typeof(T) == typeof(bool),
                _ => false,
            };
            if (!fits)
                throw new ArgumentException($"the tensor holds {dtype}, which cannot be read as {typeof(T).Name}");
        }

        private static Tensor Detached(Tensor tensor) => tensor.DetachFromDisposeScope();

        private unsafe Native.Info Read()
        {
            Native.Info info;
            Read(&info, null, 0);
            return info;
        }

        private unsafe void Read(Native.Info* info, long* sizes, int capacity)
        {
            if (Native.mt_info(Pointer("shape"), info, sizes, capacity) != 0)
                throw Dispatcher.Failure("shape");
            GC.KeepAlive(this);
        }

        private void Forget()
        {
            if (_handle.IsClosed)
                return;
            Interlocked.Decrement(ref s_total);
            _handle.Dispose();
        }
    }
}
