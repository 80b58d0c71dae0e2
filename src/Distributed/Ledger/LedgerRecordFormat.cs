using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using MendCluster.Contracts;

namespace MendCluster.Distributed.Ledger;

/// <summary>The bytes of a ledger, as docs/formats.md draws them. Little endian.</summary>
internal static class LedgerRecordFormat
{
    public const int HeaderLength = 48;
    public const int FrameLength = 8; // payload length, checksum
    public const int FrameHead = FrameLength + 5; // and the entry's length and first byte
    public const int EntryStart = FrameLength + 4; // in a frame
    public const int Version = 1;

    /// <summary>In the type of the factors: the keys follow them.</summary>
    private const int WithKeys = 0x100;

    /// <summary>Bytes. A longer payload is taken for damage.</summary>
    public const int MaxPayload = 1 << 30;

    private static readonly byte[] Magic = "MENDLEDG"u8.ToArray();

    private static readonly JsonSerializerOptions Json = new()
    {
        Converters = { new JsonStringEnumConverter(), new VersionConverter(), new EditIdConverter(), new RouteConverter() },
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    };

    /// <param name="fingerprint">Of the model; 32 bytes.</param>
    public static byte[] Header(ReadOnlySpan<byte> fingerprint)
    {
        var header = new byte[HeaderLength];
        Magic.CopyTo(header, 0);
        BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(8), Version);
        fingerprint.CopyTo(header.AsSpan(16));
        return header;
    }

    /// <exception cref="MendException">Not a ledger of this version, or another model's.</exception>
    public static void CheckHeader(ReadOnlySpan<byte> header, ReadOnlySpan<byte> fingerprint, string file)
    {
        if (header.Length < HeaderLength || !header[..8].SequenceEqual(Magic))
            throw Unusable(file, 0, "does not begin with MENDLEDG; this is no ledger", "Name another file.");
        var version = BinaryPrimitives.ReadInt32LittleEndian(header[8..]);
        if (version != Version)
            throw Unusable(file, 8, $"is of format {version}, this program reads {Version}",
                "Use the version of MendCluster that wrote it.");
        if (!header.Slice(16, 32).SequenceEqual(fingerprint))
            throw Unusable(file, 16,
                $"belongs to the model {Convert.ToHexString(header.Slice(16, 32))[..12]}, the one loaded is {Convert.ToHexString(fingerprint)[..12]}",
                "Edits fit only the model that they were made on, and routed ones only its router: name those, or another ledger.");
    }

    /// <summary>Length, CRC-32C, payload.</summary>
    public static byte[] Frame(LedgerRecord record)
    {
        var entry = JsonSerializer.SerializeToUtf8Bytes(record.Entry, Json);
        using var stream = new MemoryStream();
        using (var writer = new BinaryWriter(stream, Encoding.UTF8, leaveOpen: true))
        {
            writer.Write(0L); // place of length and checksum
            writer.Write(entry.Length);
            writer.Write(entry);
            var isLong = record.Changes.Any(change => change.Replaces is not null || change.Keys is not null || change.UTilde.Type != DType.Float32);
            writer.Write(isLong ? -record.Changes.Count : record.Changes.Count);
            foreach (var (weight, uTilde, deltaTilde, alpha, replaces, keys) in record.Changes)
            {
                var name = Encoding.UTF8.GetBytes(weight);
                writer.Write(name.Length);
                writer.Write(name);
                if (isLong)
                {
                    writer.Write(replaces?.Value ?? 0);
                    writer.Write((int)uTilde.Type | (keys is null ? 0 : WithKeys));
                }
                writer.Write(alpha);
                writer.Write(uTilde.Shape[0]);
                writer.Write(uTilde.Shape[1]);
                writer.Write(deltaTilde.Shape[1]);
                writer.Write(uTilde.Bytes.Span);
                writer.Write(deltaTilde.Bytes.Span);
                if (keys is null)
                    continue;
                writer.Write(keys.Shape[0]);
                writer.Write(keys.Bytes.Span);
            }
        }
        var frame = stream.ToArray();
        BinaryPrimitives.WriteInt32LittleEndian(frame, frame.Length - FrameLength);
        BinaryPrimitives.WriteUInt32LittleEndian(frame.AsSpan(4), Checksum(frame.AsSpan(FrameLength)));
        return frame;
    }

    /// <summary>A quick look that no whole frame fails and hardly any other bytes pass, before a checksum is computed.</summary>
    /// <param name="head">The first <see cref="FrameHead"/> bytes.</param>
    public static bool MayBeFrame(ReadOnlySpan<byte> head)
    {
        var (size, entry) = (BinaryPrimitives.ReadInt32LittleEndian(head), BinaryPrimitives.ReadInt32LittleEndian(head[FrameLength..]));
        return head[FrameHead - 1] == '{' && entry > 0 && entry <= size - 8; // less the two counts
    }

    public static uint Checksum(ReadOnlySpan<byte> payload)
    {
        var crc = uint.MaxValue;
        for (; payload.Length >= 8; payload = payload[8..])
            crc = BitOperations.Crc32C(crc, BinaryPrimitives.ReadUInt64LittleEndian(payload));
        foreach (var b in payload)
            crc = BitOperations.Crc32C(crc, b);
        return ~crc;
    }

    /// <summary>Length of the entry in a frame, bytes.</summary>
    public static int EntryLength(ReadOnlySpan<byte> frame) => BinaryPrimitives.ReadInt32LittleEndian(frame[FrameLength..]);

    /// <summary>Reads an entry without its frame.</summary>
    public static LedgerEntry ReadEntry(ReadOnlySpan<byte> json, string place)
    {
        try
        {
            return Entry(json);
        }
        catch (Exception e) when (e is FormatException or JsonException)
        {
            throw Unusable(place, $"the entry cannot be read: {e.Message}", "Restore the ledger from a copy.", e);
        }
    }

    /// <summary>Checks and reads a whole frame.</summary>
    public static LedgerRecord ReadFrame(ReadOnlySpan<byte> frame, string place)
    {
        const string hint = "A durable record is damaged: restore the ledger from a copy. Nothing was changed.";
        if (frame.Length < FrameLength || BinaryPrimitives.ReadInt32LittleEndian(frame) != frame.Length - FrameLength)
            throw Unusable(place, $"the record's {frame.Length} bytes are not as many as it announces", hint);
        var (expected, found) = (BinaryPrimitives.ReadUInt32LittleEndian(frame[4..]), Checksum(frame[FrameLength..]));
        return expected == found ? Read(frame[FrameLength..], place)
            : throw Unusable(place, $"the checksum is {found:X8}, the record says {expected:X8}", hint);
    }

    /// <summary>Reads a payload whose checksum was right.</summary>
    /// <param name="place">Which ledger, and where in it; for errors.</param>
    public static LedgerRecord Read(ReadOnlySpan<byte> payload, string place)
    {
        try
        {
            var rest = payload;
            var entry = Entry(Take(ref rest, Number(ref rest)));
            var changes = new List<WeightChange>();
            var count = Number(ref rest);
            var isLong = count < 0;
            for (count = isLong ? checked(-count) : count; count > 0; count--)
            {
                var weight = Encoding.UTF8.GetString(Take(ref rest, Number(ref rest)));
                var replaces = isLong ? Long(ref rest) : 0;
                var kind = isLong ? Number(ref rest) : (int)DType.Float32;
                var type = (DType)(kind & ~WithKeys);
                var alpha = BinaryPrimitives.ReadSingleLittleEndian(Take(ref rest, 4));
                var (R, m, n) = (Long(ref rest), Long(ref rest), Long(ref rest));
                changes.Add(new(weight, Factor(ref rest, type, R, m), Factor(ref rest, type, R, n), alpha, replaces == 0 ? null
                    : new(replaces), (kind & WithKeys) == 0 ? null : Factor(ref rest, type, Long(ref rest), m)));
            }
            return rest.IsEmpty ? new(entry, changes) : throw new FormatException($"{rest.Length} bytes are left over");
        }
        catch (Exception e) when (e is FormatException or JsonException or OverflowException)
        {
            throw Unusable(place, $"a record with a right checksum cannot be read: {e.Message}",
                "Use the version of MendCluster that wrote it.", e);
        }
    }

    public static MendException Unusable(string file, long offset, string what, string hint) => Unusable(Place(file, offset), what, hint);

    public static MendException Unusable(string place, string what, string hint, Exception? inner = null) =>
        new(MendError.LedgerUnusable, $"Ledger {place}: {what}.", hint, inner);

    public static string Place(string file, long offset) => $"{file}, offset {offset}";

    private static LedgerEntry Entry(ReadOnlySpan<byte> json) => JsonSerializer.Deserialize<LedgerEntry>(json, Json)
        ?? throw new FormatException("the entry is null");

    private static WireTensor Factor(ref ReadOnlySpan<byte> rest, DType type, long rows, long columns)
    {
        var size = type switch
        {
            DType.Float32 => 4,
            DType.BFloat16 => 2,
            _ => throw new FormatException($"factors are of type {(int)type}, expected 1 (float32) or 3 (bfloat16)"),
        };
        return new(type, [rows, columns], Take(ref rest, checked((int)(rows * columns * size))).ToArray());
    }

    private static int Number(ref ReadOnlySpan<byte> rest) => BinaryPrimitives.ReadInt32LittleEndian(Take(ref rest, 4));

    private static long Long(ref ReadOnlySpan<byte> rest) => BinaryPrimitives.ReadInt64LittleEndian(Take(ref rest, 8));

    private static ReadOnlySpan<byte> Take(ref ReadOnlySpan<byte> rest, int length)
    {
        if (length < 0 || length > rest.Length)
            throw new FormatException($"a part of {length} bytes is announced where {rest.Length} are left");
        var taken = rest[..length];
        rest = rest[length..];
        return taken;
    }

    private sealed class VersionConverter : JsonConverter<ModelVersion>
    {
        public override ModelVersion Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) => new(reader.GetInt64());

        public override void Write(Utf8JsonWriter writer, ModelVersion value, JsonSerializerOptions options) =>
            writer.WriteNumberValue(value.Value);
    }

    private sealed class RouteConverter : JsonConverter<EditRoute>
    {
        public override EditRoute Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) =>
            JsonSerializer.Deserialize<Stored>(ref reader) is { Vectors: { } vectors } route ? new(route.Keys) { Vectors = vectors }
                : throw new JsonException("a route has Keys and Vectors");

        public override void Write(Utf8JsonWriter writer, EditRoute value, JsonSerializerOptions options) =>
            JsonSerializer.Serialize(writer, new Stored(value.Keys, value.Vectors));

        /// <summary>All of it, where the HTTP interface leaves the vectors out.</summary>
        private sealed record Stored(int Keys, string? Vectors);
    }

    private sealed class EditIdConverter : JsonConverter<EditId>
    {
        public override EditId Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) => new(reader.GetInt64());

        public override void Write(Utf8JsonWriter writer, EditId value, JsonSerializerOptions options) =>
            writer.WriteNumberValue(value.Value);
    }
}
