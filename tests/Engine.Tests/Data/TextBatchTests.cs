using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Data;

public sealed class TextBatchTests
{
    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")]
    [InlineData("bart")]
    public void WhiteSpaceAtTheEnds_IsNoPartOfPromptOrTarget(string family)
    {
        using var model = new TemporaryFolder();
        TinyModels.Write(model.Path, family);
        var text = new TextBatch(ModelFamily.FromDirectory(model.Path), TokenizerFiles.Load(model.Path));
        var plain = text.Row("what is red", "blue");
        foreach (var (before, after) in new[] { (" ", ""), ("", " "), ("\t", "\r\n"), ("\u00a0", "\u3000") })
        {
            var row = text.Row(before + "what is red" + after, before + "blue" + after);
            Assert.Equal((plain.Prompt, plain.Target), (row.Prompt, row.Target));
            Assert.Equal(plain.Ids, row.Ids);
            Assert.Equal(plain.DecoderIds, row.DecoderIds);
            Assert.Equal(plain.Labels, row.Labels);
        }
    }

    /// <summary>A tokenizer larger than the model: libtorch would read past the table, or end the process.</summary>
    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")]
    [InlineData("bert")]
    public void ATokenWithoutARow_IsRefusedByNameAndId(string family)
    {
        var text = new TextBatch(TinyModel.Family(family), TinyModel.Letter());
        var target = family == "bert" ? "true" : "ab";
        Assert.NotEmpty(text.Row("abc", target).Ids);
        var e = Refusal.Of(MendError.ModelUnusable, () => text.Row("ab\u00E9", target));
        Assert.StartsWith("tokenizer: \"\u00E9\": ", e.What, StringComparison.Ordinal);
        Assert.Contains("has id 233, the model's embedding has 130 rows", e.Message, StringComparison.Ordinal);
        if (family != "bert")
            Refusal.Of(MendError.ModelUnusable, () => text.Row("ab", "c\u00E9"));
    }
}
