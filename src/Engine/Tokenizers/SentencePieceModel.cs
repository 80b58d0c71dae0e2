using System.Buffers.Binary;
using System.Text;
using MendCluster.Contracts;

namespace MendCluster.Engine.Tokenizers;

/// <summary>One entry of a unigram vocabulary; its id is its place in the list.</summary>
/// <param name="Score">Log probability.</param>
/// <param name="IsMatched">Whether it is looked for in a text.</param>
internal sealed record Piece(string Text, double Score, bool IsMatched = true, bool IsUnknown = false, bool IsControl = false);

/// <summary>Numbers as in sentencepiece_model.proto.</summary>
internal enum PieceType
{
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// <summary>
/// What is used of a SentencePiece model file (spiece.model): a protobuf message ModelProto, described in google/sentencepiece,
/// sentencepiece_model.proto. Fields that do not matter here are stepped over; those that would change the ids are refused.
/// </summary>
internal sealed record SentencePieceModel(IReadOnlyList<Piece> Pieces, UnigramNormalizer Normalizer, string UnknownSurface)
{
    private const long UnigramType = 1;

    public static SentencePieceModel Read(string file)
    {
        var bytes = TokenizerFiles.ReadBytes(file);
        var pieces = new List<Piece>();
        var (charsMap, addDummyPrefix, removeExtraWhitespaces) = ((ReadOnlyMemory<byte>)default, true, true);
        var unknownSurface = " \u2047 ";
        foreach (var field in Message(file, bytes, 0))
            switch (field.Number)
            {
                case 1:
                    pieces.Add(ReadPiece(file, field));
                    break;
                case 2:
                    foreach (var setting in field.Fields)
                        if (setting.Number == 3 && setting.Integer != UnigramType)
                            throw setting.Error($"model_type is {setting.Integer}; only unigram ({UnigramType}) is supported, as T5 uses it");
                        else if (setting.Number is 24 or 35 && setting.Integer != 0)
                            throw setting.Error(
                                $"{(setting.Number == 24 ? "treat_whitespace_as_suffix" : "byte_fallback")} is set; it is not supported, T5's models do without");
                        else if (setting.Number == 44)
                            unknownSurface = setting.Text;
                    break;
                case 3:
                    foreach (var setting in field.Fields)
                        if (setting.Number == 2)
                            charsMap = setting.Bytes;
                        else if (setting.Number == 3)
                            addDummyPrefix = setting.Integer != 0;
                        else if (setting.Number == 4)
                            removeExtraWhitespaces = setting.Integer != 0;
                        else if (setting.Number == 5 && setting.Integer == 0)
                            throw setting.Error("escape_whitespaces is off; it is not supported, T5's models have it on");
                    break;
            }
        var normalizer = new UnigramNormalizer(CharsMap.Parse(file, "precompiled_charsmap", charsMap), addDummyPrefix,
            removeExtraWhitespaces);
        return new(pieces, normalizer, unknownSurface);
    }

    private static Piece ReadPiece(string file, Field field)
    {
        var (text, score, type) = ("", 0f, PieceType.Normal);
        foreach (var part in field.Fields)
            switch (part.Number)
            {
                case 1:
                    text = part.Text;
                    break;
                case 2:
                    score = part.Float;
                    break;
                case 3:
                    type = (PieceType)part.Integer;
                    break;
            }
        return type is PieceType.UserDefined or PieceType.Byte || !Enum.IsDefined(type)
            ? throw Fault.File(file, $"offset {field.Offset}",
                $"piece '{text}' is of type {type}; only normal, unknown, control and unused ones are supported, as T5 uses them")
            : new(text, score, type == PieceType.Normal, type == PieceType.Unknown, type == PieceType.Control);
    }

    private static IEnumerable<Field> Message(string file, ReadOnlyMemory<byte> bytes, int offset)
    {
        for (var at = 0; at < bytes.Length;)
        {
            var start = offset + at;
            var key = Varint(file, bytes.Span, ref at, offset);
            var (number, wireType) = (key >> 3, key & 7);
            if (number is 0 or > 536_870_911)
                throw Broken(file, start, $"field number {number}, expected 1 to 536870911");
            ulong integer = 0;
            ulong length = wireType switch
            {
                0 => 0,
                1 => 8,
                2 => Varint(file, bytes.Span, ref at, offset),
                5 => 4,
                _ => throw Broken(file, start, $"wire type {wireType} in field {number}, expected 0, 1, 2 or 5"),
            };
            if (wireType == 0)
                integer = Varint(file, bytes.Span, ref at, offset);
            if (length > (ulong)(bytes.Length - at))
                throw Broken(file, start, $"field {number} needs {length} bytes, but {bytes.Length - at} are left in its message");
            yield return new(file, start, (int)number, (int)wireType, integer, bytes.Slice(at, (int)length), offset + at);
            at += (int)length;
        }
    }

    private static ulong Varint(string file, ReadOnlySpan<byte> bytes, ref int at, int offset)
    {
        var start = at;
        ulong value = 0;
        for (var shift = 0; shift < 64; shift += 7)
        {
            if (at == bytes.Length)
                throw Broken(file, offset + start, "the message ends inside a number");
            var b = bytes[at++];
            value |= (ulong)(b & 0x7F) << shift;
            if (b < 0x80)
                return value;
        }
        throw Broken(file, offset + start, "a number of more than 10 bytes");
    }

    private static MendException Broken(string file, int at, string problem) =>
        Fault.File(file, $"offset {at}", problem + "; the file is cut, damaged or no SentencePiece model");

    /// <summary>One field of a message, not yet understood. Each reading checks the wire type that it needs.</summary>
    private sealed record Field(string File, int Offset, int Number, int DType, ulong RawInteger, ReadOnlyMemory<byte> RawBytes,
        int BytesOffset)
    {
        public long Integer => (long)Of(0, RawInteger);

        public float Float => BinaryPrimitives.ReadSingleLittleEndian(Of(5, RawBytes).Span);

        public ReadOnlyMemory<byte> Bytes => Of(2, RawBytes);

        public IEnumerable<Field> Fields => Message(File, Of(2, RawBytes), BytesOffset);

        public string Text
        {
            get
            {
                try
                {
                    return TokenizerFiles.StrictUtf8.GetString(Bytes.Span);
                }
                catch (DecoderFallbackException e)
                {
                    throw Fault.File(File, $"offset {Offset}", "the text is not UTF-8; the file is damaged", e);
                }
            }
        }

        public MendException Error(string message) => Fault.File(File, $"offset {Offset}", message);

        private T Of<T>(int wireType, T value) => DType == wireType ? value
            : throw Error($"field {Number} has wire type {DType}, expected {wireType}; the file is damaged or no SentencePiece model");
    }
}
