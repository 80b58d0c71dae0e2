using TorchSharp;

namespace MendCluster.Engine.Torch;

/// <summary>What the project needs of the runtime and TorchSharp's interface does not have.</summary>
public static class TorchRuntime
{
    /// <summary>One line for the log: which TorchSharp and libtorch, how many threads, which devices.</summary>
    public static string Description { get; } =
        $"TorchSharp {typeof(torch).Assembly.GetName().Version?.ToString(3)} over libtorch {torch.__version__}, {torch.get_num_threads()} threads on {Environment.ProcessorCount} cores"
        + (torch.cuda.is_available() ? ", CUDA" : "");
}
