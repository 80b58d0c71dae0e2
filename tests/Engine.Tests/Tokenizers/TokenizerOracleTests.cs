using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;
using static MendCluster.Engine.Tests.Tokenizers.TokenizerFilesTests;

namespace MendCluster.Engine.Tests.Tokenizers;

/// <summary>
/// All forms of a tokenizer give the ids that Hugging Face's library gives: tokenizer.json with the settings that are published, and the
/// older files with the same settings in tokenizer_config.json.
/// </summary>
public class TokenizerOracleTests
{
    private const string Sep =
        """{"id": ID, "content": "<sep>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}""";
    private const string NewYork =
        """{"id": ID, "content": "New York", "single_word": false, "lstrip": true, "rstrip": false, "normalized": true, "special": false}""";
    private const string Word =
        """{"id": ID, "content": "th", "single_word": true, "lstrip": false, "rstrip": true, "normalized": false, "special": false}""";

    [OracleTheory]
    [InlineData("""{}""")]
    [InlineData("""{"pre_tokenizer.add_prefix_space": true}""")]
    [InlineData("""{"pre_tokenizer.use_regex": false}""")]
    [InlineData("""{"normalizer": {"type": "NFC"}, "model.ignore_merges": true}""")]
    [InlineData("""{"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]}, "+": ["Sep", "NewYork", "Word"]}""")]
    [InlineData("""{"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"String": "e"}, "content": "ee"}, {"type": "Prepend", "prepend": "a"}]}}""")]
    [InlineData("""{"normalizer": {"type": "NFD"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true, "trim_offsets": true}]}}""")]
    [InlineData("""{"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": false}, {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel", "add_prefix_space": false, "use_regex": true, "trim_offsets": true}]}]}, "+": ["Sep", "Word"]}""")]
    public void AByteLevelTokenizerJson(string changes) => Same("BPE", changes, 1);

    [OracleTheory]
    [InlineData("""{}""")]
    [InlineData("""{"pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true}, "normalizer": {"type": "Sequence", "normalizers": ["old", {"type": "Strip", "strip_left": false, "strip_right": true}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]}}""")]
    [InlineData("""{"normalizer": null, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true}]}}""")]
    [InlineData("""{"normalizer": null, "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": true}}""")]
    [InlineData("""{"normalizer": null, "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": false}, "+": ["Sep", "NewYork", "Word"]}""")]
    [InlineData("""{"normalizer": {"type": "Sequence", "normalizers": [{"type": "Nmt"}, {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}, "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": true}, "+": ["NewYork"]}""")]
    public void AUnigramTokenizerJson(string changes) => Same("Unigram", changes, 2);

    [OracleTheory]
    [InlineData("""{}""")]
    [InlineData("""{"normalizer.lowercase": false}""")]
    [InlineData("""{"normalizer.strip_accents": false}""")]
    [InlineData("""{"normalizer.lowercase": false, "normalizer.strip_accents": true}""")]
    [InlineData("""{"normalizer.handle_chinese_chars": false, "+": ["Sep", "NewYork", "Word"]}""")]
    [InlineData("""{"normalizer.clean_text": false}""")]
    [InlineData("""{"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}]}, "pre_tokenizer": {"type": "WhitespaceSplit"}}""")]
    public void AWordPieceTokenizerJson(string changes) => Same("WordPiece", changes, 3);

    /// <summary>GPT-2's vocab.json and merges.txt with settings, and what transformers makes of them.</summary>
    [OracleTheory]
    [InlineData(null, """{}""")]
    [InlineData("""{"model_max_length": 1024}""", """{}""")]
    [InlineData("""{"add_prefix_space": true, "tokenizer_class": "GPT2TokenizerFast"}""", """{"pre_tokenizer.add_prefix_space": true}""")]
    [InlineData("""{"add_bos_token": true}""",
        """{"post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [], "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [EOT], "tokens": ["<|endoftext|>"]}}}}""")]
    [InlineData("""{"added_tokens_decoder": {"SIZE": {"content": "<sep>", "special": true}}}""", """{"+": ["Sep"]}""")]
    public void Gpt2sOwnFiles_AreTheTokenizerJsonThatTheyMake(string? config, string changes)
    {
        var files = Files("tiny_bpe", "vocab.json", "merges.txt");
        var ids = JsonNode.Parse(files["vocab.json"])!.AsObject();
        string Filled(string text) =>
            text.Replace("SIZE", $"{ids.Count}", StringComparison.Ordinal)
            .Replace("EOT", ids["<|endoftext|>"]!.ToJsonString(), StringComparison.Ordinal);
        if (config is not null)
            files["tokenizer_config.json"] = Encoding.UTF8.GetBytes(Filled(config));
        Oracle.AssertSame(Changed("BPE", Filled(changes)), files, 4);
    }

    [OracleTheory]
    [InlineData(null, """{}""")]
    [InlineData("""{"do_lower_case": false}""", """{"normalizer.lowercase": false}""")]
    [InlineData("""{"do_lower_case": true, "strip_accents": false}""", """{"normalizer.strip_accents": false}""")]
    [InlineData("""{"do_lower_case": false, "strip_accents": true, "never_split": ["[UNK]"]}""",
        """{"normalizer.lowercase": false, "normalizer.strip_accents": true}""")]
    [InlineData("""{"tokenize_chinese_chars": false, "tokenizer_class": "BertTokenizer"}""",
        """{"normalizer.handle_chinese_chars": false}""")]
    [InlineData("""{"additional_special_tokens": ["<sep>"]}""", """{"+": ["Sep"]}""")]
    public void BertsOwnFile_IsTheTokenizerJsonThatItMakes(string? config, string changes)
    {
        var files = Files("wordpiece", "vocab.txt");
        if (config is not null)
            files["tokenizer_config.json"] = Encoding.UTF8.GetBytes(config);
        Oracle.AssertSame(Changed("WordPiece", changes), files, 5);
    }

    /// <summary>tokenizer_config.json goes before tokenizer.json where both say something.</summary>
    [OracleTheory]
    [InlineData("BPE", """{"add_prefix_space": true}""", """{"pre_tokenizer.add_prefix_space": true}""")]
    [InlineData("BPE", """{"pad_token": "<sep>"}""", """{"+": ["Sep"]}""")]
    [InlineData("WordPiece", """{"do_lower_case": false, "tokenize_chinese_chars": false}""",
        """{"normalizer.lowercase": false, "normalizer.handle_chinese_chars": false}""")]
    [InlineData("WordPiece", """{"strip_accents": false, "extra_special_tokens": {"sep": "<sep>"}}""",
        """{"normalizer.strip_accents": false, "+": ["Sep"]}""")]
    public void SettingsBesideATokenizerJson_AreFollowed(string kind, string config, string changes) =>
        Oracle.AssertSame(Changed(kind, changes),
        new Dictionary<string, byte[]>
        {
            ["tokenizer.json"] = Encoding.UTF8.GetBytes(Published(kind)),
            ["tokenizer_config.json"] = Encoding.UTF8.GetBytes(config)
        }, 6);

    /// <summary>
    /// SentencePiece replaces the longest run of characters that its table has, the library the user-perceived character: the texts where
    /// these two differ are left out, as are those that end with the end of sequence, which T5's own tokenizer does not put there twice.
    /// </summary>
    [OracleTheory]
    [InlineData("""{"pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": true}, "normalizer": {"type": "Sequence", "normalizers": ["old", {"type": "Strip", "strip_left": false, "strip_right": true}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]}}""")]
    public void T5sOwnFile_IsTheTokenizerJsonThatItMakes(string changes)
    {
        using var folder = new TemporaryFolder();
        folder.Write("tokenizer.json", Changed("Unigram", changes).ToJsonString());
        var (json, own) = ((Tokenizer)TokenizerFiles.Load(folder.Path), (Tokenizer)TokenizerFiles.Load(Source("unigram")));
        Oracle.AssertSame(Changed("Unigram", changes), Files("unigram", "spiece.model"), 7,
            text => json.Normalize(text) != own.Normalize(text));
    }

    /// <summary>Every character's normal forms and classes, a few hundred to a text.</summary>
    [OracleTheory]
    [InlineData("""{"type": "NFC"}""")]
    [InlineData("""{"type": "NFD"}""")]
    [InlineData("""{"type": "NFKC"}""")]
    [InlineData("""{"type": "NFKD"}""")]
    [InlineData("""{"type": "Lowercase"}""")]
    [InlineData("""{"type": "StripAccents"}""")]
    [InlineData("""{"type": "Nmt"}""")]
    [InlineData("""{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": true, "lowercase": true}""")]
    public void EveryCharacter_IsNormalisedAsTheLibraryDoes(string normalizer)
    {
        var json = Changed("BPE",
            $$$"""{"normalizer": {{{normalizer}}}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "BertPreTokenizer"}, {"type": "ByteLevel", "add_prefix_space": true, "use_regex": true, "trim_offsets": true}]}}""");
        using var folder = new TemporaryFolder();
        using var theirs = new global::Tokenizers.DotNet.Tokenizer(folder.Write("tokenizer.json", json.ToJsonString()));
        var ours = TokenizerFiles.Load(folder.Path);
        foreach (var block in Enumerable.Range(0, 0x110000).Where(Rune.IsValid).Select(code => new Rune(code).ToString()).Chunk(256))
        {
            var text = string.Concat(block.Select(character => $"a{character}b"));
            if (!theirs.Encode(text).Select(id => (int)id).SequenceEqual(ours.Encode(text)))
                Assert.All(block, character =>
                    Assert.Equal(theirs.Encode($"a{character}b").Select(id => (int)id), ours.Encode($"a{character}b")));
        }
    }

    private static void Same(string kind, string changes, int seed)
    {
        var json = Changed(kind, changes);
        Oracle.AssertSame(json, new Dictionary<string, byte[]> { ["tokenizer.json"] = Encoding.UTF8.GetBytes(json.ToJsonString()) }, seed);
    }

    /// <summary>The published form with some of its settings changed; "+" lists tokens to add, "old" stands for what was there.</summary>
    private static JsonNode Changed(string kind, string changes)
    {
        var root = JsonNode.Parse(Published(kind))!;
        foreach (var (key, value) in JsonNode.Parse(changes)!.AsObject())
            if (key == "+")
                foreach (var name in value!.AsArray())
                {
                    var added = root["added_tokens"]!.AsArray();
                    var vocabulary = root["model"]!["vocab"]!;
                    var size = vocabulary is JsonArray list ? list.Count : vocabulary.AsObject().Count;
                    var id = Math.Max(size, added.Max(token => token!["id"]!.GetValue<int>()) + 1);
                    var token = name!.GetValue<string>() switch { "Sep" => Sep, "NewYork" => NewYork, _ => Word };
                    added.Add(JsonNode.Parse(token.Replace("ID", $"{Known(root, token) ?? id}", StringComparison.Ordinal)));
                }
            else
            {
                var keys = key.Split('.');
                var parent = keys[..^1].Aggregate(root, (node, name) => node[name]!);
                var old = parent[keys[^1]]?.DeepClone();
                var changed = value?.DeepClone();
                if (changed is JsonObject && changed["normalizers"] is JsonArray steps && steps[0]!.GetValueKind() == JsonValueKind.String)
                    steps[0] = old;
                parent[keys[^1]] = changed;
            }
        return root;
    }

    private static int? Known(JsonNode root, string token) =>
        root["model"]!["vocab"] is JsonObject vocabulary
        && vocabulary[JsonNode.Parse(token.Replace("ID", "0", StringComparison.Ordinal))!["content"]!.GetValue<string>()] is { } id
        ? id.GetValue<int>() : null;

    private static Dictionary<string, byte[]> Files(string source, params string[] names) =>
        names.ToDictionary(name => name, name => File.ReadAllBytes(Path.Combine(Source(source), name)));
}
