using System.Text.Json;
using System.Text.Json.Nodes;
using MendCluster.Contracts;
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
    [InlineData("BPE", "normalizer", """{"type": "Nobody"}""", "'Nobody'")]
    [InlineData("BPE", "decoder", "null", "decoder")]
    [InlineData("BPE", "post_processor.type", "\"Nobody\"", "'Nobody'")]
    [InlineData("BPE", "model.type", "\"WordLevel\"", "'WordLevel'")]
    [InlineData("BPE", "model.dropout", "0.1", "dropout")]
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
    [InlineData("BPE", "added_tokens", """[{"id": 500, "content": "x y"}]""", "the id 500")]
    [InlineData("Unigram", "normalizer", """{"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "}""", "'Replace'")]
    [InlineData("Unigram", "normalizer.precompiled_charsmap", "\"?\"", "base64")]
    [InlineData("Unigram", "normalizer.precompiled_charsmap", "\"////fwAA\"", "trie")]
    [InlineData("Unigram", "pre_tokenizer.pretokenizers",
        """[{"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "sometimes"}]""", "'sometimes'")]
    [InlineData("Unigram", "pre_tokenizer.pretokenizers", """[{"type": "WhitespaceSplit"}]""", "Metaspace")]
    [InlineData("Unigram", "post_processor.single", """[{"SpecialToken": {"id": "</s>"}}]""", "single")]
    [InlineData("Unigram", "post_processor.single", """[{"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "<end>"}}]""", "<end>")]
    [InlineData("Unigram", "model.unk_id", "9999", "unknown")]
    [InlineData("Unigram", "model.vocab", """[["a"]]""", "vocab[0]")]
    [InlineData("Unigram", "model.byte_fallback", "true", "byte_fallback")]
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
        json["post_processor"] =
            JsonNode.Parse("""{"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "trim_offsets": true, "add_prefix_space": false}""");
        _folder.Write("tokenizer.json", json.ToJsonString());
        var published = TokenizerFiles.Load(_folder.Path);
        Assert.Equal(expected, published.Encode("a <mask>b").Select(published.TokenOf));
        Assert.Equal("ab", published.Decode(published.Encode("a <mask>b")));
    }

    [Theory]
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

    [Fact]
    public void VocabTxtWithoutTheEndOfAText_IsRefused()
    {
        _folder.Write("vocab.txt", "[UNK]\n[CLS]\na\n");
        Refused("vocab.txt", "[SEP]");
    }

    /// <summary>As Python and Rust read a dictionary.</summary>
    [Fact]
    public void OfATokenThatIsThereTwice_TheLastCounts()
    {
        _folder.Write("vocab.txt", "[UNK]\n[CLS]\n[SEP]\na\na\n");
        Assert.Equal([1, 4, 2], TokenizerFiles.Load(_folder.Path).Encode("a"));
    }

    /// <summary>Written by a Windows editor: line ends, and a byte order mark.</summary>
    [Fact]
    public void LineEndsAndByteOrderMarksOfWindows_ChangeNothing()
    {
        string OnWindows(string text) => "\uFEFF" + text.ReplaceLineEndings("\r\n");
        _folder.Write("merges.txt", OnWindows(File.ReadAllText(Path.Combine(Source("tiny_bpe"), "merges.txt"))));
        _folder.Write("vocab.json", OnWindows(File.ReadAllText(Path.Combine(Source("tiny_bpe"), "vocab.json"))));
        _folder.Write("tokenizer_config.json", OnWindows("{\n\"add_prefix_space\": false\n}"));
        Same(TokenizerFiles.Load(Source("tiny_bpe")), TokenizerFiles.Load(_folder.Path));
        _folder.Write("tokenizer.json", OnWindows(Published("BPE")));
        Same(TokenizerFiles.Load(Source("tiny_bpe")), TokenizerFiles.Load(_folder.Path));

        using var bert = new TemporaryFolder();
        bert.Write("vocab.txt", OnWindows(File.ReadAllText(Path.Combine(Source("wordpiece"), "vocab.txt"))));
        Same(TokenizerFiles.Load(Source("wordpiece")), TokenizerFiles.Load(bert.Path));
    }

    /// <summary>As Python's json module writes them; a token of that name is a token.</summary>
    [Fact]
    public void NumbersThatAreNone_AreInNobodysWay()
    {
        Copy("tiny_bpe", "merges.txt");
        var ids = JsonNode.Parse(File.ReadAllText(Path.Combine(Source("tiny_bpe"), "vocab.json")))!.AsObject();
        ids["NaN"] = ids.Count;
        _folder.Write("vocab.json", ids.ToJsonString());
        _folder.Write("tokenizer_config.json",
            """{"model_max_length": Infinity, "x": [NaN, -Infinity, 1000000000000000019884624838656]}""");
        Assert.Equal(ids.Count - 1, TokenizerFiles.Load(_folder.Path).IdOf("NaN"));
        _folder.Write("tokenizer_config.json", """{"add_prefix_space": NaN}""");
        Refused("add_prefix_space", "\"NaN\"");
    }

    [Fact]
    public void AMergeThatIsThereTwice_CountsWhereItIsLast()
    {
        File.Copy(Path.Combine(Source("tiny_bpe"), "vocab.json"), _folder["vocab.json"]);
        _folder.Write("merges.txt", File.ReadAllText(Path.Combine(Source("tiny_bpe"), "merges.txt")) + "\u0120 t\n");
        Same(TokenizerFiles.Load(_folder.Path), TokenizerFiles.Load(_folder.Path));
        var json = JsonNode.Parse(Published("BPE"))!;
        json["model"]!["merges"]!.AsArray().Add("\u0120 t");
        if (Oracle.IsHere)
            Oracle.AssertSame(json, new Dictionary<string, byte[]>
            {
                ["vocab.json"] = File.ReadAllBytes(_folder["vocab.json"]),
                ["merges.txt"] = File.ReadAllBytes(_folder["merges.txt"]),
            }, 8);
    }

    /// <summary>Transformers matches what the older files name, and gives what is new to the vocabulary the next ids.</summary>
    [Fact]
    public void OlderFilesOfSpecialTokens_AreFollowed()
    {
        Copy("tiny_bpe", "vocab.json");
        Copy("tiny_bpe", "merges.txt");
        var size = TokenizerFiles.Load(_folder.Path).VocabularySize;
        _folder.Write("special_tokens_map.json",
            """{"pad_token": {"content": "[PAD]", "lstrip": true}, "additional_special_tokens": ["[X]"]}""");
        var tokenizer = TokenizerFiles.Load(_folder.Path);
        Assert.Equal((size, size + 1), (tokenizer.IdOf("[PAD]"), tokenizer.IdOf("[X]")));
        Assert.Equal("ab", tokenizer.Decode(tokenizer.Encode("a  [PAD]b[X]")));
        _folder.Write("added_tokens.json", $$"""{"[X]": {{size}}, "[Y]": {{size + 1}}}""");
        tokenizer = TokenizerFiles.Load(_folder.Path);
        Assert.Equal((size + 2, size, size + 1), (tokenizer.IdOf("[PAD]"), tokenizer.IdOf("[X]"), tokenizer.IdOf("[Y]")));
        Assert.Equal("ab[Y]", tokenizer.Decode(tokenizer.Encode("ab[X][Y]"))); // no role: an ordinary token
        _folder.Write("added_tokens.json", $$"""{"[X]": {{size + 7}}}""");
        Refused("added_tokens.json", "[X]", $"{size + 7}");
    }

    /// <summary>
    /// The vocabulary of a GPT-2 that was trained with RoBERTa's special tokens: config.json tells that nothing stands around a text.
    /// </summary>
    [Fact]
    public void TheKindOfTokenizer_IsWhatTheModelSays()
    {
        string[] tokens = ["<s>", "</s>", .. BytePair.ByteSymbols.Select(symbol => symbol.ToString())];
        _folder.Write("vocab.json", JsonSerializer.Serialize(tokens.Index().ToDictionary(entry => entry.Item, entry => entry.Index)));
        _folder.Write("merges.txt", "#version: 0.2\n");
        Assert.Equal(3, TokenizerFiles.Load(_folder.Path).Encode("a").Count);
        _folder.Write("config.json", """{"model_type": "gpt2"}""");
        Assert.Single(TokenizerFiles.Load(_folder.Path).Encode("a"));
        _folder.Write("tokenizer_config.json", """{"tokenizer_class": "RobertaTokenizerFast"}""");
        Assert.Equal(3, TokenizerFiles.Load(_folder.Path).Encode("a").Count);
    }

    [Theory]
    [InlineData("tiny_bpe", """{"tokenizer_class": "Qwen2Tokenizer"}""", "Qwen2Tokenizer")]
    [InlineData("tiny_bpe", """{"add_eos_token": true}""", "add_eos_token")]
    [InlineData("tiny_bpe", """{"do_lower_case": true}""", "do_lower_case")]
    [InlineData("tiny_bpe", """{"split_special_tokens": true}""", "split_special_tokens")]
    [InlineData("tiny_bpe", """{"added_tokens_decoder": {"9999": {"content": "<sep>"}}}""", "9999")]
    [InlineData("tiny_bpe", """{"added_tokens_decoder": {"1": {"content": "<|endoftext|>"}}}""", "<|endoftext|>")]
    [InlineData("wordpiece", """{"tokenizer_class": "BertJapaneseTokenizer"}""", "BertJapaneseTokenizer")]
    [InlineData("wordpiece", """{"do_basic_tokenize": false}""", "do_basic_tokenize")]
    [InlineData("wordpiece", """{"never_split": ["un"]}""", "'un'")]
    [InlineData("wordpiece", """{"do_lower_case": "no"}""", "do_lower_case")]
    [InlineData("unigram", """{"tokenizer_class": "XLNetTokenizer"}""", "XLNetTokenizer")]
    [InlineData("unigram", """{"legacy": false}""", "legacy")]
    [InlineData("unigram", """{"add_prefix_space": false}""", "add_prefix_space")]
    [InlineData("unigram", """{"sp_model_kwargs": {"enable_sampling": true}}""", "sp_model_kwargs")]
    [InlineData("unigram", """{"extra_ids": 3, "additional_special_tokens": ["<extra_id_0>"]}""", "extra_ids")]
    public void ASettingBesideTheOlderFiles_IsFollowedOrRefusedByName(string source, string config, string named)
    {
        foreach (var name in Directory.EnumerateFiles(Source(source)).Select(file => Path.GetFileName(file)))
            Copy(source, name);
        _folder.Write("tokenizer_config.json", config);
        Refused(named);
    }

    [Theory]
    [InlineData("tokenizer.json")]
    [InlineData("vocab.txt")]
    [InlineData("spiece.model")]
    public void AGitLfsPointer_IsSaidToBeOne(string name)
    {
        _folder.Write(name, "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1234\n");
        Refused(name, "git-LFS pointer", "git lfs pull");
    }

    [Fact]
    public void TextThatIsNotUtf8_IsRefusedByOffset()
    {
        _folder.Write("vocab.txt", [(byte)'a', (byte)'\n', 0xFF]);
        Refused("vocab.txt", "offset 2", "UTF-8");
    }

    /// <summary>Small tokenizers with the settings of published ones (tests/Fixtures/tokenizers/published).</summary>
    [Theory]
    [InlineData("11b")]
    [InlineData("12f")]
    [InlineData("13g")]
    [InlineData("13h")]
    public void PublishedSettings_GiveTheLibrarysIds(string name)
    {
        var tokenizer = TokenizerFiles.Load(Source(Path.Combine("published", name)));
        var rows = JsonNode.Parse(File.ReadAllText(Path.Combine(Source(Path.Combine("published", name)), "expected.json")))!.AsArray();
        Assert.True(rows.Count > 20);
        foreach (var row in rows)
            Assert.Equal(row!["ids"]!.AsArray().Select(id => id!.GetValue<int>()), tokenizer.Encode(row["text"]!.GetValue<string>()));
    }

    internal static string Published(string kind) => kind switch
    {
        "BPE" => BytePairJson(Source("tiny_bpe")),
        "Unigram" => UnigramJson(Source("unigram")),
        _ => WordPieceJson(Source("wordpiece")),
    };

    internal static string Source(string name) => Path.Combine(FixtureFolder.Path, "tokenizers", name);

    private void Copy(string source, string name) => File.Copy(Path.Combine(Source(source), name), Path.Combine(_folder.Path, name));

    private static void Same(ITokenizer one, ITokenizer other)
    {
        foreach (var text in Oracle.Texts(1).Take(1000))
            Assert.Equal(one.Encode(text), other.Encode(text));
    }

    private void Refused(params string[] named)
    {
        var error = Refusal.Of(MendError.ModelUnusable, () => TokenizerFiles.Load(_folder.Path));
        Assert.StartsWith(_folder.Path, error.What, StringComparison.Ordinal);
        Assert.All(named, name => Assert.Contains(name, error.Message, StringComparison.Ordinal));
    }
}
