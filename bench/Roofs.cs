using System.Diagnostics;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>What a device does when it is let: the ceilings that times are held against.</summary>
/// <param name="CopyIn">Bytes a second from the host's memory, pinned.</param>
/// <param name="Stream">Bytes a second through the device's memory, read and written.</param>
/// <param name="Float32">Operations a second of a large square product.</param>
/// <param name="BFloat16">The same.</param>
/// <param name="BFloat16AtShape">
/// Of the model's largest map over an edit's tokens, each time with another matrix: none lies in a cache.
/// </param>
internal sealed record Roofs(double CopyIn, double Stream, double Float32, double BFloat16, double BFloat16AtShape)
{
    public static Roofs Measure(Device device, Stage stage, long tokens)
    {
        var small = device.type == TorchSharp.DeviceType.CPU;
        var (bytes, size) = small ? (1L << 24, 512L) : (1L << 30, 8192L);
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        var pageable = randn([bytes / sizeof(float)]);
        var host = small ? pageable : pageable.pin_memory();
        var there = empty_like(host, device: device);
        var other = empty_like(there);
        var copyIn = Best(device, () => there.copy_(host));
        var stream = Best(device, () => other.copy_(there));
        var (float32, bfloat16) = (Square(ScalarType.Float32), Square(ScalarType.BFloat16));

        var largest = stage.Linears().MaxBy(linear => linear.InFeatures * linear.OutFeatures)!;
        List<Tensor> matrices = [.. Enumerable.Range(0, 8)
            .Select(i => randn([largest.OutFeatures, largest.InFeatures], device: device).to_type(ScalarType.BFloat16).t())];
        var x = randn([tokens, largest.InFeatures], device: device).to_type(ScalarType.BFloat16);
        var atShape = Best(device, () =>
        {
            foreach (var matrix in matrices)
                x.mm(matrix).Dispose();
        });
        return new(bytes / copyIn, 2 * bytes / stream, float32, bfloat16,
            2.0 * tokens * largest.InFeatures * largest.OutFeatures * matrices.Count / atShape);

        double Square(ScalarType dtype)
        {
            var (a, b) = (randn([size, size], device: device).to_type(dtype), randn([size, size], device: device).to_type(dtype));
            return 2.0 * size * size * size / Best(device, () => a.mm(b).Dispose());
        }
    }

    /// <summary>Seconds of the best of several rounds.</summary>
    private static double Best(Device device, Action action)
    {
        var best = double.MaxValue;
        for (var i = 0; i < 6; i++)
        {
            Passes.Wait(device);
            var start = Stopwatch.GetTimestamp();
            action();
            Passes.Wait(device);
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        return best;
    }
}
