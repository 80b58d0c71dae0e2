using System.Text.Json;
using System.Text.Json.Nodes;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;
using static MendCluster.Engine.Tests.Tokenizers.ForgedTokenizers;

namespace MendCluster.Engine.Tests.Tokenizers;

public sealed class TokenizerFilesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void EmptyDirectory_IsRefusedWithTheNamesOfWhatIsMissing() =>
        Refused("none found", "tokenizer.json", "vocab.json", "merges.txt", "spiece.model", "vocab.txt");

    [Theory]
    [InlineData("BPE", "pre_tokenizer.type", "\"Whitespace\"", "'Whitespace'")]
    [InlineData("BPE", "pre_tokenizer.add_prefix_space", "true", "add_prefix_space")]
    [InlineData("BPE", "normalizer", """{"type": "NFC"}""", "NFC")]
    [InlineData("BPE", "decoder", "null", "decoder")]
    [InlineData("BPE", "post_processor.type", "\"Nobody\"", "'Nobody'")]
    [InlineData("BPE", "model.type", "\"WordLevel\"", "'WordLevel'")]
    [InlineData("BPE", "model.dropout", "0.1", "dropout")]
    [InlineData("BPE", "model.byte_fallback", "true", "byte_fallback")]
    [InlineData("BPE", "model.end_of_word_suffix", "\"x\"", "end_of_word_suffix")]
    [InlineData("BPE", "model.merges", """[["a", "b", "c"]]""", "merges[0]")]
    [InlineData("BPE", "model.merges", """["a zzz"]""", "'zzz'")]
    [InlineData("BPE", "model.merges", """["t h"]""", "'th'")]
    [InlineData("BPE", "model.vocab.!", "1", "id 1")]
    [InlineData("BPE", "model.vocab.!", "-1", "-1")]
    [InlineData("BPE", "model.vocab.!", "2000000000", "2000000000")]
    [InlineData("BPE", "model.vocab.!", "0.5", "0.5")]
    [InlineData("BPE", "model.vocab", "\"x\"", "model.vocab")]
    [InlineData("BPE", "added_tokens", """[{"id": 0, "content": "<|endoftext|>"}]""", "<|endoftext|>")]
    [InlineData("BPE", "added_tokens", """[{"id": 500, "content": ""}]""", "empty")]
    [InlineData("BPE", "added_tokens", """[{"id": 500, "content": "x y", "single_word": true}]""", "single_word")]
    [InlineData("Unigram", "normalizer.type", "\"NFKC\"", "'NFKC'")]
    [InlineData("Unigram", "normalizer.precompiled_charsmap", "\"?\"", "base64")]
    [InlineData("Unigram", "normalizer.precompiled_charsmap", "\"////fwAA\"", "trie")]
    [InlineData("Unigram", "pre_tokenizer.pretokenizers", """[{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"}]""", "prepend_scheme")]
    [InlineData("Unigram", "pre_tokenizer.pretokenizers", """[{"type": "WhitespaceSplit"}]""", "Metaspace")]
    [InlineData("Unigram", "post_processor.single", """[{"SpecialToken": {"id": "</s>"}}]""", "single")]
    [InlineData("Unigram", "post_processor.single", """[{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<end>"}}]""", "<end>")]
    [InlineData("Unigram", "model.unk_id", "9999", "unknown")]
    [InlineData("Unigram", "model.vocab", """[["a"]]""", "vocab[0]")]
    [InlineData("Unigram", "model.byte_fallback", "true", "byte_fallback")]
    [InlineData("WordPiece", "normalizer.strip_accents", "false", "strip_accents")]
    [InlineData("WordPiece", "normalizer.clean_text", "false", "clean_text")]
    [InlineData("WordPiece", "pre_tokenizer.type", "\"ByteLevel\"", "'ByteLevel'")]
    [InlineData("WordPiece", "model.unk_token", "\"[NONE]\"", "[NONE]")]
    public void SettingThatGivesOtherIds_IsRefusedByName(string kind, string key, string value, string named)
    {
        var root = JsonNode.Parse(Published(kind))!;
        var keys = key.Split('.');
        keys[..^1].Aggregate(root, (node, name) => node[name]!)[keys[^1]] = JsonNode.Parse(value);
        _folder.Write("tokenizer.json", root.ToJsonString());
        Refused(named);
    }

    [Theory]
    [InlineData("{", "JSON")]
    [InlineData("[]", "expected an object")]
    [InlineData("{}", "model: is missing")]
    [InlineData("""{"model": {"type": "BPE", "vocab": {"\uD800": 1}}, "pre_tokenizer": 1}""", "pre_tokenizer")]
    [InlineData("""{"model": {"type": "\uD800"}}""", "surrogate")]
    public void JsonThatIsNoTokenizer_IsRefused(string json, string named)
    {
        _folder.Write("tokenizer.json", json);
        Refused(named);
    }

    [Fact]
    public void BartsFiles_PutTheSentenceBetweenItsTokens()
    {
        string[] bart = ["<s>", "<pad>", "</s>", "<unk>", .. BytePair.ByteSymbols.Select(symbol => symbol.ToString()), "<mask>"];
        _folder.Write("vocab.json", JsonSerializer.Serialize(bart.Index().ToDictionary(entry => entry.Item, entry => entry.Index)));
        _folder.Write("merges.txt", "#version: 0.2\n");
        string?[] expected = ["<s>", "a", "<mask>", "b", "</s>"];
        var plain = TokenizerFiles.Load(_folder.Path);
        Assert.Equal(expected, plain.Encode("a <mask>b").Select(plain.TokenOf)); // the mask takes the space before it along

        var json = JsonNode.Parse(Published("BPE"))!;
        json["model"]!["vocab"] = JsonNode.Parse(File.ReadAllText(Path.Combine(_folder.Path, "vocab.json")));
        json["model"]!["merges"] = new JsonArray();
        json["added_tokens"] = JsonNode.Parse("""[{"id": 0, "content": "<s>", "special": true}, {"id": 2, "content": "</s>", "special": true}, {"id": 260, "content": "<mask>", "special": true, "lstrip": true}]""");
        json["post_processor"] = JsonNode.Parse("""{"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": false}""");
        _folder.Write("tokenizer.json", json.ToJsonString());
        var published = TokenizerFiles.Load(_folder.Path);
        Assert.Equal(expected, published.Encode("a <mask>b").Select(published.TokenOf));
        Assert.Equal("ab", published.Decode(published.Encode("a <mask>b")));
    }

    [Theory]
    [InlineData("h e\nh e\n", "second time")]
    [InlineData("#version: 0.2\nhe\n", "line 2")]
    [InlineData("h e r\n", "line 1")]
    [InlineData(" e\n", "empty")]
    [InlineData("h \u4E2D\n", "\u4E2D")]
    public void BrokenMerges_AreRefusedByLine(string merges, string named)
    {
        Copy("tiny_bpe", "vocab.json");
        _folder.Write("merges.txt", merges);
        Refused("merges.txt", named);
    }

    [Fact]
    public void VocabularyWithoutAByte_IsRefused()
    {
        _folder.Write("merges.txt", "");
        _folder.Write("vocab.json", """{"a": 0}""");
        Refused("vocab.json", "0x00");
    }

    [Theory]
    [InlineData(new byte[] { 0x0A, 0x05, 0x0A }, "offset 0")] // a piece of 5 bytes, 1 left
    [InlineData(new byte[] { 0x0A, 0x80 }, "inside a number")]
    [InlineData(new byte[] { 0x0B }, "wire type 3")]
    [InlineData(new byte[] { 0x02, 0x00 }, "field number 0")]
    [InlineData(new byte[] { 0x0A, 0x04, 0x0A, 0x02, 0xC3, 0x28 }, "UTF-8")]
    [InlineData(new byte[] { 0x0A, 0x02, 0x18, 0x04 }, "UserDefined")]
    [InlineData(new byte[] { 0x0A, 0x02, 0x18, 0x09 }, "type 9")]
    [InlineData(new byte[] { 0x12, 0x02, 0x18, 0x02 }, "model_type is 2")]
    [InlineData(new byte[] { 0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01 }, "10 bytes")]
    [InlineData(new byte[] { 0x08, 0x00 }, "wire type 0, expected 2")]
    [InlineData(new byte[] { }, "exactly one")]
    public void BrokenSpieceModel_IsRefusedByOffset(byte[] bytes, string named)
    {
        _folder.Write("tokenizer_config.json", """{"extra_ids": 0}""");
        _folder.Write("spiece.model", bytes);
        Refused("spiece.model", named == "exactly one" ? "</s>" : named);
    }

    [Fact]
    public void SpieceModelWithAScoreThatIsNoNumber_IsRefused()
    {
        _folder.Write("spiece.model", UnigramModel(("\u2581", -1), ("a", float.NaN)));
        Refused("piece 4", "NaN");
    }

    [Theory]
    [InlineData("[UNK]\n[CLS]\na\n", "[SEP]")]
    [InlineData("[UNK]\n[CLS]\n[SEP]\na\na\n", "'a'")]
    public void BrokenVocabTxt_IsRefused(string text, string named)
    {
        _folder.Write("vocab.txt", text);
        Refused("vocab.txt", named);
    }

    [Fact]
    public void TextThatIsNotUtf8_IsRefusedByOffset()
    {
        _folder.Write("vocab.txt", [(byte)'a', (byte)'\n', 0xFF]);
        Refused("vocab.txt", "offset 2", "UTF-8");
    }

    internal static string Published(string kind) => kind switch
    {
        "BPE" => BytePairJson(Source("tiny_bpe")),
        "Unigram" => UnigramJson(Source("unigram")),
        _ => WordPieceJson(Source("wordpiece")),
    };

    internal static string Source(string name) => Path.Combine(FixtureFolder.Path, "tokenizers", name);

    private void Copy(string source, string name) => File.Copy(Path.Combine(Source(source), name), Path.Combine(_folder.Path, name));

    private void Refused(params string[] named)
    {
        var error = Assert.Throws<TokenizerException>(() => TokenizerFiles.Load(_folder.Path));
        Assert.StartsWith(_folder.Path, error.File, StringComparison.Ordinal);
        Assert.All(named, name => Assert.Contains(name, error.Message, StringComparison.Ordinal));
    }
}
