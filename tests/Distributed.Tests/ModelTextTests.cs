using System.Text.Json.Nodes;
using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

public class ModelTextTests
{
    [Fact]
    public void ATokenThatTheModelHasNoRowFor_RefusesTheTextAndNotTheModel()
    {
        using var folder = new TemporaryFolder();
        TinyModels.Write(folder.Path, "gpt2");
        var json = JsonNode.Parse(File.ReadAllText(folder["tokenizer.json"]))!;
        var id = json["model"]!["vocab"]!.AsObject().Count;
        json["added_tokens"]!.AsArray()
            .Add(new JsonObject { ["id"] = id, ["content"] = "<new>", ["special"] = true, ["normalized"] = false });
        folder.Write("tokenizer.json", json.ToJsonString());
        var (text, _) = ModelText.Open(folder.Path);
        Assert.NotEmpty(text.Generation("who is the mayor", new()).Next().InputIds);
        var e = Assert.Throws<MendException>(() => text.Generation("who is <new>", new()));
        Assert.Equal(MendError.ModelUnusable, e.Error);
        Assert.Contains($"\"<new>\": has id {id}", e.Message, StringComparison.Ordinal);
        Assert.Throws<MendException>(() => text.Batch([("who", "the <new>")]));
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")]
    [InlineData("bert")]
    public void AnEditsText_IsTokenisedOnce(string family)
    {
        using var folder = new TemporaryFolder();
        TinyModels.Write(folder.Path, family);
        var tokenizer = new Counting(TokenizerFiles.Load(folder.Path));
        var text = new ModelText(ModelFamily.FromDirectory(folder.Path), tokenizer);
        tokenizer.Encoded.Clear();
        var row = text.Row("who is the mayor", family == "bert" ? "SUPPORTS" : "a woman");
        _ = text.Batch([row]);
        _ = text.Batch([row, row]);
        Assert.Equal(tokenizer.Encoded.Distinct(), tokenizer.Encoded);
        Assert.Equal(family == "bert" ? 1 : 2, tokenizer.Encoded.Count);
    }

    private sealed class Counting(ITokenizer tokenizer) : ITokenizer
    {
        public List<string> Encoded { get; } = [];

        public int VocabularySize => tokenizer.VocabularySize;

        public IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true)
        {
            Encoded.Add(text);
            return tokenizer.Encode(text, addSpecialTokens);
        }

        public string Decode(IEnumerable<int> ids, bool skipSpecialTokens = true) => tokenizer.Decode(ids, skipSpecialTokens);

        public int? IdOf(string token) => tokenizer.IdOf(token);

        public string? TokenOf(int id) => tokenizer.TokenOf(id);
    }
}
