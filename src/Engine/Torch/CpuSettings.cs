using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace MendCluster.Engine.Torch;

/// <summary>
/// Threads of a CPU's operations. OpenMP reads them once, when libtorch is loaded, so they are put into the process's environment before anything of
/// this assembly runs.
/// </summary>
internal static partial class CpuSettings
{
    /// <summary>Threads of one operation: MEND_THREADS, otherwise as many as there are cores.</summary>
    public static int Threads { get; private set; }

#pragma warning disable CA2255 // a library's initializer: whoever hosts the engine has to have the settings before its first tensor, and cannot forget them so
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void Apply()
    {
        Threads = int.TryParse(Environment.GetEnvironmentVariable("MEND_THREADS"), CultureInfo.InvariantCulture, out var wanted) && wanted > 0 ? wanted : Environment.ProcessorCount;
        Set("OMP_NUM_THREADS", $"{Threads}", overwrite: true);
        // Idle workers spin before they sleep: long enough to meet the next operation of an edit, too short to hold a core that another process wants.
        Set("GOMP_SPINCOUNT", "200000", overwrite: false);
        LibtorchFolder.Load(); // it reads these settings
    }

    /// <summary>.NET's own environment is a copy that native libraries do not see, but on Windows.</summary>
    private static void Set(string name, string value, bool overwrite)
    {
        if (OperatingSystem.IsWindows())
        {
            if (overwrite || Environment.GetEnvironmentVariable(name) is null)
                Environment.SetEnvironmentVariable(name, value);
        }
        else
            _ = setenv(name, value, overwrite ? 1 : 0);
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);
}
