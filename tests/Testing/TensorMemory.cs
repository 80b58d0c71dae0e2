using MendCluster.Engine.Torch;

namespace MendCluster.Testing;

public static class TensorMemory
{
    /// <summary>Most bytes of CPU tensors that an action adds to what there is; null where the runtime cannot tell (the TorchSharp package).</summary>
    public static long? PeakOf(Action action)
    {
        var before = TorchRuntime.Memory()?.Live;
        TorchRuntime.ResetMemoryPeak();
        action();
        return TorchRuntime.Memory()?.Peak - before;
    }
}
