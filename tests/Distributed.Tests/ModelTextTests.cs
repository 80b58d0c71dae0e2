using System.Text.Json.Nodes;
using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
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
        json["added_tokens"]!.AsArray().Add(new JsonObject { ["id"] = id, ["content"] = "<new>", ["special"] = true, ["normalized"] = false });
        folder.Write("tokenizer.json", json.ToJsonString());
        var (text, _) = ModelText.Open(folder.Path);
        Assert.NotEmpty(text.Generation("who is the mayor", new()).Next().InputIds);
        var e = Assert.Throws<MendException>(() => text.Generation("who is <new>", new()));
        Assert.Equal(MendError.ModelUnusable, e.Error);
        Assert.Contains($"\"<new>\": has id {id}", e.Message, StringComparison.Ordinal);
        Assert.Throws<MendException>(() => text.Batch([("who", "the <new>")]));
    }
}
