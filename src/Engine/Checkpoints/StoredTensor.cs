using System.Runtime.InteropServices;
using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>A tensor that still lies in its file: type and shape are known, bytes are read on demand, while it is open.</summary>
public abstract class StoredTensor
{
    private protected StoredTensor(string file, string name, DType type, long[] shape, long byteLength)
    {
        File = file;
        Name = name;
        Type = type;
        Shape = shape;
        ByteLength = byteLength;
    }

    /// <summary>Path of the file that holds it.</summary>
    public string File { get; }

    /// <summary>Its key in the file; of a tensor inside a pickle, the key of its storage.</summary>
    public string Name { get; }

    public DType Type { get; }

    public long[] Shape { get; }

    /// <summary>Of the contiguous, row-major form.</summary>
    public long ByteLength { get; }

    /// <summary>Copies the contiguous, row-major, little-endian bytes: one copy, from the file to the destination.</summary>
    /// <param name="destination">Of at least <paramref name="byteLength"/> writable bytes.</param>
    /// <param name="byteLength">Must equal <see cref="ByteLength"/>.</param>
    /// <exception cref="MendException">The lengths differ, or the file became shorter since it was opened.</exception>
    /// <exception cref="ObjectDisposedException">The file was closed.</exception>
    public unsafe void CopyTo(nint destination, long byteLength)
    {
        if (byteLength != ByteLength)
            throw Fault.File(File, Name,
                $"the destination holds {byteLength} bytes, the tensor {Type.Show(Shape)} is {ByteLength}; allocate this type and shape");
        Copy((byte*)destination);
    }

    /// <summary>The same bytes in a new array. For small tensors: an array cannot hold more than 2 GB.</summary>
    public unsafe byte[] ToArray()
    {
        if (ByteLength > Array.MaxLength)
            throw Fault.File(File, Name,
                $"{ByteLength} bytes do not fit an array of at most {Array.MaxLength}; copy them with CopyTo");
        var bytes = new byte[ByteLength];
        fixed (byte* start = bytes)
            Copy(start);
        return bytes;
    }

    /// <summary>A range of the first dimension as a tensor of its own; nothing is read.</summary>
    public abstract StoredTensor Rows(long first, long count);

    private protected long[] RowsShape(long first, long count)
    {
        if (Shape.Length == 0 || first < 0 || count < 0 || count > Shape[0] - first)
            throw Fault.File(File, Name, $"rows {first} to {first + count} of {Type.Show(Shape)} do not exist");
        return [count, .. Shape[1..]];
    }

    /// <summary>Writes the same bytes to a stream. Takes the tensor's size of memory while it does.</summary>
    public unsafe void WriteTo(Stream stream)
    {
        const int Piece = 1 << 30;
        var bytes = (byte*)NativeMemory.Alloc((nuint)ByteLength);
        try
        {
            Copy(bytes);
            for (long at = 0; at < ByteLength; at += Piece)
                stream.Write(new ReadOnlySpan<byte>(bytes + at, (int)Math.Min(Piece, ByteLength - at)));
        }
        finally
        {
            NativeMemory.Free(bytes);
        }
    }

    private protected abstract unsafe void Copy(byte* destination);
}
