using System.Diagnostics;
using System.Globalization;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>
/// Has an edit or a training step become slower? Each is timed in turn with what the machine does at that moment: a product of matrices as
/// large as its own, and a copy through the memory. A machine that is busy slows all of them, so the ratio stays.
/// </summary>
internal static class QuickBench
{
    private const int Rounds = 11;

    public static void Run()
    {
        Console.WriteLine("Float32; times in units of what the same operations take at the rate of a product of 1024 x 1024 x 1024, or the same bytes");
        Console.WriteLine("at the rate of a copy, the larger of the two; median of the rounds, and between which two the middle half of them lies");
        foreach (var name in EditBench.Cases)
        {
            using var scope = NewDisposeScope();
            using var work = EditBench.Make(name, ScalarType.Float32);
            var (edits, steps) = (new List<double>(), new List<double>());
            work.Edit();
            work.Step();
            using var machine = new Machine();
            for (var round = 0; round < Rounds; round++)
            {
                var (flops, stream) = machine.Rates();
                edits.Add(Seconds(work.Edit, 3) / Floor(work.EditParts, flops, stream));
                steps.Add(Seconds(work.Step, 2) / Floor(work.StepParts, flops, stream));
            }
            Console.WriteLine($"{name,-12} edit {Text(edits)}   training step {Text(steps)}");
        }
    }

    private static double Floor(IReadOnlyList<(Operations Operations, double Bytes)> parts, double flops, double stream) =>
        parts.Sum(part => Math.Max(part.Operations.Total / flops, part.Bytes / stream));

    private static string Text(List<double> ratios)
    {
        var sorted = ratios.Order().ToList();
        return string.Create(CultureInfo.InvariantCulture,
            $"{sorted[Rounds / 2]:0.00} ({sorted[Rounds / 4]:0.00} to {sorted[Rounds - 1 - Rounds / 4]:0.00})");
    }

    /// <summary>Of one, in the best of a few.</summary>
    private static double Seconds(Action action, int times) => Enumerable.Range(0, times).Min(_ =>
    {
        using var scope = NewDisposeScope();
        var start = Stopwatch.GetTimestamp();
        action();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    });

    /// <summary>What the machine does at this moment.</summary>
    private sealed class Machine : IDisposable
    {
        private const long Size = 1024, Bytes = 256 << 20;

        private readonly Tensor _a = randn([Size, Size], device: CPU), _b = randn([Size, Size], device: CPU);
        private readonly Tensor _from = randn([Bytes / sizeof(float)], device: CPU), _to = zeros([Bytes / sizeof(float)], device: CPU);

        /// <summary>Operations and bytes a second.</summary>
        public (double Flops, double Stream) Rates() => (2.0 * Size * Size * Size / Seconds(() => _a.mm(_b), 3),
            2.0 * Bytes / Seconds(() => _to.copy_(_from), 2));

        public void Dispose()
        {
            foreach (var tensor in new[] { _a, _b, _from, _to })
                tensor.Dispose();
        }
    }
}
