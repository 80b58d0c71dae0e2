using System.Buffers.Binary;
using System.Text;
using MendCluster.Contracts;

namespace MendCluster.Engine.Files;

/// <summary>One field of a protobuf message, not yet understood. Each reading checks the wire type that it needs.</summary>
/// <param name="Form">What the file is to be, for errors: "SentencePiece model".</param>
/// <param name="Offset">Of the field in the file.</param>
internal sealed record ProtobufField(string File, string Form, long Offset, int Number, int WireType, ulong RawInteger,
    ReadOnlyMemory<byte> RawBytes, long BytesOffset)
{
    private static readonly UTF8Encoding StrictUtf8 = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    public long Integer => (long)Of(0, RawInteger);

    public float Float => BinaryPrimitives.ReadSingleLittleEndian(Of(5, RawBytes).Span);

    public ReadOnlyMemory<byte> Bytes => Of(2, RawBytes);

    /// <summary>Of a message within the message.</summary>
    public IEnumerable<ProtobufField> Fields => Read(File, Form, Bytes, BytesOffset);

    /// <summary>A repeated number: packed, or this one of several fields.</summary>
    public IEnumerable<long> Integers
    {
        get
        {
            if (WireType == 0)
            {
                yield return Integer;
                yield break;
            }
            for (var at = 0; at < Bytes.Length;)
                yield return (long)Varint(Bytes.Span, ref at, (place, problem) => Error($"{problem}, at its byte {place}"));
        }
    }

    public string Text
    {
        get
        {
            try
            {
                return StrictUtf8.GetString(Bytes.Span);
            }
            catch (DecoderFallbackException e)
            {
                throw Fault.File(File, $"offset {Offset}", "the text is not UTF-8; the file is damaged", e);
            }
        }
    }

    /// <summary>The fields of a message, in their order.</summary>
    /// <param name="offset">Of the message in the file.</param>
    public static IEnumerable<ProtobufField> Read(string file, string form, ReadOnlyMemory<byte> bytes, long offset = 0)
    {
        for (var at = 0; at < bytes.Length;)
        {
            var start = offset + at;
            var key = Number();
            var (number, wireType) = (key >> 3, key & 7);
            if (number is 0 or > 536_870_911)
                throw Broken(start, $"field number {number}, expected 1 to 536870911");
            ulong integer = 0;
            ulong length = wireType switch
            {
                0 => 0,
                1 => 8,
                2 => Number(),
                5 => 4,
                _ => throw Broken(start, $"wire type {wireType} in field {number}, expected 0, 1, 2 or 5"),
            };
            if (wireType == 0)
                integer = Number();
            if (length > (ulong)(bytes.Length - at))
                throw Broken(start, $"field {number} needs {length} bytes, but {bytes.Length - at} are left in its message");
            yield return new(file, form, start, (int)number, (int)wireType, integer, bytes.Slice(at, (int)length), offset + at);
            at += (int)length;

            ulong Number() => Varint(bytes.Span, ref at, (place, problem) => Broken(offset + place, problem));
        }

        MendException Broken(long place, string problem) =>
            Fault.File(file, $"offset {place}", $"{problem}; the file is cut, damaged or no {form}");
    }

    public MendException Error(string message) => Fault.File(File, $"offset {Offset}", message);

    private static ulong Varint(ReadOnlySpan<byte> bytes, ref int at, Func<int, string, MendException> broken)
    {
        var start = at;
        ulong value = 0;
        for (var shift = 0; shift < 64; shift += 7)
        {
            if (at == bytes.Length)
                throw broken(start, "the message ends inside a number");
            var b = bytes[at++];
            value |= (ulong)(b & 0x7F) << shift;
            if (b < 0x80)
                return value;
        }
        throw broken(start, "a number of more than 10 bytes");
    }

    private T Of<T>(int wireType, T value) => WireType == wireType ? value
        : throw Error($"field {Number} has wire type {WireType}, expected {wireType}; the file is damaged or no {Form}");
}
