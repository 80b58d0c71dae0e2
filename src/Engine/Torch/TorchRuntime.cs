using System.Runtime.InteropServices;
using TorchSharp;

namespace MendCluster.Engine.Torch;

/// <summary>What the project needs of the runtime and TorchSharp's interface does not have.</summary>
public static class TorchRuntime
{
    /// <summary>
    /// The environment variable that says for how many turns idle threads of an operation wait awake. Read once, when the process starts; a process alone on its machine
    /// needs no value.
    /// </summary>
    public const string SpinVariable = "GOMP_SPINCOUNT";

    /// <summary>For processes that share cores: beside others that want its core, a thread that waits awake for long costs more than it saves.</summary>
    public const string SpinBesideOthers = "1000";

    /// <summary>One line for the log: which TorchSharp and libtorch, how many threads, how they wait, which devices.</summary>
    public static string Description { get; } =
        $"TorchSharp {typeof(torch).Assembly.GetName().Version?.ToString(3)} over libtorch {torch.__version__}, {torch.get_num_threads()} threads on {Environment.ProcessorCount} cores"
        + (RuntimeInformation.IsOSPlatform(OSPlatform.Linux) ? $", spin {CpuSettings.Spin}" : "")
        + (torch.cuda.is_available() ? $", {torch.cuda.device_count()} CUDA device(s)" : ", no CUDA device");
}
