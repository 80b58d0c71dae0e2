namespace TorchSharp;

/// <summary>A number given to an operator: an integer, a floating-point number or a truth value.</summary>
public readonly struct Scalar
{
    private readonly double _real;
    private readonly long _number;

    private Scalar(double real, long number, bool isFloatingPoint, bool isBool) =>
        (_real, _number, IsFloatingPoint, IsBool) = (real, number, isFloatingPoint, isBool);

    internal bool IsFloatingPoint { get; }

    internal bool IsBool { get; }

    public static implicit operator Scalar(int value) => new(value, value, false, false);

    public static implicit operator Scalar(long value) => new(value, value, false, false);

    public static implicit operator Scalar(float value) => new(value, 0, true, false);

    public static implicit operator Scalar(double value) => new(value, 0, true, false);

    public static implicit operator Scalar(bool value) => new(value ? 1 : 0, value ? 1 : 0, false, true);

    public double ToDouble() => _real;

    public long ToInt64() => IsFloatingPoint ? (long)_real : _number;
}
