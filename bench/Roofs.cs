using System.Diagnostics;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>What a device does when it is let: the ceilings that times are held against.</summary>
/// <param name="CopyIn">Bytes a second from the host's memory, pinned.</param>
/// <param name="Stream">Bytes a second through the device's memory, read and written.</param>
/// <param name="Float32">Operations a second of a large square product.</param>
/// <param name="BFloat16">The same.</param>
internal sealed record Roofs(Device Device, ScalarType Weights, double CopyIn, double Stream, double Float32, double BFloat16)
{
    /// <summary>Of matrices that take turns: more than any cache holds.</summary>
    private const long BytesInTurn = 256L << 20;

    private readonly Dictionary<(long, long, long, ScalarType), double> _seconds = [];

    /// <param name="weights">Their type in the model.</param>
    public static Roofs Measure(Device device, ScalarType weights)
    {
        var small = device.type == TorchSharp.DeviceType.CPU;
        var (bytes, size) = small ? (1L << 28, 1024L) : (1L << 30, 8192L);
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        var pageable = randn([bytes / sizeof(float)]);
        var host = small ? pageable : pageable.pin_memory();
        var there = empty_like(host, device: device);
        var other = empty_like(there);
        var copyIn = Best(device, () => there.copy_(host));
        var stream = Best(device, () => other.copy_(there));
        return new(device, weights, bytes / copyIn, 2 * bytes / stream, Square(ScalarType.Float32),
            weights == ScalarType.BFloat16 ? Square(ScalarType.BFloat16) : 0);

        double Square(ScalarType dtype)
        {
            var (a, b) = (randn([size, size], device: device).to_type(dtype), randn([size, size], device: device).to_type(dtype));
            return 2.0 * size * size * size / Best(device, () => a.mm(b).Dispose());
        }
    }

    /// <summary>
    /// What the device takes for products of just these shapes, each time with another matrix, which no cache has: of the two ways to lay
    /// out that matrix the quicker one.
    /// </summary>
    public double SecondsOf(Operations operations) => operations.Products.Sum(product => product.Times * SecondsOf(product));

    public double SecondsOf(Product product)
    {
        var (rows, m, n, _, _) = product;
        var dtype = product.InWeightsType ? Weights : ScalarType.Float32;
        if (_seconds.TryGetValue((rows, m, n, dtype), out var known))
            return known;
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        var matrix = randn([m, n], device: Device).to_type(dtype);
        var count = (int)Math.Clamp(BytesInTurn / (matrix.numel() * matrix.element_size()), 2, 64);
        var x = randn([rows, m], device: Device).to_type(dtype);
        var seconds = double.PositiveInfinity;
        foreach (var isTurned in new[] { false, true })
        {
            using var turned = NewDisposeScope();
            List<Tensor> matrices =
                [.. Enumerable.Range(0, count).Select(_ => isTurned ? matrix.t().contiguous().t() : matrix.clone())];
            seconds = Math.Min(seconds, Best(Device, () => matrices.ForEach(each => x.mm(each).Dispose())) / count);
        }
        return _seconds[(rows, m, n, dtype)] = seconds;
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
