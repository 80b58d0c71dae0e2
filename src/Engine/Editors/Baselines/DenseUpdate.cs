using static TorchSharp.torch;

namespace MendCluster.Engine.Editors.Baselines;

/// <summary>One edit of one weight as a matrix of the weight's size: W' = W + R. For baselines on models that fit; never MEND's.</summary>
/// <param name="R">[n, m] float32.</param>
public sealed record DenseUpdate(Tensor R) : WeightUpdate
{
    /// <inheritdoc />
    public override Tensor Of(Tensor x) => -nn.functional.linear(x, R);
}
