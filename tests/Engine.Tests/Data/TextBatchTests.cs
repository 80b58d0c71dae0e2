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
}
