using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>A name of a Python class or function that stood in a pickle. Nothing was imported.</summary>
public sealed record PickledGlobal(string Module, string Name)
{
    public override string ToString() => $"{Module}.{Name}";
}

/// <summary>What a pickle said of an object of an unknown class: arguments and state as plain values. Nothing was built or run.</summary>
public sealed class PickledObject
{
    internal PickledObject(PickledGlobal type, object?[] args)
    {
        Module = type.Module;
        Name = type.Name;
        Args = args;
    }

    public string Module { get; }

    public string Name { get; }

    /// <summary>What its class or its reducing function would have been called with.</summary>
    public object?[] Args { get; }

    /// <summary>What its <c>__setstate__</c> or <c>__dict__</c> would have received; null where the pickle gave none.</summary>
    public object? State { get; internal set; }

    /// <summary>What would have been appended to it, as to a list.</summary>
    public List<object?> Elements { get; } = [];

    /// <summary>What would have been set in it, as in a dict.</summary>
    public OrderedDictionary<object, object?> Items { get; } = new(PickleKeys.Comparer);

    public override string ToString() => $"{Module}.{Name}";
}

/// <summary>A storage of a torch archive: a run of elements in the file that several tensors may share.</summary>
internal sealed class PickledStorage(MappedFile file, string key, DType type, long count)
{
    public MappedFile File => file;

    public string Key => key;

    public DType Type => type;

    /// <summary>Elements.</summary>
    public long Count => count;

    /// <summary>Of the first element in the file. Checked and set before an archive is open; older files tell it last.</summary>
    public long Offset { get; set; }

    public void Require(StorageReference reference)
    {
        if (reference.Type != type || reference.Count != count)
            throw Fault.File(file.Path, $"storage '{key}'",
                $"holds {count} {type.Name()}, but is also asked for as {reference.Count} {reference.Type.Name()}; the file is damaged");
    }
}

/// <summary>A tensor of a torch archive: a strided view of a storage. <see cref="StoredTensor.CopyTo"/> makes it contiguous.</summary>
public sealed class PickledTensor : StoredTensor
{
    private readonly PickledStorage _storage;

    internal PickledTensor(PickledStorage storage, long[] shape, long[] stride, long storageOffset, long byteLength)
        : base(storage.File.Path, storage.Key, storage.Type, shape, byteLength)
    {
        _storage = storage;
        Stride = stride;
        StorageOffset = storageOffset;
    }

    /// <summary>In elements.</summary>
    public long[] Stride { get; }

    /// <summary>In elements.</summary>
    public long StorageOffset { get; }

    /// <summary>Equal for tensors that share their memory, such as tied weights.</summary>
    public string StorageKey => _storage.Key;

    public override StoredTensor Rows(long first, long count) => new PickledTensor(_storage, RowsShape(first, count), Stride,
        StorageOffset + first * Stride[0], Shape[0] == 0 ? 0 : ByteLength / Shape[0] * count);

    private protected override unsafe void Copy(byte* destination)
    {
        if (ByteLength == 0)
            return;
        var size = Type.ElementSize();
        // Trailing dimensions that lie contiguously are one run; the outer ones are walked like an odometer.
        var outer = Shape.Length;
        long run = 1;
        while (outer > 0 && (Shape[outer - 1] == 1 || Stride[outer - 1] == run))
            run *= Shape[--outer];
        var index = new long[outer];
        var element = StorageOffset;
        for (long written = 0; written < ByteLength; written += run * size)
        {
            CopyRun(element, destination + written, run);
            for (var d = outer - 1; d >= 0; d--)
            {
                element += Stride[d];
                if (++index[d] < Shape[d])
                    break;
                element -= Stride[d] * Shape[d];
                index[d] = 0;
            }
        }
    }

    private unsafe void CopyRun(long element, byte* destination, long run)
    {
        var size = Type.ElementSize();
        var offset = _storage.Offset + element * size;
        if (run * size >= 4096)
        {
            _storage.File.CopyTo(offset, destination, run * size);
            return;
        }
        // Short runs come from the map: a system call for each would cost more than the copy.
        var source = _storage.File.Pointer(offset, run * size);
        Buffer.MemoryCopy(source, destination, run * size, run * size);
    }
}
