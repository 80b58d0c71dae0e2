using System.Buffers.Binary;
using System.Text;
using System.Text.Json.Nodes;
using MendCluster.Engine.Tokenizers;

namespace MendCluster.Engine.Tests.Tokenizers;

/// <summary>The fixtures' tokenizers in the form in which GPT-2, T5 and BERT publish their tokenizer.json; and protobuf by hand.</summary>
internal static class ForgedTokenizers
{
    public static string BytePairJson(string directory)
    {
        var vocabulary = JsonNode.Parse(File.ReadAllText(Path.Combine(directory, "vocab.json")))!.AsObject();
        var merges = File.ReadAllLines(Path.Combine(directory, "merges.txt")).Skip(1).Where(line => line.Length > 0);
        return new JsonObject
        {
            ["added_tokens"] = new JsonArray(Added("<|endoftext|>", vocabulary["<|endoftext|>"]!.GetValue<int>(), normalized: true)),
            ["normalizer"] = null,
            ["pre_tokenizer"] = ByteLevel(),
            ["post_processor"] = ByteLevel(),
            ["decoder"] = ByteLevel(),
            ["model"] = new JsonObject // the published file names no type
            {
                ["dropout"] = null,
                ["unk_token"] = null,
                ["continuing_subword_prefix"] = "",
                ["end_of_word_suffix"] = "",
                ["fuse_unk"] = false,
                ["vocab"] = vocabulary.DeepClone(),
                ["merges"] = new JsonArray([.. merges.Select(merge => (JsonNode)merge)]),
            },
        }.ToJsonString();
    }

    public static string UnigramJson(string directory)
    {
        var file = Path.Combine(directory, "spiece.model");
        var model = SentencePieceModel.Read(file);
        var extra = Enumerable.Range(0, 100).Reverse().Select(i => Added($"<extra_id_{i}>", model.Pieces.Count + 99 - i));
        return new JsonObject
        {
            ["added_tokens"] = new JsonArray([Added("<pad>", 0), Added("</s>", 1), Added("<unk>", 2), .. extra]),
            ["normalizer"] = new JsonObject
            {
                ["type"] = "Precompiled",
                ["precompiled_charsmap"] = Convert.ToBase64String(CharsMapOf(File.ReadAllBytes(file)))
            },
            ["pre_tokenizer"] = new JsonObject
            {
                ["type"] = "Sequence",
                ["pretokenizers"] = new JsonArray(
                    new JsonObject { ["type"] = "WhitespaceSplit" },
                    new JsonObject { ["type"] = "Metaspace", ["replacement"] = "\u2581", ["add_prefix_space"] = true }),
            },
            ["post_processor"] = Template([], [("</s>", 1)]),
            ["decoder"] = new JsonObject { ["type"] = "Metaspace", ["replacement"] = "\u2581", ["add_prefix_space"] = true },
            ["model"] = new JsonObject
            {
                ["type"] = "Unigram",
                ["unk_id"] = model.Pieces.Index().Single(entry => entry.Item.IsUnknown).Index,
                ["vocab"] = new JsonArray([.. model.Pieces.Select(piece => new JsonArray(piece.Text, piece.Score))]),
            },
        }.ToJsonString();
    }

    public static string WordPieceJson(string directory)
    {
        var tokens = File.ReadAllText(Path.Combine(directory, "vocab.txt")).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        return new JsonObject
        {
            ["added_tokens"] = new JsonArray([.. new[] { "[PAD]", "[UNK]", "[CLS]", "[SEP]",
                "[MASK]" }.Select(token => Added(token, Array.IndexOf(tokens, token)))]),
            ["normalizer"] = new JsonObject
            {
                ["type"] = "BertNormalizer",
                ["clean_text"] = true,
                ["handle_chinese_chars"] = true,
                ["strip_accents"] = null,
                ["lowercase"] = true,
            },
            ["pre_tokenizer"] = new JsonObject { ["type"] = "BertPreTokenizer" },
            ["post_processor"] = Template([("[CLS]", Array.IndexOf(tokens, "[CLS]"))], [("[SEP]", Array.IndexOf(tokens, "[SEP]"))]),
            ["decoder"] = new JsonObject { ["type"] = "WordPiece", ["prefix"] = "##", ["cleanup"] = true },
            ["model"] = new JsonObject
            {
                ["type"] = "WordPiece",
                ["unk_token"] = "[UNK]",
                ["continuing_subword_prefix"] = "##",
                ["max_input_chars_per_word"] = 100,
                ["vocab"] = new JsonObject(tokens.Select((token, id) => KeyValuePair.Create(token, (JsonNode?)id))),
            },
        }.ToJsonString();
    }

    /// <summary>
    /// A unigram model with no normalisation: the pieces in order, the first three being &lt;pad&gt;, &lt;/s&gt; and &lt;unk&gt;.
    /// </summary>
    public static byte[] UnigramModel(params (string Text, float Score)[] pieces)
    {
        var bytes = new List<byte>();
        foreach (var (text, score, type) in pieces.Select(piece => (piece.Text, piece.Score, PieceType.Normal))
            .Prepend(("<unk>", 0f, PieceType.Unknown)).Prepend(("</s>", 0f, PieceType.Control)).Prepend(("<pad>", 0f, PieceType.Control)))
        {
            var number = new byte[4];
            BinaryPrimitives.WriteSingleLittleEndian(number, score);
            bytes.AddRange(LengthDelimited(1,
                [.. LengthDelimited(1, Encoding.UTF8.GetBytes(text)), 2 << 3 | 5, .. number, 3 << 3, (byte)type]));
        }
        return [.. bytes];
    }

    public static byte[] LengthDelimited(int field, byte[] content) =>
        [(byte)(field << 3 | 2), .. Varint((uint)content.Length), .. content];

    private static byte[] Varint(uint value) => value < 0x80 ? [(byte)value] : [(byte)(value | 0x80), .. Varint(value >> 7)];

    /// <summary>The fixture's only field of more than 200 000 bytes is the normaliser's, and in it the charsmap.</summary>
    private static byte[] CharsMapOf(byte[] model)
    {
        var name = model.AsSpan().IndexOf("nmt_nfkc"u8);
        var at = name + "nmt_nfkc".Length + 1; // the key of precompiled_charsmap
        var (length, shift) = (0, 0);
        for (var more = true; more; shift += 7, at++)
        {
            length |= (model[at] & 0x7F) << shift;
            more = model[at] >= 0x80;
        }
        return model[at..(at + length)];
    }

    private static JsonObject Added(string text, int id, bool normalized = false) => new()
    {
        ["id"] = id,
        ["content"] = text,
        ["single_word"] = false,
        ["lstrip"] = false,
        ["rstrip"] = false,
        ["normalized"] = normalized,
        ["special"] = true,
    };

    private static JsonObject ByteLevel() => new() { ["type"] = "ByteLevel", ["add_prefix_space"] = false, ["trim_offsets"] = true };

    private static JsonObject Template((string Token, int Id)[] before, (string Token, int Id)[] after) => new()
    {
        ["type"] = "TemplateProcessing",
        ["single"] = new JsonArray([.. before.Select(Special), Sequence("A"), .. after.Select(Special)]),
        ["pair"] = new JsonArray([.. before.Select(Special), Sequence("A"), .. after.Select(Special), Sequence("B"),
            .. after.Select(Special)]),
        ["special_tokens"] = new JsonObject(before.Concat(after).Select(token => KeyValuePair.Create(token.Token, (JsonNode?)new JsonObject
        {
            ["id"] = token.Token,
            ["ids"] = new JsonArray(token.Id),
            ["tokens"] = new JsonArray(token.Token),
        }))),
    };

    private static JsonObject Sequence(string id) => new() { ["Sequence"] = new JsonObject { ["id"] = id, ["type_id"] = 0 } };

    private static JsonObject Special((string Token, int Id) token) =>
        new() { ["SpecialToken"] = new JsonObject { ["id"] = token.Token, ["type_id"] = 0 } };
}
