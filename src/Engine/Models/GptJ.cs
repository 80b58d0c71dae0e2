// GPT-J (Wang and Komatsuzaki, 2021): decoder-only, rotary positions, one norm a block, an untied head.
// Names are the checkpoint's (transformers GPTJForCausalLM). Traps: attention and MLP read the same normed input and are added together
// (a parallel block, no ln_2); the rotation turns neighbouring pairs (2i, 2i+1) of the first rotary_dim channels of each head and leaves
// the others; q, k, v and out have no bias, but lm_head has one.
// B batch, T tokens, C hidden size, H heads, D head size, R rotary_dim, V vocabulary.

using System.Text.Json;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>The keys of config.json that change what GPT-J computes.</summary>
/// <param name="NInner">Width of the MLP; 4 C when the key is absent.</param>
/// <param name="RotaryDim">Channels of a head that are rotated; 64 when the key is absent.</param>
public sealed record GptJConfig(
    string File, int VocabSize, int NPositions, int NEmbd, int NLayer, int NHead, int NInner, int RotaryDim,
    string ActivationFunction, double LayerNormEpsilon, IReadOnlyList<int> EosTokenIds, int PadTokenId)
{
    private const int PublishedRotaryDim = 64;

    public static GptJConfig From(ConfigFile config)
    {
        config = config.WithAliases(("hidden_size", "n_embd"), ("max_position_embeddings", "n_positions"),
            ("num_attention_heads", "n_head"), ("num_hidden_layers", "n_layer"));
        config.Require("is_encoder_decoder", false);
        config.Require("rotary", true);
        config.Require("scale_attn_weights", true);
        config.Require("tie_word_embeddings", false);
        var (embd, head) = (config.Size("n_embd"), config.Size("n_head"));
        if (embd % head != 0)
            throw Fault.Model(config.File, "n_head", $"{head} does not divide n_embd {embd}");
        var rotary = config.Size("rotary_dim", PublishedRotaryDim);
        if (rotary % 2 != 0 || rotary > embd / head)
            throw Fault.Model(config.File, "rotary_dim", $"is {rotary}, expected an even number up to the head size {embd / head}");
        RequireUsualRotation(config, (double)rotary / (embd / head));
        var vocab = config.Size("vocab_size");
        // The paper adds a [PAD] token as the last row of the vocabulary (mend-spec 5.1); published configs name none.
        return new(config.File, vocab, config.Size("n_positions", 2048), embd, config.Size("n_layer"), head,
            config.Size("n_inner", 4 * embd),
            rotary, config.Activation("activation_function", "gelu_new"), config.Double("layer_norm_epsilon", 1e-5),
            config.Ids("eos_token_id", vocab - 1), config.PadId(vocab, vocab - 1));
    }

    /// <summary>
    /// The keys in which transformers 5, and tools before it, keep what a rotation is: angles by powers of 10000 alone are built, over the
    /// channels that rotary_dim says.
    /// </summary>
    private static void RequireUsualRotation(ConfigFile config, double part)
    {
        Require("rope_theta", config.Value("rope_theta"));
        foreach (var key in new[] { "rope_parameters", "rope_scaling" })
            if (config.Value(key) is { ValueKind: JsonValueKind.Object } rope)
                foreach (var setting in rope.EnumerateObject().Where(setting => setting.Value.ValueKind != JsonValueKind.Null))
                    Require($"{key}.{setting.Name}", setting.Value);

        void Require(string key, JsonElement? value)
        {
            var isUsual = value is not { } stated || key[(key.IndexOf('.', StringComparison.Ordinal) + 1)..] switch
            {
                "rope_theta" => stated.ValueKind == JsonValueKind.Number && stated.GetDouble() == Layers.RotaryBase,
                "rope_type" or "type" => stated.ValueKind == JsonValueKind.String && stated.GetString() == "default",
                "partial_rotary_factor" => stated.ValueKind == JsonValueKind.Number && Math.Abs(stated.GetDouble() - part) < 1e-6,
                _ => false,
            };
            if (!isUsual)
                throw Fault.Model(config.File, key,
                    $"is {value!.Value.GetRawText()}, which is not supported: GPT-J turns {part:P0} of a head's channels by powers of {Layers.RotaryBase}");
        }
    }
}

public sealed class GptJ(GptJConfig config) : Gpt(config.NLayer, ["fc_in", "fc_out"])
{
    /// <summary>The family's row in <see cref="FamilyRegistry"/>.</summary>
    public static FamilyKind Kind { get; } = new("gptj", config => new GptJ(GptJConfig.From(config)))
    {
        HeadModelPrefixes = ["transformer."],
        DownProjection = "mlp\\.fc_out",
        Published = new Dictionary<string, IReadOnlyList<string>>
        {
            ["gptj"] = FamilyKind.Weights("transformer.h", [25, 26, 27], "mlp.fc_in", "mlp.fc_out"),
        },
    };

    public override FamilyKind Family => Kind;

    public override long VocabularySize => config.VocabSize;

    public override long? MaxPositions => config.NPositions;

    public override IReadOnlyList<int> EosIds => config.EosTokenIds;

    public override int PadId => config.PadTokenId;

    public override Layer Build(int index, WeightSource weights) =>
        index == 0 ? new GptJEmbedding(config, weights)
        : index == LayerNames.Count - 1 ? new GptJHead(config, weights)
        : new GptJBlock(config, LayerNames[index], weights);

    /// <summary>The published initializer_range.</summary>
    public override double InitialStd(string name, long[] shape) => 0.02;
}

internal sealed class GptJEmbedding(GptJConfig config, WeightSource weights) : Layer
{
    private readonly Tensor wte = weights.Embedding("transformer.wte.weight", config.VocabSize, config.NEmbd);

    public override Activations Forward(Activations activations, ForwardContext pass) =>
        activations with { Hidden = Layers.Embed(wte, pass.Input.InputIds) };
}

internal sealed class GptJAttention(GptJConfig config, string name, WeightSource weights)
{
    private readonly EditableLinear q_proj = Project(config, name + ".q_proj.weight", weights);
    private readonly EditableLinear k_proj = Project(config, name + ".k_proj.weight", weights);
    private readonly EditableLinear v_proj = Project(config, name + ".v_proj.weight", weights);
    private readonly EditableLinear out_proj = Project(config, name + ".out_proj.weight", weights);

    public IReadOnlyList<EditableLinear> Linears => [q_proj, k_proj, v_proj, out_proj];

    public Tensor Forward(Tensor x, ForwardContext pass)
    {
        var q = Layers.SplitHeads(q_proj.Forward(x, pass), config.NHead); // [B, H, T, D]
        var k = Layers.SplitHeads(k_proj.Forward(x, pass), config.NHead);
        var v = Layers.SplitHeads(v_proj.Forward(x, pass), config.NHead);
        (q, k) = (Rotate(q, pass), Rotate(k, pass));
        if (pass.Cache is { } cache)
            (k, v) = cache.Append(name, k, v); // [B, H, S, D], S = cached + T; cached keys are rotated already
        var attended = Layers.Attention(q, k, v, pass.CausalBias(x.shape[1], k.shape[2]), 1.0 / Math.Sqrt(q.shape[3]));
        return out_proj.Forward(Layers.MergeHeads(attended), pass);
    }

    /// <summary>Turns the pair (2i, 2i+1) at position p by the angle p / 10000^(2i/R), for i below R/2.</summary>
    /// <param name="x">[B, H, T, D].</param>
    private Tensor Rotate(Tensor x, ForwardContext pass)
    {
        var (B, H, T, D, R) = (x.shape[0], x.shape[1], x.shape[2], x.shape[3], (long)config.RotaryDim);
        var angles = pass.Shared("rotary angles", () => Layers.RotaryAngles(pass.DecoderPositions(T), R, x.device)); // [B or 1, 1, T, R/2]
        var (sin, cos) = (pass.Shared("rotary sin", angles.sin), pass.Shared("rotary cos", angles.cos));
        var pairs = x.narrow(3, 0, R).reshape(B, H, T, R / 2, 2);
        var (even, odd) = (pairs.select(4, 0), pairs.select(4, 1)); // [B, H, T, R/2]
        var turned = stack([even * cos - odd * sin, (odd * cos).Plus(even * sin)], 4).reshape(B, H, T, R);
        return R == D ? turned : cat([turned, x.narrow(3, R, D - R)], 3);
    }

    private static EditableLinear Project(GptJConfig config, string name, WeightSource weights) =>
        new(name, weights.Linear(name, config.NEmbd, config.NEmbd), null);
}

internal sealed class GptJMlp(GptJConfig config, string name, WeightSource weights)
{
    private readonly EditableLinear fc_in = new(name + ".fc_in.weight",
        weights.Linear(name + ".fc_in.weight", config.NInner, config.NEmbd), weights.Bias(name + ".fc_in.bias", config.NInner));

    private readonly EditableLinear fc_out = new(name + ".fc_out.weight",
        weights.Linear(name + ".fc_out.weight", config.NEmbd, config.NInner), weights.Bias(name + ".fc_out.bias", config.NEmbd));

    private readonly Func<Tensor, Tensor> act = Layers.Activation(config.ActivationFunction, config.File);

    public IReadOnlyList<EditableLinear> Linears => [fc_in, fc_out];

    public Tensor Forward(Tensor x, ForwardContext pass) => fc_out.Forward(act(fc_in.Forward(x, pass)), pass);
}

internal sealed class GptJBlock(GptJConfig config, string name, WeightSource weights) : Layer
{
    private readonly Tensor ln_1_weight = weights.Norm(name + ".ln_1.weight", config.NEmbd);
    private readonly Tensor ln_1_bias = weights.Norm(name + ".ln_1.bias", config.NEmbd);
    private readonly GptJAttention attn = new(config, name + ".attn", weights);
    private readonly GptJMlp mlp = new(config, name + ".mlp", weights);

    public override IReadOnlyList<EditableLinear> Linears => [.. attn.Linears, .. mlp.Linears];

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var x = activations.Hidden!; // [B, T, C]
        var normed = Layers.LayerNorm(x, ln_1_weight, ln_1_bias, config.LayerNormEpsilon);
        return activations with { Hidden = x.Plus(attn.Forward(normed, pass)).Plus(mlp.Forward(normed, pass)) };
    }
}

internal sealed class GptJHead(GptJConfig config, WeightSource weights) : Head
{
    private readonly Tensor ln_f_weight = weights.Norm("transformer.ln_f.weight", config.NEmbd);
    private readonly Tensor ln_f_bias = weights.Norm("transformer.ln_f.bias", config.NEmbd);
    private readonly Tensor lm_head_weight = weights.Linear("lm_head.weight", config.VocabSize, config.NEmbd);
    private readonly Tensor lm_head_bias = weights.Bias("lm_head.bias", config.VocabSize);

    public override Activations Forward(Activations activations, ForwardContext pass) =>
        activations with { Hidden = Layers.LayerNorm(activations.Hidden!, ln_f_weight, ln_f_bias, config.LayerNormEpsilon) };

    public override Tensor Logits(Tensor hidden) => Layers.Linear(hidden, lm_head_weight, lm_head_bias);
}
