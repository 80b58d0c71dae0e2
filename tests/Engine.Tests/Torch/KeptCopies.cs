using System.Diagnostics;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

/// <summary>What keeps copies of tensors, outside of any dispose scope, while a thread collects without a pause. A fault ends the process.</summary>
public static class KeptCopies
{
    /// <returns>How many rounds there were.</returns>
    public static long Run(TimeSpan time)
    {
        using var ending = new CancellationTokenSource();
        var collecting = new Thread(() =>
        {
            while (!ending.IsCancellationRequested)
            {
                GC.Collect(0);
                GC.WaitForPendingFinalizers();
            }
        });
        collecting.Start();
        Tensor[] values = [.. Enumerable.Range(0, 8).Select(_ => ones([64], device: CPU))];
        var (rounds, start) = (0L, Stopwatch.GetTimestamp());
        for (; Stopwatch.GetElapsedTime(start) < time; rounds++)
        {
            using var average = new ParameterAverage(values, 0.9);
            using var statistics = new RunningStatistics(1, values[0], values[1]);
            values[2].KeptCopy(ScalarType.Float64).Dispose();
        }
        ending.Cancel();
        collecting.Join();
        return rounds;
    }
}
