using TorchSharp;

#pragma warning disable RS0030 // the one place that makes a Scalar: whoever calls ToScalar keeps it over the native call

namespace MendCluster.Engine.Torch;

/// <summary>A number beside a tensor: whole numbers stay whole, so that the result's type is PyTorch's.</summary>
public readonly struct Number
{
    private readonly long _whole;
    private readonly double _real;
    private readonly bool _isWhole;

    private Number(long whole) => (_whole, _isWhole) = (whole, true);

    private Number(double real) => _real = real;

    public static implicit operator Number(long value) => new(value);

    public static implicit operator Number(double value) => new(value);

    /// <returns>To be disposed after the call, which keeps it alive until then.</returns>
    internal Scalar ToScalar() => _isWhole ? _whole.ToScalar() : _real.ToScalar();
}
