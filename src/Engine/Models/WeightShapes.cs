using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>Weights of the right shapes without memory or values: for asking which weights a model has, before one of them is read.</summary>
public sealed class WeightShapes() : Weights(ScalarType.Float32)
{
    /// <summary>One zero, spread by strides of 0.</summary>
    protected override Tensor Read(string name, long[] shape, ScalarType dtype) => zeros([1], dtype).expand(shape);

    protected override Tensor Turn(Tensor value) => value.t();
}
