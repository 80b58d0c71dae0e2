using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Training;

/// <summary>
/// Tells whether two shards have the same bits. It runs at every step over all of an editor's state, so it is a fast hash and not a
/// cryptographic one: nobody attacks it, a machine that computes wrongly is found.
/// </summary>
internal static class StateDigest
{
    private const ulong Factor = 0x9E3779B97F4A7C15;

    /// <summary>Of parameters, moments, average and statistics of a group.</summary>
    public static string Of(EditorState state, string group)
    {
        var hash = Factor + (ulong)state.Adam.Steps;
        foreach (var (_, value) in state.TensorsOf(group))
            hash = Add(hash, value);
        if (state.Mend.Shapes.FirstOrDefault(shape => shape.Key == group) is { } shape)
            foreach (var statistics in new[] { shape.U, shape.Delta })
                hash = Add(Add(hash + (ulong)statistics.Count, statistics.Mean), statistics.Squares);
        return hash.ToString("x16", CultureInfo.InvariantCulture);
    }

    private static ulong Add(ulong hash, Tensor tensor)
    {
        using var host = tensor.detach().Host();
        var bytes = host.bytes;
        var words = MemoryMarshal.Cast<byte, ulong>(bytes);
        var (a, b) = (hash, hash + Factor); // two chains, so that one multiplication does not wait for the other
        for (var i = 0; i + 1 < words.Length; i += 2)
        {
            a = BitOperations.RotateLeft((a ^ words[i]) * Factor, 29);
            b = BitOperations.RotateLeft((b ^ words[i + 1]) * Factor, 31);
        }
        foreach (var rest in bytes[(words.Length / 2 * 16)..])
            a = BitOperations.RotateLeft((a ^ rest) * Factor, 29);
        return (a ^ BitOperations.RotateLeft(b, 17)) * Factor;
    }
}
