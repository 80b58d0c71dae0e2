namespace MendCluster.Engine.Data;

/// <summary>
/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine and runtime, and a state of one word,
/// which <see cref="Random"/> does not give.
/// </summary>
public sealed class Prng(ulong state)
{
    /// <summary>The whole state: <c>new Prng(rng.State)</c> continues with the same numbers.</summary>
    public ulong State { get; private set; } = state;

    /// <summary>An independent generator for each (seed, stream), so that step n needs no replay of the steps before it.</summary>
    public static Prng At(ulong seed, ulong stream) => new(new Prng(new Prng(seed).Next() + stream).Next());

    public ulong Next()
    {
        var z = State += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>A number from 0 up to, not including, <paramref name="count"/>; its bias is below 2^-32.</summary>
    public int Next(int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        return (int)Math.BigMul(Next(), (ulong)count, out _);
    }

    public T Pick<T>(IReadOnlyList<T> items) => items[Next(items.Count)];

    /// <summary>A new array with the items in random order (Fisher and Yates).</summary>
    public T[] Shuffle<T>(IEnumerable<T> items)
    {
        var shuffled = items.ToArray();
        for (var i = shuffled.Length - 1; i > 0; i--)
        {
            var j = Next(i + 1);
            (shuffled[i], shuffled[j]) = (shuffled[j], shuffled[i]);
        }
        return shuffled;
    }
}
