// GPT-2 (Radford et al., 2019): decoder-only, learned positions, pre-norm blocks, head tied to the embedding.
// Names are the checkpoint's (transformers GPT2LMHeadModel). Trap: its linear maps are Conv1D, stored [in, out]; Weights.Conv1D turns
// them. B batch, T tokens, C hidden size, H heads, V vocabulary.

using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>The keys of config.json that change what GPT-2 computes.</summary>
/// <param name="NInner">Width of the MLP; 4 C when the key is absent.</param>
public sealed record Gpt2Config(
    string File, int VocabSize, int NPositions, int NEmbd, int NLayer, int NHead, int NInner,
    string ActivationFunction, double LayerNormEpsilon, IReadOnlyList<int> EosTokenIds, int PadTokenId)
{
    public static Gpt2Config From(ConfigFile config)
    {
        config = config.WithAliases(("hidden_size", "n_embd"), ("max_position_embeddings", "n_positions"),
            ("num_attention_heads", "n_head"), ("num_hidden_layers", "n_layer"));
        config.Require("is_encoder_decoder", false);
        config.Require("scale_attn_weights", true);
        config.Require("scale_attn_by_inverse_layer_idx", false);
        config.Require("tie_word_embeddings", true);
        var (embd, head) = (config.Size("n_embd"), config.Size("n_head"));
        if (embd % head != 0)
            throw Fault.Model(config.File, "n_head", $"{head} does not divide n_embd {embd}");
        var vocab = config.Size("vocab_size");
        // The paper adds a [PAD] token as the last row of the vocabulary (mend-spec 5.1); published configs name none.
        return new(config.File, vocab, config.Size("n_positions", config.Size("n_ctx", 1024)), embd, config.Size("n_layer"), head,
            config.Size("n_inner", 4 * embd), config.Activation("activation_function", "gelu_new"),
            config.Double("layer_norm_epsilon", 1e-5), config.Ids("eos_token_id", vocab - 1), config.PadId(vocab, vocab - 1));
    }
}

public sealed class Gpt2(Gpt2Config config) : Gpt(config.NLayer, ["c_proj", "c_fc"])
{
    /// <summary>The family's row in <see cref="FamilyRegistry"/>.</summary>
    public static FamilyKind Kind { get; } = new("gpt2", config => new Gpt2(Gpt2Config.From(config)))
    {
        HeadModelPrefixes = ["transformer."],
        DownProjection = "mlp\\.c_proj",
        Published = new Dictionary<string, IReadOnlyList<string>>
        {
            // this one in forward order, the larger ones not
            ["distilgpt2"] = FamilyKind.Weights("transformer.h", [3, 4, 5], "mlp.c_fc", "mlp.c_proj"),
            ["gpt2"] = FamilyKind.Weights("transformer.h", [9, 10, 11], "mlp.c_proj", "mlp.c_fc"),
            ["gpt2medium"] = FamilyKind.Weights("transformer.h", [21, 22, 23], "mlp.c_proj", "mlp.c_fc"),
            ["gpt2large"] = FamilyKind.Weights("transformer.h", [33, 34, 35], "mlp.c_proj", "mlp.c_fc"),
            ["gpt2xl"] = FamilyKind.Weights("transformer.h", [45, 46, 47], "mlp.c_proj", "mlp.c_fc"),
        },
    };

    public override FamilyKind Family => Kind;

    public override long VocabularySize => config.VocabSize;

    public override long? MaxPositions => config.NPositions;

    public override IReadOnlyList<int> EosIds => config.EosTokenIds;

    public override int PadId => config.PadTokenId;

    public override Layer Build(int index, WeightSource weights) =>
        index == 0 ? new Gpt2Embedding(config, weights)
        : index == LayerNames.Count - 1 ? new Gpt2Head(config, weights)
        : new Gpt2Block(config, LayerNames[index], weights);

    /// <summary>0.02, and 0.02 / sqrt(2 layers) for the products that write to the residual stream (GPT-2 paper, 2.3).</summary>
    public override double InitialStd(string name, long[] shape) =>
        name.EndsWith("c_proj.weight", StringComparison.Ordinal) ? 0.02 / Math.Sqrt(2.0 * config.NLayer) : 0.02;
}

internal sealed class Gpt2Embedding(Gpt2Config config, WeightSource weights) : Layer
{
    private readonly Tensor wte = weights.Embedding("transformer.wte.weight", config.VocabSize, config.NEmbd, "lm_head.weight");
    private readonly Tensor wpe = weights.Embedding("transformer.wpe.weight", config.NPositions, config.NEmbd);

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var ids = pass.Input.InputIds; // [B, T]
        return activations with { Hidden = Layers.Embed(wte, ids).Plus(Layers.Embed(wpe, pass.DecoderPositions(ids.shape[1]))) };
    }
}

internal sealed class Gpt2Attention(Gpt2Config config, string name, WeightSource weights)
{
    private readonly EditableLinear c_attn = new(name + ".c_attn.weight",
        weights.Conv1D(name + ".c_attn.weight", 3 * config.NEmbd, config.NEmbd), weights.Bias(name + ".c_attn.bias", 3 * config.NEmbd));

    private readonly EditableLinear c_proj = new(name + ".c_proj.weight",
        weights.Conv1D(name + ".c_proj.weight", config.NEmbd, config.NEmbd), weights.Bias(name + ".c_proj.bias", config.NEmbd));

    public IReadOnlyList<EditableLinear> Linears => [c_attn, c_proj];

    public Tensor Forward(Tensor x, ForwardContext pass)
    {
        var qkv = c_attn.Forward(x, pass).split(config.NEmbd, 2); // 3 x [B, T, C]
        var q = Layers.SplitHeads(qkv[0], config.NHead);           // [B, H, T, D]
        var k = Layers.SplitHeads(qkv[1], config.NHead);
        var v = Layers.SplitHeads(qkv[2], config.NHead);
        if (pass.Cache is { } cache)
            (k, v) = cache.Append(name, k, v); // [B, H, S, D], S = cached + T
        var attended = Layers.Attention(q, k, v, pass.CausalBias(x.shape[1], k.shape[2]), 1.0 / Math.Sqrt(q.shape[3]));
        return c_proj.Forward(Layers.MergeHeads(attended), pass);
    }
}

internal sealed class Gpt2Mlp(Gpt2Config config, string name, WeightSource weights)
{
    private readonly EditableLinear c_fc = new(name + ".c_fc.weight",
        weights.Conv1D(name + ".c_fc.weight", config.NInner, config.NEmbd), weights.Bias(name + ".c_fc.bias", config.NInner));

    private readonly EditableLinear c_proj = new(name + ".c_proj.weight",
        weights.Conv1D(name + ".c_proj.weight", config.NEmbd, config.NInner), weights.Bias(name + ".c_proj.bias", config.NEmbd));

    private readonly Func<Tensor, Tensor> act = Layers.Activation(config.ActivationFunction, config.File);

    public IReadOnlyList<EditableLinear> Linears => [c_fc, c_proj];

    public Tensor Forward(Tensor x, ForwardContext pass) => c_proj.Forward(act(c_fc.Forward(x, pass)), pass);
}

internal sealed class Gpt2Block(Gpt2Config config, string name, WeightSource weights) : Layer
{
    private readonly Tensor ln_1_weight = weights.Norm(name + ".ln_1.weight", config.NEmbd);
    private readonly Tensor ln_1_bias = weights.Norm(name + ".ln_1.bias", config.NEmbd);
    private readonly Gpt2Attention attn = new(config, name + ".attn", weights);
    private readonly Tensor ln_2_weight = weights.Norm(name + ".ln_2.weight", config.NEmbd);
    private readonly Tensor ln_2_bias = weights.Norm(name + ".ln_2.bias", config.NEmbd);
    private readonly Gpt2Mlp mlp = new(config, name + ".mlp", weights);

    public override IReadOnlyList<EditableLinear> Linears => [.. attn.Linears, .. mlp.Linears];

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var x = activations.Hidden!; // [B, T, C]
        x = x.Plus(attn.Forward(Layers.LayerNorm(x, ln_1_weight, ln_1_bias, config.LayerNormEpsilon), pass));
        x = x.Plus(mlp.Forward(Layers.LayerNorm(x, ln_2_weight, ln_2_bias, config.LayerNormEpsilon), pass));
        return activations with { Hidden = x };
    }
}

internal sealed class Gpt2Head(Gpt2Config config, WeightSource weights) : Head
{
    private readonly Tensor ln_f_weight = weights.Norm("transformer.ln_f.weight", config.NEmbd);
    private readonly Tensor ln_f_bias = weights.Norm("transformer.ln_f.bias", config.NEmbd);
    private readonly Tensor wte = weights.Embedding("transformer.wte.weight", config.VocabSize, config.NEmbd, "lm_head.weight");

    public override Activations Forward(Activations activations, ForwardContext pass) =>
        activations with { Hidden = Layers.LayerNorm(activations.Hidden!, ln_f_weight, ln_f_bias, config.LayerNormEpsilon) };

    public override Tensor Logits(Tensor hidden) => Layers.Linear(hidden, wte);
}
