using MendCluster.Engine.Files;

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
        foreach (var field in ProtobufField.Read(file, "SentencePiece model", bytes))
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

    private static Piece ReadPiece(string file, ProtobufField field)
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
}
