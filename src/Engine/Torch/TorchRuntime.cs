using System.Runtime.InteropServices;
using TorchSharp;

namespace MendCluster.Engine.Torch;

/// <summary>What the project needs of the runtime and TorchSharp's interface does not have.</summary>
public static class TorchRuntime
{
    /// <summary>
    /// The environment variable that says for how many turns idle threads of an operation wait awake; read once, when the process starts. A
    /// process that has its cores for itself edits GPT-2's shape 1.15 times as fast with 200000; beside another busy process that value all
    /// but stops both.
    /// </summary>
    public const string SpinVariable = "GOMP_SPINCOUNT";

    /// <summary>One line for the log: which TorchSharp and libtorch, how many threads, how they wait, which devices.</summary>
    public static string Description { get; } =
        $"TorchSharp {typeof(torch).Assembly.GetName().Version?.ToString(3)} over libtorch {torch.__version__}, {torch.get_num_threads()} threads on {Environment.ProcessorCount} cores"
        + (RuntimeInformation.IsOSPlatform(OSPlatform.Linux) ? $", spin {CpuSettings.Spin}" : "")
        + (torch.cuda.is_available() ? $", {torch.cuda.device_count()} CUDA device(s)" : ", no CUDA device");
}
