using System.Globalization;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using MendCluster.Contracts;

namespace MendCluster.Engine.Torch;

/// <summary>
/// Threads of a CPU's operations, and what becomes of memory that a tensor lets go of. OpenMP reads its settings once, when libtorch is
/// loaded, so they are put into the process's environment before anything of this assembly runs.
/// </summary>
internal static partial class CpuSettings
{
    /// <summary>
    /// Turns for which idle threads wait awake. Long enough to meet the next of many small operations (without it the training of an editor
    /// for a model of 64 dimensions took 1.3 times as long on two cores), and short: threads that wait awake keep a core from another
    /// process whose threads wait for that core. With 20,000 turns two trainings beside each other took more than six times as long as
    /// alone, with 1,000 2.6 times, on an AMD EPYC.
    /// </summary>
    private const string ShortSpin = "1000";

    /// <summary>
    /// Bytes that may lie free at a heap's end, and from which a tensor has a mapping of its own (the most that glibc takes). By itself glibc
    /// gives back what is free above a few megabytes, and the next tensor meets every page of it as a fault (docs/performance.md).
    /// </summary>
    private const int MaxKeptFree = 256 << 20, MinMapping = 32 << 20;

    private const int TrimThreshold = -1, MmapThreshold = -3; // of malloc.h

    /// <summary>As native code sees it. Only libgomp, which libtorch for Linux brings, knows the variable.</summary>
    public static string Spin => Environment.GetEnvironmentVariable(TorchRuntime.SpinVariable) ?? ShortSpin;

    // a library's initializer: whoever hosts the engine has to have the settings before its first tensor, and cannot forget them so
#pragma warning disable CA2255
    [ModuleInitializer]
#pragma warning restore CA2255
    internal static void Apply()
    {
        Set("OMP_NUM_THREADS", $"{Threads(Environment.GetEnvironmentVariable("MEND_THREADS"))}");
        Set(TorchRuntime.SpinVariable, Spin);
        if (OperatingSystem.IsLinux())
            KeepFreeMemory();
        LibtorchFolder.Load(); // it reads these settings
    }

    /// <summary>Threads of one operation: what MEND_THREADS says, otherwise as many as there are cores.</summary>
    /// <exception cref="MendException">It says something else. In the initializer this stops whatever needs the engine.</exception>
    internal static int Threads(string? wanted) => string.IsNullOrEmpty(wanted) ? Environment.ProcessorCount
        : int.TryParse(wanted, NumberStyles.None, CultureInfo.InvariantCulture, out var threads) && threads > 0 ? threads
        : throw new MendException(MendError.InvalidOption, $"MEND_THREADS is \"{wanted}\".",
        "It is the threads of one operation, a positive whole number; without it there are as many as cores.");

    /// <summary>What the environment says of it holds, and so does another C library's own way.</summary>
    private static void KeepFreeMemory()
    {
        try
        {
            if (Environment.GetEnvironmentVariable("MALLOC_TRIM_THRESHOLD_") is null)
                _ = mallopt(TrimThreshold, MaxKeptFree);
            if (Environment.GetEnvironmentVariable("MALLOC_MMAP_THRESHOLD_") is null)
                _ = mallopt(MmapThreshold, MinMapping);
        }
        catch (EntryPointNotFoundException)
        {
            // musl has no such settings
        }
    }

    /// <summary>.NET's own environment is a copy that native libraries do not see, but on Windows.</summary>
    private static void Set(string name, string value)
    {
        if (OperatingSystem.IsWindows())
            Environment.SetEnvironmentVariable(name, value);
        else
            _ = setenv(name, value, overwrite: 1);
    }

    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);

    [LibraryImport("libc")]
    private static partial int mallopt(int setting, int value);
}
