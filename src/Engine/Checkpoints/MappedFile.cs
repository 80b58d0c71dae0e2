using System.IO.MemoryMappedFiles;
using System.Runtime.ExceptionServices;
using MendCluster.Contracts;
using Microsoft.Win32.SafeHandles;

namespace MendCluster.Engine.Checkpoints;

/// <summary>A whole file, mapped read-only. Every range is checked here, so a reader's mistake cannot become a wild pointer.</summary>
internal sealed unsafe class MappedFile : IDisposable
{
    /// <summary>Bytes that one core reads at a time.</summary>
    private const long Piece = 16 << 20;

    private readonly SafeFileHandle _handle;
    private readonly MemoryMappedFile _map;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _start;
    private bool _disposed;

    private MappedFile(string path, SafeFileHandle handle, long length)
    {
        Path = path;
        Length = length;
        _handle = handle;
        _map = MemoryMappedFile.CreateFromFile(handle, null, 0, MemoryMappedFileAccess.Read, HandleInheritability.None, leaveOpen: true);
        _view = _map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
        _view.SafeMemoryMappedViewHandle.AcquirePointer(ref _start);
    }

    public string Path { get; }

    public long Length { get; }

    /// <summary>Maps the file, which should be a <paramref name="kind"/> and so have at least <paramref name="smallest"/> bytes.</summary>
    public static MappedFile Open(string path, string kind, int smallest)
    {
        SafeFileHandle? handle = null;
        try
        {
            handle = System.IO.File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.Read);
            var length = RandomAccess.GetLength(handle);
            var start = new byte[LfsPointer.Start.Length];
            if (RandomAccess.Read(handle, start, 0) == start.Length && LfsPointer.Start.SequenceEqual(start))
                throw Fault.File(path, "offset 0", LfsPointer.Said);
            if (length < smallest)
                throw Fault.File(path, "length", $"{length} bytes, but {kind} has at least {smallest}; fetch the file again");
            return new(path, handle, length);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NotSupportedException)
        {
            handle?.Dispose();
            throw Fault.File(path, "open", $"{e.Message} Expected {kind}; check the path and its permissions", e);
        }
        catch
        {
            handle?.Dispose();
            throw;
        }
    }

    /// <summary>Valid until the file is closed.</summary>
    public byte* Pointer(long offset, long length)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegative(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, Length - offset);
        return _start + offset;
    }

    /// <summary>Valid until the file is closed.</summary>
    public ReadOnlySpan<byte> Span(long offset, int length) => new(Pointer(offset, length), length);

    /// <summary>
    /// Reads rather than copies from the map: the kernel then fills the destination without a page fault on the source, and a file that was
    /// cut meanwhile is an exception where touching the map would kill the process. Large ranges are read by all cores: what costs is
    /// filling fresh memory.
    /// </summary>
    public void CopyTo(long offset, byte* destination, long length)
    {
        Pointer(offset, length);
        if (length <= Piece)
        {
            Read(offset, destination, length);
            return;
        }
        var start = (nint)destination;
        try
        {
            Parallel.For(0, (length + Piece - 1) / Piece,
                i => Read(offset + i * Piece, (byte*)(start + (nint)(i * Piece)), Math.Min(Piece, length - i * Piece)));
        }
        catch (AggregateException e) when (e.InnerException is MendException or IOException)
        {
            ExceptionDispatchInfo.Throw(e.InnerException);
        }
    }

    private void Read(long offset, byte* destination, long length)
    {
        while (length > 0)
        {
            var read = RandomAccess.Read(_handle, new Span<byte>(destination, (int)length), offset);
            if (read == 0)
                throw Fault.File(Path, $"offset {offset}",
                    $"the file ends here; it was {Length} bytes when it was opened. Do not change checkpoints while they are loaded");
            offset += read;
            destination += read;
            length -= read;
        }
    }

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _map.Dispose();
        _handle.Dispose();
    }
}
