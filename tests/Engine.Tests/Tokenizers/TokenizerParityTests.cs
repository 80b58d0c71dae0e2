using System.Text.Json;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Tokenizers;

/// <summary>
/// Every text of the fixtures, through the reference's own files and through the same tokenizer written as a tokenizer.json (see
/// <see cref="ForgedTokenizers"/>).
/// </summary>
[Trait("Category", "Parity")]
public sealed class TokenizerParityTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void TinyBytePair_EncodesAsGpt2Tokenizer(bool asJson)
    {
        var tokenizer = Load("tiny_bpe", asJson ? ForgedTokenizers.BytePairJson : null);
        var rows = Rows("tiny_bpe");
        Assert.NotEmpty(rows);
        foreach (var row in rows)
        {
            var text = row.GetProperty("text").GetString()!;
            Equal(text, Ids(row, "ids"), tokenizer.Encode(text));
            Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text)));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Unigram_EncodesAsT5TokenizerAndDecodesAsSentencePiece(bool asJson)
    {
        var tokenizer = (Unigram)Load("unigram", asJson ? ForgedTokenizers.UnigramJson : null);
        var vocabulary = ReadJson("unigram").GetProperty("vocab_size").GetInt32();
        var unknown = ReadJson("unigram").GetProperty("unk").GetInt32();
        Assert.Equal(vocabulary + 100, tokenizer.VocabularySize);
        Assert.Equal(vocabulary + 99, tokenizer.IdOf("<extra_id_0>"));
        Assert.Equal(vocabulary, tokenizer.IdOf("<extra_id_99>"));

        var rows = Rows("unigram");
        Assert.NotEmpty(rows);
        foreach (var row in rows)
        {
            var text = row.GetProperty("text").GetString()!;
            var ids = Ids(row, "ids");
            Equal(text, Ids(row, "t5_ids"), tokenizer.Encode(text));
            Assert.Equal(row.GetProperty("decoded").GetString(), tokenizer.Decode(ids));

            // An unknown piece is shown as the text that it covers, so all pieces together are the normalised text.
            var pieces = row.GetProperty("pieces").EnumerateArray().Select(piece => piece.GetString()!).ToList();
            Assert.Equal(string.Concat(pieces), tokenizer.Normalize(text));
            Assert.All(pieces.Zip(ids), pair => Assert.True(pair.Second == unknown || tokenizer.TokenOf(pair.Second) == pair.First));
        }
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void WordPiece_EncodesAsBertTokenizer(bool asJson)
    {
        var tokenizer = Load("wordpiece", asJson ? ForgedTokenizers.WordPieceJson : null);
        var rows = Rows("wordpiece");
        Assert.NotEmpty(rows);
        foreach (var row in rows)
        {
            var text = row.GetProperty("text").GetString()!;
            Equal(text, Ids(row, "ids"), tokenizer.Encode(text));
        }
    }

    /// <summary>gpt2.json holds ids of the real vocabulary, which is not shipped; its words can be checked all the same.</summary>
    [Fact]
    public void Gpt2Texts_ComeBackFromTheTinyVocabulary()
    {
        var tokenizer = Load("tiny_bpe", null);
        foreach (var row in JsonSerializer.Deserialize<JsonElement>(File.ReadAllText(Source("gpt2.json"))).EnumerateArray())
        {
            var text = row.GetProperty("text").GetString()!;
            Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text)));
        }
    }

    private Tokenizer Load(string name, Func<string, string>? asJson)
    {
        if (asJson is null)
            return (Tokenizer)TokenizerFiles.Load(Source(name));
        _folder.Write("tokenizer.json", asJson(Source(name)));
        return (Tokenizer)TokenizerFiles.Load(_folder.Path);
    }

    private static void Equal(string text, int[] expected, IReadOnlyList<int> actual) =>
        Assert.True(expected.SequenceEqual(actual), $"\"{text}\": expected {string.Join(' ', expected)}, is {string.Join(' ', actual)}");

    private static int[] Ids(JsonElement row, string key) => [.. row.GetProperty(key).EnumerateArray().Select(id => id.GetInt32())];

    private static List<JsonElement> Rows(string name) =>
        [.. (ReadJson(name) is { ValueKind: JsonValueKind.Object } whole ? whole.GetProperty("rows") : ReadJson(name)).EnumerateArray()];

    private static JsonElement ReadJson(string name) =>
        JsonSerializer.Deserialize<JsonElement>(File.ReadAllText(Path.Combine(Source(name), "encodings.json")));

    private static string Source(string name) => Path.Combine(FixtureFolder.Path, "tokenizers", name);
}
