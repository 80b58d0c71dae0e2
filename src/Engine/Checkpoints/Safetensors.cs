using System.Buffers.Binary;
using System.Text.Json;
using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// A safetensors file, memory-mapped: an 8-byte little-endian header length, a JSON header that names type, shape and byte range of every
/// tensor, then the tensors' bytes without gap or overlap. The header is checked whole before a tensor can be asked for.
/// Reading from several threads is safe; closing while another thread holds a pointer or span is not.
/// </summary>
public sealed class SafetensorsFile : IDisposable
{
    /// <summary>Bytes. The limit of the format's own reader.</summary>
    public const long HeaderLimit = 100_000_000;

    private readonly MappedFile _file;

    private SafetensorsFile(MappedFile file)
    {
        _file = file;
        var header = new SafetensorsHeader(file);
        Entries = header.Entries;
        Metadata = header.Metadata;
    }

    public string Path => _file.Path;

    public IReadOnlyDictionary<string, TensorEntry> Entries { get; }

    /// <summary>The header's <c>__metadata__</c>; empty where there is none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <exception cref="MendException">The file is not well-formed safetensors.</exception>
    public static SafetensorsFile Open(string path)
    {
        var file = MappedFile.Open(path, "a safetensors file", sizeof(ulong));
        try
        {
            return new(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <exception cref="MendException">There is no such tensor.</exception>
    public StoredTensor Find(string name) => new SafetensorsTensor(_file, Entry(name));

    /// <summary>The bytes in the map, for tensors below 2 GB. Valid while the file is open.</summary>
    public ReadOnlySpan<byte> Bytes(string name)
    {
        var entry = Entry(name);
        if (entry.ByteLength > int.MaxValue)
            throw Fault.File(Path, name, $"{entry.ByteLength} bytes do not fit a span; use Data or Find(name).CopyTo");
        return _file.Span(entry.Offset, (int)entry.ByteLength);
    }

    /// <summary>Where the bytes lie in the map. Valid while the file is open; read-only memory.</summary>
    public unsafe (nint Pointer, long Length) Data(string name)
    {
        var entry = Entry(name);
        return ((nint)_file.Pointer(entry.Offset, entry.ByteLength), entry.ByteLength);
    }

    public void Dispose() => _file.Dispose();

    private TensorEntry Entry(string name) => Entries.TryGetValue(name, out var entry)
        ? entry
        : throw Fault.File(Path, name, $"no such tensor among the {Entries.Count} of this file");

    private sealed class SafetensorsTensor(MappedFile file, TensorEntry entry)
        : StoredTensor(file.Path, entry.Name, entry.Type, entry.Shape, entry.ByteLength)
    {
        public override StoredTensor Rows(long first, long count)
        {
            var (shape, row) = (RowsShape(first, count), Shape[0] == 0 ? 0 : ByteLength / Shape[0]);
            return new SafetensorsTensor(file, entry with { Shape = shape, Offset = entry.Offset + first * row, ByteLength = count * row });
        }

        private protected override unsafe void Copy(byte* destination) => file.CopyTo(entry.Offset, destination, entry.ByteLength);
    }
}

/// <summary>The header, read token by token so that a duplicate, an unknown field or a wrong number is refused where it stands.</summary>
internal sealed class SafetensorsHeader
{
    public const string MetadataName = "__metadata__";

    private readonly string _file;
    private readonly Dictionary<string, TensorEntry> _entries = [];
    private readonly Dictionary<string, string> _metadata = [];
    private readonly long _dataOffset;

    public SafetensorsHeader(MappedFile file)
    {
        _file = file.Path;
        var declared = BinaryPrimitives.ReadUInt64LittleEndian(file.Span(0, sizeof(ulong)));
        if (declared > SafetensorsFile.HeaderLimit)
            throw Bad("offset 0",
                $"header length {declared} is over the limit of {SafetensorsFile.HeaderLimit}; this is not a safetensors file");
        if ((long)declared > file.Length - sizeof(ulong))
            throw Bad("offset 0",
                $"header length {declared}, but only {file.Length - sizeof(ulong)} bytes follow; the file is cut, fetch it again");
        _dataOffset = sizeof(ulong) + (long)declared;

        var json = file.Span(sizeof(ulong), (int)declared);
        if (json.IsEmpty || json[0] != (byte)'{')
            throw Bad("offset 8", "the header does not begin with '{'; this is not a safetensors file");
        var reader = new Utf8JsonReader(json, new JsonReaderOptions { MaxDepth = 4 });
        try
        {
            Read(ref reader);
        }
        // InvalidOperationException is the reader's answer to strings that are no valid UTF-8.
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw Fault.File(_file, $"offset {sizeof(ulong) + reader.BytesConsumed}",
                $"the header is not valid JSON: {e.Message}", e);
        }
        CheckLayout(file.Length - _dataOffset);
    }

    public IReadOnlyDictionary<string, TensorEntry> Entries => _entries;

    public IReadOnlyDictionary<string, string> Metadata => _metadata;

    private void Read(ref Utf8JsonReader reader)
    {
        var metadataSeen = false;
        reader.Read();
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var name = reader.GetString()!;
            if (name != MetadataName)
            {
                if (!_entries.TryAdd(name, ReadEntry(name, ref reader)))
                    throw Bad(name, "named twice in the header; each tensor may appear once");
                continue;
            }
            if (metadataSeen)
                throw Bad(name, "appears twice in the header");
            metadataSeen = true;
            ReadMetadata(ref reader);
        }
        while (reader.Read())
        {
            // Reads to the end: anything but white space after the object throws.
        }
    }

    private void ReadMetadata(ref Utf8JsonReader reader)
    {
        Expect(ref reader, JsonTokenType.StartObject, MetadataName);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var key = reader.GetString()!;
            Expect(ref reader, JsonTokenType.String, $"{MetadataName}.{key}");
            if (!_metadata.TryAdd(key, reader.GetString()!))
                throw Bad($"{MetadataName}.{key}", "named twice");
        }
    }

    private TensorEntry ReadEntry(string name, ref Utf8JsonReader reader)
    {
        DType? type = null;
        long[]? shape = null, range = null;
        Expect(ref reader, JsonTokenType.StartObject, name);
        while (reader.Read() && reader.TokenType == JsonTokenType.PropertyName)
        {
            var field = reader.GetString()!;
            if (field == "dtype" && type is null)
                type = ReadType(name, ref reader);
            else if (field == "shape" && shape is null)
                shape = ReadNumbers(name, field, ref reader);
            else if (field == "data_offsets" && range is null)
                range = ReadNumbers(name, field, ref reader);
            else
                throw Bad(name, $"field '{field}' is unknown or appears twice; expected dtype, shape and data_offsets, once each");
        }
        if (type is null || shape is null || range is null)
            throw Bad(name, "dtype, shape and data_offsets are all required");
        if (range.Length != 2 || range[0] > range[1])
            throw Bad(name, $"data_offsets [{string.Join(", ", range)}]; expected [begin, end] with begin <= end");
        if (!type.Value.TryByteLength(shape, out var byteLength))
            throw Bad(name, $"the size of {type.Value.Show(shape)} overflows 63 bits or is no whole number of bytes");
        if (byteLength != range[1] - range[0])
            throw Bad(name,
                $"{type.Value.Show(shape)} is {byteLength} bytes, but data_offsets [{range[0]}, {range[1]}] are {range[1] - range[0]}");
        return new(name, type.Value, shape, range[0], byteLength);
    }

    private DType ReadType(string name, ref Utf8JsonReader reader)
    {
        Expect(ref reader, JsonTokenType.String, $"{name}.dtype");
        var text = reader.GetString()!;
        foreach (var type in Enum.GetValues<DType>())
            if (type.SafetensorsName() == text)
                return type;
        var known = string.Join(' ', Enum.GetValues<DType>().Select(t => t.SafetensorsName()));
        throw Bad(name, $"dtype '{text}' is not among {known}; convert the tensor");
    }

    private long[] ReadNumbers(string name, string field, ref Utf8JsonReader reader)
    {
        Expect(ref reader, JsonTokenType.StartArray, $"{name}.{field}");
        var numbers = new List<long>();
        while (reader.Read() && reader.TokenType != JsonTokenType.EndArray)
        {
            if (reader.TokenType != JsonTokenType.Number || !reader.TryGetInt64(out var number) || number < 0)
                throw Bad(name, $"{field} holds something that is no integer from 0 to 2^63 - 1");
            numbers.Add(number);
        }
        return [.. numbers];
    }

    /// <summary>The tensors must tile the data exactly; their order in the header is free.</summary>
    private void CheckLayout(long dataLength)
    {
        long next = 0;
        foreach (var entry in _entries.Values.OrderBy(e => e.Offset).ThenBy(e => e.ByteLength).ToArray())
        {
            if (entry.Offset != next)
                throw Bad(entry.Name, entry.Offset < next
                    ? $"begins at data offset {entry.Offset}, inside another tensor that ends at {next}"
                    : $"begins at data offset {entry.Offset}, but the tensor before it ends at {next}; gaps are not allowed");
            if (entry.ByteLength > dataLength - next)
                throw Bad(entry.Name,
                    $"ends at data offset {next + (Int128)entry.ByteLength}, the file holds {dataLength} bytes of data; fetch it again");
            next += entry.ByteLength;
            _entries[entry.Name] = entry with { Offset = _dataOffset + entry.Offset };
        }
        if (next != dataLength)
            throw Bad($"offset {_dataOffset + next}",
                $"the tensors end here, but {dataLength - next} bytes follow; trailing data is not allowed");
    }

    private void Expect(ref Utf8JsonReader reader, JsonTokenType expected, string where)
    {
        reader.Read();
        if (reader.TokenType != expected)
            throw Bad(where, $"found {reader.TokenType} in the header, expected {expected}");
    }

    private MendException Bad(string where, string message) => Fault.File(_file, where, message);
}
