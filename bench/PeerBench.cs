using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>Our part of bench/peer/compare.py: edit and training step of a generated model on the CPU, and the process's peak.</summary>
internal static class PeerBench
{
    public static void Run(string directory, DType dtype, string output)
    {
        var found = new Dictionary<string, object> { ["runtime"] = TorchRuntime.Description };
        using var passes = new Passes(directory, TensorBytes.DTypeOf(dtype), CPU);
        passes.MeasureEdit(found);
        passes.MeasureStep(found);
        found["memory_gb"] = Passes.PeakResidentGB();
        File.WriteAllText(output, JsonSerializer.Serialize(found));
    }
}
