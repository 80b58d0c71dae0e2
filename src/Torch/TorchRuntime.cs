namespace MendCluster.Torch;

/// <summary>What the project needs of the runtime and TorchSharp's interface does not have. Supplied a second time over TorchSharp.</summary>
public static class TorchRuntime
{
    /// <summary>One line for the log: which libtorch, threads, BLAS kernels.</summary>
    public static string Description => LibraryLoader.EnsureLoaded();

    /// <summary>Memory of CPU tensors in bytes, counted at libtorch's allocator: now, at most since the last reset, and the largest single tensor.</summary>
    /// <returns>Null where the runtime cannot tell.</returns>
    public static unsafe CpuMemory? Memory()
    {
        LibraryLoader.EnsureLoaded();
        Native.Memory figures;
        Native.mt_memory(&figures);
        return new(figures.Live, figures.Peak, figures.Largest);
    }

    /// <summary>Starts the peak and the largest anew.</summary>
    public static void ResetMemoryPeak()
    {
        LibraryLoader.EnsureLoaded();
        Native.mt_memory_reset();
    }
}
