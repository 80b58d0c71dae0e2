using MendCluster.Engine.Torch;
using static TorchSharp.torch;

// Tensors are counted over the whole process.
[assembly: CollectionBehavior(DisableTestParallelization = true)]

namespace MendCluster.Engine.Tests.Torch;

internal static class Tensors
{
    /// <summary>A float32 tensor, row-major.</summary>
    public static Tensor F(long[] shape, params float[] values) => NewTensor.Of(values, shape);

    /// <summary>An int64 tensor, row-major.</summary>
    public static Tensor I(long[] shape, params long[] values) => NewTensor.Of(values, shape);

    public static double[] Values(this Tensor tensor) => tensor.detach().to_type(ScalarType.Float64).data<double>().ToArray();

    public static void AssertIs(this Tensor actual, long[] shape, params double[] values)
    {
        Assert.Equal(shape, actual.shape);
        var found = actual.Values();
        for (var i = 0; i < values.Length; i++)
            Assert.True(Math.Abs(values[i] - found[i]) <= 1e-6 * Math.Max(1, Math.Abs(values[i])) || values[i].Equals(found[i]),
                $"element {i} is {found[i]:R}, expected {values[i]:R}");
    }
}
