using System.Reflection;
using System.Runtime.InteropServices;

namespace MendCluster.Torch;

/// <summary>Loads the shim, and with it libtorch, once, after <see cref="CpuSettings"/>.</summary>
internal static class LibraryLoader
{
    private static readonly Lazy<string> Loaded = new(Load);

    /// <summary>One line: which libtorch, from where, threads, BLAS kernels. Loads the library if nobody did yet.</summary>
    public static string EnsureLoaded() => Loaded.Value;

    private static string Load()
    {
        var (threads, settings) = CpuSettings.Apply();
        NativeLibrary.SetDllImportResolver(typeof(LibraryLoader).Assembly, Resolve);
        var abi = Native.mt_abi();
        if (abi != Native.Abi)
            throw new DllNotFoundException($"lib{Native.Library}.so has entries of version {abi}, this build needs {Native.Abi}; build again with ./mend setup");
        if (Native.mt_set_threads(threads) != 0)
            throw new DllNotFoundException($"libtorch: {Marshal.PtrToStringUTF8(Native.mt_last_error())}");
        return $"libtorch {Marshal.PtrToStringUTF8(Native.mt_version())}, {settings}{(Native.mt_cuda_available() != 0 ? ", CUDA" : "")}";
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
}
