using MendCluster.Contracts;
using MendCluster.Engine.Models;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Models;

public class EditableWeightsTests
{
    /// <summary>The sizes of the published checkpoints; a model of them takes no memory here.</summary>
    [Theory]
    [InlineData("distilgpt2", """{"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 6, "n_head": 12}""")]
    [InlineData("gpt2", """{"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12}""")]
    [InlineData("gpt2medium", """{"model_type": "gpt2", "vocab_size": 50257, "n_embd": 1024, "n_layer": 24, "n_head": 16}""")]
    [InlineData("gpt2large", """{"model_type": "gpt2", "vocab_size": 50257, "n_embd": 1280, "n_layer": 36, "n_head": 20}""")]
    [InlineData("gpt2xl", """{"model_type": "gpt2", "vocab_size": 50257, "n_embd": 1600, "n_layer": 48, "n_head": 25}""")]
    [InlineData("gptneo27", """{"model_type": "gpt_neo", "vocab_size": 50257, "hidden_size": 2560, "num_layers": 32, "num_heads": 20, "attention_types": [[["global", "local"], 16]]}""")]
    [InlineData("gptj", """{"model_type": "gptj", "vocab_size": 50400, "n_embd": 4096, "n_layer": 28, "n_head": 16, "rotary_dim": 64}""")]
    [InlineData("t5small", """{"model_type": "t5", "vocab_size": 32128, "d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false}""")]
    [InlineData("t5large", """{"model_type": "t5", "vocab_size": 32128, "d_model": 1024, "d_kv": 64, "d_ff": 4096, "num_layers": 24, "num_heads": 16}""")]
    [InlineData("t5xl", """{"model_type": "t5", "vocab_size": 32128, "d_model": 2048, "d_kv": 64, "d_ff": 5120, "num_layers": 24, "num_heads": 32, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false}""")]
    [InlineData("t5xxl", """{"model_type": "t5", "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false}""")]
    public void AModelOfThePaper_IsEditedWhereThePaperEditsIt(string name, string config)
    {
        var family = ModelFamily.FromConfig(ConfigFile.Parse(name, config));
        var selected = EditableWeights.Select(family, [name]);
        Assert.Equal(EditableWeights.Published[name], selected);
        Assert.Equal(family.DefaultEditableWeights.Order(), selected.Order());
        if (name != "distilgpt2") // the one whose published order is not its family's
            Assert.Equal(family.DefaultEditableWeights, selected);
    }

    [Fact]
    public void APattern_SelectsItsWeightsInTheModelsOrder()
    {
        var family = TinyModel.Family("gptj");
        Assert.Equal(
            ["transformer.h.2.mlp.fc_out.weight", "transformer.h.0.attn.q_proj.weight", "transformer.h.1.attn.q_proj.weight",
            "transformer.h.2.attn.q_proj.weight"],
            EditableWeights.Select(family,
                ["transformer.h.2.mlp.fc_out.weight", "transformer.h.?.attn.q*", "transformer.h.0.attn.q_proj.weight"]));
        Assert.Equal(family.DefaultEditableWeights, EditableWeights.Select(family, []));
    }

    [Theory]
    [InlineData("transformer.h.9.*")]
    [InlineData("gpt2xl")]
    [InlineData("lm_head.weight")]
    public void ASelectorThatFindsNothing_IsRefusedByItsName(string selector)
    {
        var error = Refusal.Of(MendError.ModelUnusable, () => EditableWeights.Select(TinyModel.Family("gptj"), [selector]));
        Assert.Equal(selector, error.What.Split(": ")[1]);
        Assert.Contains("transformer.h.0.mlp.fc_in.weight", error.Message, StringComparison.Ordinal);
    }
}
