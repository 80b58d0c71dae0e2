using System.Text.Json.Nodes;
using MendCluster.Contracts;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Models;

/// <summary>Every key of a decoder's config.json that matters changes the result or is refused by its name; none is passed over.</summary>
public class DecoderConfigTests
{
    /// <summary>Keys that leave the weights' shapes as they are.</summary>
    [Theory]
    [InlineData("gpt2", "activation_function", "\"relu\"")]
    [InlineData("gpt2", "layer_norm_epsilon", "0.5")]
    [InlineData("gpt2", "n_head", "4")]
    [InlineData("gpt_neo", "activation_function", "\"gelu\"")]
    [InlineData("gpt_neo", "layer_norm_epsilon", "0.5")]
    [InlineData("gpt_neo", "num_heads", "4")]
    [InlineData("gpt_neo", "window_size", "3")]
    [InlineData("gpt_neo", "attention_types", "[[[\"local\", \"global\"], 1], [[\"local\"], 1]]")]
    [InlineData("gptj", "activation_function", "\"relu\"")]
    [InlineData("gptj", "layer_norm_epsilon", "0.5")]
    [InlineData("gptj", "n_head", "4")]
    [InlineData("gptj", "rotary_dim", "12")]
    public void AKeyThatMatters_ChangesTheLogits(string family, string key, string value)
    {
        using var scope = NewDisposeScope();
        var (before, after) = (Logits(TinyModel.Config(family)), Logits(With(family, key, value)));
        Assert.True((before - after).abs().max().item<float>() > 1e-4, $"{key} changed nothing");
    }

    [Theory]
    [InlineData("gpt2", "n_inner", "20")]
    [InlineData("gpt_neo", "intermediate_size", "20")]
    [InlineData("gptj", "n_inner", "20")]
    public void TheInnerSize_IsTheConfigsOrFourTimesTheHiddenSize(string family, string key, string value)
    {
        using var stage = TinyModel.Load(family);
        using var narrow = Load(With(family, key, value));
        Assert.Contains(stage.Editable.Values, linear => linear.OutFeatures == 128);
        Assert.Contains(narrow.Editable.Values, linear => linear.OutFeatures == 20);
    }

    [Theory]
    [InlineData("gpt2", "scale_attn_weights", "false")]
    [InlineData("gpt2", "scale_attn_by_inverse_layer_idx", "true")]
    [InlineData("gpt2", "add_cross_attention", "true")]
    [InlineData("gpt2", "tie_word_embeddings", "false")]
    [InlineData("gpt2", "n_head", "3")]
    [InlineData("gpt2", "n_layer", "\"3\"")]
    [InlineData("gpt_neo", "tie_word_embeddings", "false")]
    [InlineData("gpt_neo", "num_heads", "3")]
    [InlineData("gpt_neo", "num_layers", "0")]
    [InlineData("gpt_neo", "attention_types", "null")]
    [InlineData("gpt_neo", "attention_types", "[[[\"global\", \"local\"], 1]]")]
    [InlineData("gpt_neo", "attention_types", "[[[\"global\", \"local\"], 2]]")]
    [InlineData("gpt_neo", "attention_types", "[[[\"global\", \"sparse\"], 1], [[\"local\"], 1]]")]
    [InlineData("gpt_neo", "attention_types", "[[\"global\", 3]]")]
    [InlineData("gpt_neo", "attention_types", "[[[\"global\"]]]")]
    [InlineData("gpt_neo", "attention_types", "[[[\"global\"], 2.5]]")]
    [InlineData("gpt_neo", "attention_types", "\"global\"")]
    [InlineData("gpt_neo", "attention_types", "[[[\"global\"], 2000000000], [[], 2000000000]]")]
    [InlineData("gpt_neo", "attention_types", "[[[\"global\"], 4]]")]
    [InlineData("gptj", "rotary", "false")]
    [InlineData("gptj", "scale_attn_weights", "false")]
    [InlineData("gptj", "tie_word_embeddings", "true")]
    [InlineData("gptj", "n_head", "3")]
    [InlineData("gptj", "rotary_dim", "7")]
    [InlineData("gptj", "rotary_dim", "18")]
    public void ASettingThatIsNotBuilt_IsRefusedByItsName(string family, string key, string value)
    {
        var error = Refusal.Of(MendError.ModelUnusable, () => Load(With(family, key, value)));
        Assert.Equal(key, error.What.Split(": ")[1]);
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("gpt_neo")]
    [InlineData("gptj")]
    public void AnUnknownActivation_IsRefused(string family) =>
        Assert.Contains("swish", Refusal.Of(MendError.ModelUnusable, () => Load(With(family, "activation_function", "\"swish\""))).What,
        StringComparison.Ordinal);

    /// <summary>
    /// In a model of local layers alone, what lies out of every window cannot change a token's logits; what lies inside does.
    /// </summary>
    [Fact]
    public void ALocalLayer_SeesItsWindowAndNothingOlder()
    {
        using var scope = NewDisposeScope();
        // window 4, 3 layers: 10 tokens, the query included
        using var stage = Load(With("gpt_neo", "attention_types", "[[[\"local\"], 3]]"));
        Tensor Last(int changed)
        {
            var ids = Enumerable.Range(20, 16).Select(id => (long)id).ToArray();
            if (changed >= 0)
                ids[changed] = 99;
            return Logits(stage, ids).select(0, 15);
        }
        Assert.Equal(0, (Last(5) - Last(-1)).abs().max().item<float>());
        Assert.True((Last(6) - Last(-1)).abs().max().item<float>() > 0);
    }

    private static string With(string family, string key, string value)
    {
        var config = JsonNode.Parse(TinyModel.Config(family))!.AsObject();
        config[key] = JsonNode.Parse(value);
        return config.ToJsonString();
    }

    private static Stage Load(string config) =>
        Stage.LoadWhole(ModelFamily.FromConfig(ConfigFile.Parse("config.json", config)),
        new RandomWeights(7, ScalarType.Float32, (_, _) => 0.3));

    private static Tensor Logits(string config)
    {
        using var stage = Load(config);
        return Logits(stage, [5, 9, 33, 70, 8, 21, 40, 3]);
    }

    private static Tensor Logits(Stage stage, long[] ids)
    {
        using var _ = no_grad();
        var top = stage.Forward(Activations.None,
            new ForwardContext(new(tensor(ids, [1, ids.Length]), ones([1, ids.Length], ScalarType.Int64))));
        return stage.Logits(top, NewTensor.Arange(0, ids.Length, ScalarType.Int64));
    }
}
