using System.Numerics;
using System.Runtime.CompilerServices;

namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// Keys of pickled dicts and members of sets. Scalars compare by value, everything else by identity: comparing nested tuples by value
/// would let a small file with shared parts cost exponential time.
/// </summary>
internal sealed class PickleKeys : IEqualityComparer<object>
{
    public static readonly PickleKeys Comparer = new();

    private PickleKeys()
    {
    }

    public new bool Equals(object? x, object? y) => ReferenceEquals(x, y) || (IsScalar(x) && x!.Equals(y));

    // Mixed with the process's random seed, so that nobody can prepare numbers that all collide.
    public int GetHashCode(object value) => IsScalar(value) ? HashCode.Combine(value) : RuntimeHelpers.GetHashCode(value);

    private static bool IsScalar(object? value) => value is string or long or double or bool or BigInteger or PickledGlobal;
}
