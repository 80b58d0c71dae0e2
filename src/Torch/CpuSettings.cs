using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace MendCluster.Torch;

/// <summary>
/// What a CPU's matrix products depend on most and cannot be changed later: OpenBLAS picks its kernels when it is loaded, and an
/// OPENBLAS_CORETYPE of Haswell (a common default in containers) costs a factor of three on a machine with AVX-512.
/// </summary>
internal static partial class CpuSettings
{
    /// <summary>Puts thread counts and BLAS kernels into the process's environment. Has no effect once libtorch is loaded.</summary>
    /// <returns>The threads of one operation, and a phrase for the log.</returns>
    public static (int Threads, string Description) Apply()
    {
        var cores = Environment.ProcessorCount;
        var threads = Setting("MEND_THREADS") is { } wanted && int.TryParse(wanted, out var count) && count > 0 ? count : cores;
        var coreType = Setting("MEND_OPENBLAS_CORETYPE") ?? (Avx512F.IsSupported ? "SkylakeX" : Setting("OPENBLAS_CORETYPE"));
        if (coreType is not null)
            _ = setenv("OPENBLAS_CORETYPE", coreType, 1);
        _ = setenv("OPENBLAS_NUM_THREADS", $"{threads}", 1);
        _ = setenv("OMP_NUM_THREADS", $"{threads}", 1);
        // Idle workers spin before they sleep. On a core that another process wants, the default spin made a training step 10 times slower.
        _ = setenv("GOMP_SPINCOUNT", "1000", 0);
        // OpenBLAS's own for 2^26 cycles, some 25 ms. With 2^20 an edit on two silos of one machine took 1.1 times that of one process, not 1.3 to 1.5.
        _ = setenv("OPENBLAS_THREAD_TIMEOUT", "20", 0);
        // libtorch's own pool and OpenBLAS's take turns, and where there are cores for one of them only, the products need them more: an
        // edit of the benchmark took 0.18 s with both pools on two cores, 0.14 s with this.
        var own = threads <= 2 ? 1 : threads;
        return (own, $"{threads} threads on {cores} cores, OpenBLAS kernels {coreType ?? "by its own choice"}");
    }

    private static string? Setting(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;

    /// <summary>setenv(3): .NET's own environment is a copy that native libraries do not see.</summary>
    [LibraryImport("libc", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int setenv(string name, string value, int overwrite);
}
