using TorchSharp;

namespace MendCluster.Torch;

/// <summary>What the project needs of the runtime and TorchSharp's interface does not have, as far as the package can tell.</summary>
public static class TorchRuntime
{
    private static readonly Lazy<string> Loaded = new(Load);

    /// <summary>
    /// One line for the log: which libtorch, threads, BLAS kernels. Ask before the first tensor is made: it settles the kernels, and the
    /// package loads libtorch at its first use.
    /// </summary>
    public static string Description => Loaded.Value;

    /// <returns>Null: the package cannot tell what CPU tensors hold.</returns>
    public static CpuMemory? Memory() => null;

    /// <summary>Does nothing: there is no peak to reset.</summary>
    public static void ResetMemoryPeak()
    {
    }

    private static string Load()
    {
        var (threads, settings) = CpuSettings.Apply();
        torch.set_num_threads(threads);
        return $"TorchSharp {typeof(torch).Assembly.GetName().Version?.ToString(3)} over libtorch {torch.__version__}, {settings}"
            + (torch.cuda.is_available() ? ", CUDA" : "");
    }
}
