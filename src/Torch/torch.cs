using System.Runtime.InteropServices;
using MendCluster.Torch;

namespace TorchSharp;

public static partial class torch
{
    public static Tensor empty(long[] size, ScalarType? dtype = null, Device? device = null) =>
        Dispatcher.Call("aten::empty.memory_format", size, dtype ?? ScalarType.Float32, Argument.None, device ?? CPU);

    public static Tensor zeros(long[] size, ScalarType? dtype = null, Device? device = null) =>
        Dispatcher.Call("aten::zeros", size, dtype ?? ScalarType.Float32, Argument.None, device ?? CPU);

    public static Tensor zeros(long size, ScalarType? dtype = null, Device? device = null) => zeros([size], dtype, device);

    public static Tensor zeros(long rows, long columns, ScalarType? dtype = null, Device? device = null) => zeros([rows, columns], dtype, device);

    public static Tensor ones(long[] size, ScalarType? dtype = null, Device? device = null) =>
        Dispatcher.Call("aten::ones", size, dtype ?? ScalarType.Float32, Argument.None, device ?? CPU);

    public static Tensor ones(long size, ScalarType? dtype = null, Device? device = null) => ones([size], dtype, device);

    public static Tensor ones(long rows, long columns, ScalarType? dtype = null, Device? device = null) => ones([rows, columns], dtype, device);

    /// <summary>Without a dtype: Int64 for an integer value, otherwise Float32.</summary>
    public static Tensor full(long[] size, Scalar value, ScalarType? dtype = null, Device? device = null) =>
        Dispatcher.Call("aten::full", size, value, dtype, Argument.None, device ?? CPU);

    public static Tensor full(long size, Scalar value, ScalarType? dtype = null, Device? device = null) => full([size], value, dtype, device);

    public static Tensor full(long rows, long columns, Scalar value, ScalarType? dtype = null, Device? device = null) =>
        full([rows, columns], value, dtype, device);

    public static Tensor zeros_like(Tensor input) => Dispatcher.Call("aten::zeros_like", input);

    public static Tensor ones_like(Tensor input) => Dispatcher.Call("aten::ones_like", input);

    public static Tensor empty_like(Tensor input) => Dispatcher.Call("aten::empty_like", input);

    public static Tensor eye(long rows, long columns = -1, ScalarType? dtype = null, Device? device = null) =>
        Dispatcher.Call("aten::eye.m", rows, columns < 0 ? rows : columns, dtype ?? ScalarType.Float32, Argument.None, device ?? CPU);

    /// <summary>start, start + 1, … below stop.</summary>
    public static Tensor arange(Scalar start, Scalar stop, ScalarType? dtype = null, Device? device = null) =>
        Dispatcher.Call("aten::arange.start", start, stop, dtype, Argument.None, device ?? CPU);

    public static Tensor arange(Scalar stop, ScalarType? dtype = null, Device? device = null) => arange(0, stop, dtype, device);

    /// <summary>Standard normal draws, on the CPU.</summary>
    public static Tensor randn(long[] size, ScalarType? dtype = null, Device? device = null, bool requires_grad = false, Generator? generator = null) =>
        Dispatcher.Call("aten::randn.generator", size, generator, dtype ?? ScalarType.Float32, Argument.None, device ?? CPU).requires_grad_(requires_grad);

    /// <summary>Uniform draws from [0, 1), on the CPU.</summary>
    public static Tensor rand(long[] size, ScalarType? dtype = null, Device? device = null, bool requires_grad = false, Generator? generator = null) =>
        Dispatcher.Call("aten::rand.generator", size, generator, dtype ?? ScalarType.Float32, Argument.None, device ?? CPU).requires_grad_(requires_grad);

    /// <summary>Uniform integers from [low, high), int64 unless told otherwise.</summary>
    public static Tensor randint(long low, long high, long[] size, ScalarType? dtype = null, Device? device = null, bool requires_grad = false, Generator? generator = null) =>
        Dispatcher.Call("aten::randint.low_generator", low, high, size, generator, dtype ?? ScalarType.Int64, Argument.None, device ?? CPU).requires_grad_(requires_grad);

    public static Tensor tensor(float scalar, Device? device = null) => full([], scalar, ScalarType.Float32, device);

    public static Tensor tensor(double scalar, ScalarType? dtype = null, Device? device = null) => full([], scalar, dtype ?? ScalarType.Float64, device);

    public static Tensor tensor(long scalar, ScalarType? dtype = null, Device? device = null) => full([], scalar, dtype ?? ScalarType.Int64, device);

    public static Tensor tensor(float[] rawArray, ScalarType? dtype = null, Device? device = null) =>
        Copy(rawArray, [rawArray.Length], ScalarType.Float32, dtype, device);

    public static Tensor tensor(float[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null) =>
        Copy(rawArray, dimensions, ScalarType.Float32, dtype, device);

    public static Tensor tensor(double[] rawArray, ScalarType? dtype = null, Device? device = null) =>
        Copy(rawArray, [rawArray.Length], ScalarType.Float64, dtype, device);

    public static Tensor tensor(double[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null) =>
        Copy(rawArray, dimensions, ScalarType.Float64, dtype, device);

    public static Tensor tensor(long[] rawArray, ScalarType? dtype = null, Device? device = null) =>
        Copy(rawArray, [rawArray.Length], ScalarType.Int64, dtype, device);

    public static Tensor tensor(long[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null) =>
        Copy(rawArray, dimensions, ScalarType.Int64, dtype, device);

    public static Tensor tensor(int[] rawArray, ReadOnlySpan<long> dimensions, ScalarType? dtype = null, Device? device = null) =>
        Copy(rawArray, dimensions, ScalarType.Int32, dtype, device);

    public static Tensor cat(IList<Tensor> tensors, long dim = 0) => Dispatcher.Call("aten::cat", Argument.Of((IReadOnlyCollection<Tensor>)tensors), dim);

    public static Tensor stack(IList<Tensor> tensors, long dim = 0) => Dispatcher.Call("aten::stack", Argument.Of((IReadOnlyCollection<Tensor>)tensors), dim);

    public static Tensor where(Tensor condition, Tensor x, Tensor y) => Dispatcher.Call("aten::where.self", condition, x, y);

    public static Tensor maximum(Tensor input, Tensor other) => Dispatcher.Call("aten::maximum", input, other);

    public static Tensor minimum(Tensor input, Tensor other) => Dispatcher.Call("aten::minimum", input, other);

    public static Tensor outer(Tensor input, Tensor vec2) => Dispatcher.Call("aten::outer", input, vec2);

    /// <summary>Threads of one operation.</summary>
    public static void set_num_threads(int threads)
    {
        LibraryLoader.EnsureLoaded();
        if (Native.mt_set_threads(threads) != 0)
            throw Dispatcher.Failure($"set_num_threads({threads})");
    }

    public static int get_num_threads()
    {
        LibraryLoader.EnsureLoaded();
        return Native.mt_threads();
    }

    /// <exception cref="ArgumentException">The number of elements is not the product of the dimensions.</exception>
    private static Tensor Copy<T>(T[] elements, ReadOnlySpan<long> dimensions, ScalarType stored, ScalarType? dtype, Device? device) where T : unmanaged
    {
        long product = 1;
        foreach (var dimension in dimensions)
            product = dimension >= 0 ? checked(product * dimension) : throw new ArgumentException($"tensor(): a dimension is {dimension}");
        if (product != elements.Length)
            throw new ArgumentException($"tensor(): {elements.Length} elements do not fill [{string.Join(", ", dimensions.ToArray())}]");
        var tensor = empty(dimensions.ToArray(), stored);
        MemoryMarshal.AsBytes(elements.AsSpan()).CopyTo(tensor.bytes);
        if ((dtype ?? stored) == stored && device is null or { type: DeviceType.CPU })
            return tensor;
        using (tensor)
            return Dispatcher.Call("aten::to.dtype_layout", tensor, dtype ?? stored, Argument.None, device ?? CPU);
    }

    public static class linalg
    {
        /// <summary>The lower factor L of a positive definite matrix L L^T; refuses any other.</summary>
        public static Tensor cholesky(Tensor input) => Dispatcher.Call("aten::linalg_cholesky", input);

        /// <summary>The reduced QR decomposition of a matrix [m, n]: Q [m, k] with orthonormal columns, R [k, n], k = min(m, n).</summary>
        public static (Tensor Q, Tensor R) qr(Tensor input) =>
            Dispatcher.CallMany("aten::linalg_qr", input) is [var q, var r] ? (q, r) : throw new InvalidOperationException("linalg.qr returned something else");

        /// <summary>Singular values in descending order: [m, n] = U [m, k] diag(S [k]) Vh [k, n], k = min(m, n).</summary>
        /// <param name="fullMatrices">U and Vh square instead.</param>
        public static (Tensor U, Tensor S, Tensor Vh) svd(Tensor input, bool fullMatrices = true) =>
            Dispatcher.CallMany("aten::linalg_svd", input, fullMatrices) is [var u, var s, var vh] ? (u, s, vh) : throw new InvalidOperationException("linalg.svd returned something else");
    }

    public static class nn
    {
        public static class functional
        {
            /// <summary>input weights^T + bias. [..., m] by [n, m] to [..., n].</summary>
            public static Tensor linear(Tensor input, Tensor weights, Tensor? bias = null) => Dispatcher.Call("aten::linear", input, weights, bias);

            public static Tensor layer_norm(Tensor input, long[] normalized_shape, Tensor? weight = null, Tensor? bias = null, double eps = 1e-5) =>
                Dispatcher.Call("aten::layer_norm", input, normalized_shape, weight, bias, eps);

            /// <summary>The exact form, by the error function.</summary>
            public static Tensor gelu(Tensor x) => Dispatcher.Call("aten::gelu", x);

            public static Tensor softmax(Tensor input, long dim) => input.softmax(dim);
        }
    }
}
