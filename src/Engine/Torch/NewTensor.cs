using TorchSharp;
using static TorchSharp.torch;

#pragma warning disable RS0030 // the plain calls, each with its Scalars held

namespace MendCluster.Engine.Torch;

/// <summary>Tensors made of numbers; see <see cref="TensorMath"/> for why TorchSharp's own calls are not enough.</summary>
public static class NewTensor
{
    /// <param name="dtype">Otherwise int64 for a whole number and float32 for another.</param>
    public static Tensor Full(ReadOnlySpan<long> shape, Number value, ScalarType? dtype = null, Device? device = null)
    {
        using var held = value.ToScalar();
        return full(shape, held, dtype, device);
    }

    /// <returns>[stop - start]: start, start + 1, ... stop - 1.</returns>
    public static Tensor Arange(long start, long stop, ScalarType dtype = ScalarType.Int64, Device? device = null)
    {
        using Scalar first = ((Number)start).ToScalar(), end = ((Number)stop).ToScalar(), step = ((Number)1).ToScalar();
        return arange(first, end, step, dtype, device);
    }

    /// <summary>
    /// A tensor on the host of a host's numbers, row-major. TorchSharp's own call takes more elements than the shape has, and drops them.
    /// </summary>
    /// <exception cref="ArgumentException">The elements are more or fewer than the shape's.</exception>
    public static Tensor Of(float[] elements, params ReadOnlySpan<long> shape)
    {
        RequireFull(elements.Length, shape);
        return tensor(elements, shape, device: CPU);
    }

    /// <inheritdoc cref="Of(float[], ReadOnlySpan{long})"/>
    public static Tensor Of(long[] elements, params ReadOnlySpan<long> shape)
    {
        RequireFull(elements.Length, shape);
        return tensor(elements, shape, device: CPU);
    }

    /// <summary>
    /// On the host, float32, normally distributed: mean 0, variance 1. The numbers of <c>randn</c>, which has no guard in native code.
    /// </summary>
    public static Tensor Normal(ReadOnlySpan<long> shape, Generator generator) =>
        empty(shape, ScalarType.Float32, CPU).normal_(0, 1, generator);

    /// <summary>On the host, float32, from 0 to 1: the numbers of <c>rand</c>, which has no guard in native code.</summary>
    public static Tensor Uniform(ReadOnlySpan<long> shape, Generator generator) =>
        empty(shape, ScalarType.Float32, CPU).uniform_(0, 1, generator);

    private static void RequireFull(int elements, ReadOnlySpan<long> shape)
    {
        long product = 1;
        foreach (var dimension in shape)
            product *= dimension;
        if (product != elements)
            throw new ArgumentException($"{elements} elements do not fill [{string.Join(", ", shape.ToArray())}]");
    }
}
