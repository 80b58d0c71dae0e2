using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;

namespace MendCluster.Torch;

/// <summary>
/// Loads the shim, and with it libtorch, once. Before that it settles what a CPU's matrix products depend on most and cannot be changed
/// later: OpenBLAS picks its kernels when it is loaded, and an OPENBLAS_CORETYPE of Haswell (a common default in containers) costs a
/// factor of three on a machine with AVX-512.
/// </summary>
internal static class LibraryLoader
{
    private static readonly Lazy<string> Loaded = new(Load);

    /// <summary>One line: which libtorch, from where, threads, BLAS kernels. Loads the library if nobody did yet.</summary>
    public static string EnsureLoaded() => Loaded.Value;

    private static string Load()
    {
        var cores = Environment.ProcessorCount;
        var threads = Setting("MEND_THREADS") is { } wanted && int.TryParse(wanted, out var count) && count > 0 ? count : cores;
        var coreType = Setting("MEND_OPENBLAS_CORETYPE") ?? (Avx512F.IsSupported ? "SkylakeX" : Setting("OPENBLAS_CORETYPE"));
        if (coreType is not null)
            _ = Native.setenv("OPENBLAS_CORETYPE", coreType, 1);
        _ = Native.setenv("OPENBLAS_NUM_THREADS", $"{threads}", 1);
        _ = Native.setenv("OMP_NUM_THREADS", $"{threads}", 1);

        NativeLibrary.SetDllImportResolver(typeof(LibraryLoader).Assembly, Resolve);
        var abi = Native.mt_abi();
        if (abi != Native.Abi)
            throw new DllNotFoundException($"lib{Native.Library}.so has entries of version {abi}, this build needs {Native.Abi}; build again with ./mend setup");
        if (Native.mt_set_threads(threads) != 0)
            throw new DllNotFoundException($"libtorch: {Marshal.PtrToStringUTF8(Native.mt_last_error())}");
        return $"libtorch {Marshal.PtrToStringUTF8(Native.mt_version())}, {threads} threads on {cores} cores, "
            + $"OpenBLAS kernels {coreType ?? "by its own choice"}{(Native.mt_cuda_available() != 0 ? ", CUDA" : "")}";
    }

    private static nint Resolve(string name, Assembly assembly, DllImportSearchPath? path)
    {
        if (name != Native.Library)
            return 0;
        // Registers the CUDA kernels where the libtorch at hand has them; nothing refers to that library by name.
        NativeLibrary.TryLoad("libtorch_cuda.so", assembly, path, out _);
        var beside = Path.Combine(AppContext.BaseDirectory, $"lib{name}.so");
        try
        {
            return NativeLibrary.Load(beside);
        }
        catch (DllNotFoundException e)
        {
            throw new DllNotFoundException($"{beside} could not be loaded: {e.Message} Is libtorch installed (apt-get install libtorch-dev, or ./mend setup)?", e);
        }
    }

    private static string? Setting(string name) => Environment.GetEnvironmentVariable(name) is { Length: > 0 } value ? value : null;
}
