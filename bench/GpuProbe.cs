using System.Diagnostics;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>Does TorchSharp's library work over the libtorch that is here, on the device? The first thing that the GPU kit asks.</summary>
internal static class GpuProbe
{
    private const int Size = 512;

    /// <returns>The exit status: 0 when every answer on the device is the CPU's.</returns>
    public static int Run(string name)
    {
        Console.WriteLine(TorchRuntime.Description);
        var device = Devices.Of(name);
        using var scope = NewDisposeScope();
        using var generator = new Generator(1);
        var (a, b) = (randn([Size, Size], generator: generator), randn([Size, Size], generator: generator));
        var good = true;
        void Check(string what, Tensor expected, Func<Tensor> found, double tolerance)
        {
            var watch = Stopwatch.StartNew();
            var difference = found().cpu().to_type(ScalarType.Float32).sub(expected).norm().item<float>() / expected.norm().item<float>();
            var passed = difference <= tolerance; // NaN is not
            good &= passed;
            Console.WriteLine(FormattableString.Invariant($"  {what,-34} {(passed ? "ok" : "WRONG")}, off by {difference:0.0e0}, {watch.ElapsedMilliseconds} ms"));
        }
        var product = a.mm(b);
        Check("float32 product", product, () => a.to(device).mm(b.to(device)), 1e-4);
        Check("bfloat16 product", product, () => a.to(ScalarType.BFloat16, device).mm(b.to(ScalarType.BFloat16, device)), 1e-2);
        Check("softmax, gelu, layer norm", Net(a), () => Net(a.to(device)), 1e-4);
        Check("gradient", Gradient(a, b), () => Gradient(a.to(device), b.to(device)), 1e-4);
        Check("argmax, index_select, cat", Rows(a), () => Rows(a.to(device)), 0);
        return good ? 0 : 1;
    }

    private static Tensor Net(Tensor x) => nn.functional.layer_norm(nn.functional.gelu(x).softmax(-1), [x.shape[^1]]);

    private static Tensor Gradient(Tensor a, Tensor b)
    {
        var x = a.detach().requires_grad_();
        return Derivatives.Of([(x.mm(b).tanh() * b).sum()], [x])[0];
    }

    private static Tensor Rows(Tensor x) => cat([x.index_select(0, x.argmax(1)), x], 0);
}
