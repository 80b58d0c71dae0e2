using System.Buffers;
using System.Buffers.Binary;
using System.Text.Encodings.Web;
using System.Text.Json;
using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// A tensor on its way into a file. <paramref name="Write"/> is called once, in the file's order, and writes exactly shape x element size
/// bytes: contiguous, row-major, little endian.
/// </summary>
public sealed record TensorToWrite(string Name, DType Type, long[] Shape, Action<Stream> Write)
{
    public TensorToWrite(string name, DType type, long[] shape, ReadOnlyMemory<byte> bytes)
        : this(name, type, shape, stream => stream.Write(bytes.Span))
    {
    }

    /// <summary>A tensor of another file, as it is there.</summary>
    public TensorToWrite(string name, StoredTensor stored)
        : this(name, stored.Type, stored.Shape, stored.WriteTo)
    {
    }

    /// <exception cref="MendException">A shape that is negative or overflows.</exception>
    public long ByteLength => Type.TryByteLength(Shape, out var length) ? length
        : throw Fault.File("tensor to write", Name,
        $"the size of {Type.Show(Shape)} is negative, overflows 63 bits or is no whole number of bytes");
}

/// <summary>Writes safetensors files tensor by tensor: no more than one has to exist in memory.</summary>
public static class SafetensorsWriter
{
    private static readonly JsonWriterOptions Json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>
    /// Writes <c>path.partial</c>, flushes it to the disk and renames it over <paramref name="path"/>: a reader meets the old file or the
    /// whole new one. Tensors lie by falling element size, then by name: each is aligned, and the same content makes the same file.
    /// </summary>
    /// <exception cref="MendException">
    /// A name twice or reserved, a shape that overflows, or too many or few bytes written.
    /// </exception>
    public static void Write(string path, IEnumerable<TensorToWrite> tensors, IReadOnlyDictionary<string, string>? metadata = null)
    {
        var ordered = tensors.OrderByDescending(t => t.Type.ElementSize()).ThenBy(t => t.Name, StringComparer.Ordinal).ToArray();
        var header = Header(path, ordered, metadata);
        var partial = path + ".partial";
        using (var stream = new FileStream(partial, FileMode.Create, FileAccess.Write, FileShare.None, bufferSize: 1 << 16))
        {
            try
            {
                stream.Write(header);
                foreach (var tensor in ordered)
                    WriteTensor(path, tensor, stream);
                stream.Flush(flushToDisk: true);
            }
            catch
            {
                File.Delete(partial);
                throw;
            }
        }
        File.Move(partial, path, overwrite: true);
    }

    private static void WriteTensor(string path, TensorToWrite tensor, Stream stream)
    {
        tensor.Type.TryByteLength(tensor.Shape, out var byteLength);
        var begin = stream.Position;
        tensor.Write(stream);
        if (stream.Position - begin != byteLength)
            throw Fault.File(path, tensor.Name,
                $"{stream.Position - begin} bytes were written, but {tensor.Type.Show(tensor.Shape)} is {byteLength}");
    }

    private static byte[] Header(string path, TensorToWrite[] tensors, IReadOnlyDictionary<string, string>? metadata)
    {
        var names = new HashSet<string> { SafetensorsHeader.MetadataName };
        var buffer = new ArrayBufferWriter<byte>();
        buffer.Advance(Reserve(buffer, sizeof(ulong)));
        using (var json = new Utf8JsonWriter(buffer, Json))
        {
            json.WriteStartObject();
            if (metadata is { Count: > 0 })
            {
                json.WriteStartObject(SafetensorsHeader.MetadataName);
                foreach (var (key, value) in metadata.OrderBy(pair => pair.Key, StringComparer.Ordinal))
                    json.WriteString(key, value);
                json.WriteEndObject();
            }
            long begin = 0;
            foreach (var tensor in tensors)
            {
                if (!names.Add(tensor.Name))
                    throw Fault.File(path, tensor.Name, "the name is given twice or reserved; each tensor needs its own");
                if (!tensor.Type.TryByteLength(tensor.Shape, out var byteLength) || byteLength > long.MaxValue - begin)
                    throw Fault.File(path, tensor.Name,
                        $"the size of {tensor.Type.Show(tensor.Shape)} is negative, overflows 63 bits or is no whole number of bytes");
                WriteEntry(json, tensor, begin, begin + byteLength);
                begin += byteLength;
            }
            json.WriteEndObject();
        }
        // Spaces up to a multiple of eight, so that the first tensor is aligned.
        var padding = -buffer.WrittenCount & 7;
        buffer.GetSpan(8)[..padding].Fill((byte)' ');
        buffer.Advance(padding);

        var header = buffer.WrittenSpan.ToArray();
        BinaryPrimitives.WriteInt64LittleEndian(header, header.Length - sizeof(ulong));
        return header;
    }

    private static int Reserve(ArrayBufferWriter<byte> buffer, int length)
    {
        buffer.GetSpan(length)[..length].Clear();
        return length;
    }

    private static void WriteEntry(Utf8JsonWriter json, TensorToWrite tensor, long begin, long end)
    {
        json.WriteStartObject(tensor.Name);
        json.WriteString("dtype", tensor.Type.SafetensorsName());
        json.WriteStartArray("shape");
        foreach (var dimension in tensor.Shape)
            json.WriteNumberValue(dimension);
        json.WriteEndArray();
        json.WriteStartArray("data_offsets");
        json.WriteNumberValue(begin);
        json.WriteNumberValue(end);
        json.WriteEndArray();
        json.WriteEndObject();
    }
}
