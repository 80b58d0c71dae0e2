using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace MendCluster.Engine.Torch;

/// <summary>
/// Counts the bytes of CPU tensors where libtorch asks for them. For tests, benches and commands that measure: whoever serves requests does
/// not install it and pays nothing. Beside tensors it counts what oneDNN borrows for one operator, since that comes from the same
/// allocator; what MKL and OpenMP hold of their own it does not see.
/// </summary>
/// <remarks>
/// The package has no counter. libtorch's allocator takes a tensor's memory from <c>posix_memalign</c> and gives it back by <c>free</c>,
/// both called by libc10.so through its table of imported functions, which stays writable (it is linked lazily). Installing puts the two
/// methods below into that table: they count, and call the C library. Tried with libtorch 2.10; a libc10.so that is built otherwise is
/// refused.
/// </remarks>
public sealed unsafe class AllocationMeter
{
    private static readonly Lock Gate = new();
    private static readonly ConcurrentDictionary<nint, long> Sizes = new();
    private static AllocationMeter? _installed;
    private static delegate* unmanaged<void**, nuint, nuint, int> _allocate;
    private static delegate* unmanaged<void*, void> _free;
    private static long _live, _peak, _largest;

    private AllocationMeter()
    {
    }

    /// <summary>Whether there is a meter for this system at all.</summary>
    public static bool IsSupported => OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == Architecture.X64;

    /// <summary>Bytes held now, of those that were taken since the meter was installed.</summary>
    public long Live => Volatile.Read(ref _live);

    /// <summary>Most bytes held at a time since the last reset.</summary>
    public long Peak => Volatile.Read(ref _peak);

    /// <summary>Most bytes taken at once since the last reset: the largest tensor.</summary>
    public long Largest => Volatile.Read(ref _largest);

    /// <summary>Begins to count, once for the life of the process; again it gives the same meter.</summary>
    /// <exception cref="PlatformNotSupportedException">Not Linux on x64.</exception>
    /// <exception cref="NotSupportedException">libc10.so is not built as this expects.</exception>
    public static AllocationMeter Install()
    {
        if (!IsSupported)
            throw new PlatformNotSupportedException($"The memory of tensors is measured on Linux x64 only; this is {RuntimeInformation.RuntimeIdentifier}.");
        lock (Gate)
        {
            if (_installed is not null)
                return _installed;
            _ = TorchRuntime.Description; // libtorch is loaded
            var imports = new ImportTable(File.ReadLines("/proc/self/maps"), "libc10.so");
            var allocate = (nint*)imports.SlotOf("posix_memalign");
            var free = (nint*)imports.SlotOf("free");
            // As the loader finds them, so that another allocator that was loaded before the C library stays in charge.
            _allocate = (delegate* unmanaged<void**, nuint, nuint, int>)NativeLibrary.GetExport(NativeLibrary.GetMainProgramHandle(),
                "posix_memalign");
            _free = (delegate* unmanaged<void*, void>)NativeLibrary.GetExport(NativeLibrary.GetMainProgramHandle(), "free");
            // free first: nothing is counted whose end would be missed. At the end of the process native code frees without a runtime to
            // call.
            Volatile.Write(ref *free, (nint)(delegate* unmanaged[Cdecl]<void*, void>)&Free);
            Volatile.Write(ref *allocate, (nint)(delegate* unmanaged[Cdecl]<void**, nuint, nuint, int>)&Allocate);
            AppDomain.CurrentDomain.ProcessExit += (_, _) => (*allocate, *free) = ((nint)_allocate, (nint)_free);
            return _installed = new();
        }
    }

    /// <summary>Starts the peak and the largest anew.</summary>
    public void Reset()
    {
        Volatile.Write(ref _peak, Live);
        Volatile.Write(ref _largest, 0);
    }

    /// <summary>Most bytes that an action adds to those that are held when it begins.</summary>
    public long PeakOf(Action action)
    {
        var before = Live;
        Reset();
        action();
        return Peak - before;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static int Allocate(void** to, nuint alignment, nuint size)
    {
        var error = _allocate(to, alignment, size);
        if (error != 0)
            return error;
        Sizes[(nint)(*to)] = (long)size;
        Raise(ref _peak, Interlocked.Add(ref _live, (long)size));
        Raise(ref _largest, (long)size);
        return 0;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void Free(void* at)
    {
        if (Sizes.TryRemove((nint)at, out var size)) // before another thread can be given the same address
            Interlocked.Add(ref _live, -size);
        _free(at);
    }

    private static void Raise(ref long mark, long value)
    {
        for (var seen = Volatile.Read(ref mark); value > seen;)
            seen = Interlocked.CompareExchange(ref mark, value, seen) is var found && found == seen ? value : found;
    }
}
