// GPT-Neo (Black et al., 2021): decoder-only, learned positions, pre-norm blocks, head tied to the embedding.
// Names are the checkpoint's (transformers GPTNeoForCausalLM). Traps: scores are not scaled by 1/sqrt(D); layers alternate between global
// and local attention, and a local query sees the last window_size tokens, itself included; the linear maps are nn.Linear, not GPT-2's
// Conv1D, under the same names c_fc and c_proj; q, k and v have no bias.
// B batch, T tokens, C hidden size, H heads, D head size, V vocabulary.

using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>The keys of config.json that change what GPT-Neo computes.</summary>
/// <param name="IntermediateSize">Width of the MLP; 4 C when the key is absent.</param>
/// <param name="IsLocal">For every layer whether its attention is local.</param>
public sealed record GptNeoConfig(
    string File, int VocabSize, int MaxPositionEmbeddings, int HiddenSize, int NumLayers, int NumHeads, int IntermediateSize,
    int WindowSize,
    IReadOnlyList<bool> IsLocal, string ActivationFunction, double LayerNormEpsilon, IReadOnlyList<int> EosTokenIds, int PadTokenId)
{
    public static GptNeoConfig From(ConfigFile config)
    {
        config = config.WithAliases(("num_attention_heads", "num_heads"), ("num_hidden_layers", "num_layers"));
        config.Require("is_encoder_decoder", false);
        config.Require("tie_word_embeddings", true);
        var (hidden, heads, layers) = (config.Size("hidden_size"), config.Size("num_heads"), config.Size("num_layers"));
        if (hidden % heads != 0)
            throw Fault.Model(config.File, "num_heads", $"{heads} does not divide hidden_size {hidden}");
        var vocab = config.Size("vocab_size");
        // The paper adds a [PAD] token as the last row of the vocabulary (mend-spec 5.1); published configs name none.
        return new(config.File, vocab, config.Size("max_position_embeddings", 2048), hidden, layers, heads,
            config.Size("intermediate_size", 4 * hidden), config.Size("window_size", 256), AttentionTypes(config, layers),
            config.Activation("activation_function", "gelu_new"), config.Double("layer_norm_epsilon", 1e-5),
            config.Ids("eos_token_id", vocab - 1), config.PadId(vocab, vocab - 1));
    }

    /// <summary>
    /// attention_types, [[["global", "local"], 16]]: the pair, sixteen times over; or attention_layers, which writes it out; where both
    /// stand they agree. Where neither does, the published model's: global and local in turn, 24 layers.
    /// </summary>
    private static bool[] AttentionTypes(ConfigFile config, int layers)
    {
        const string key = "attention_types", outright = "attention_layers";
        const int published = 24;
        bool[]? written = config.Value(outright) is null ? null
            : [.. config.Strings(outright).Select(type => IsLocalType(config, outright, type))];
        if (written is not null && written.Length != layers)
            throw Fault.Model(config.File, outright, $"has {written.Length} entries, num_layers is {layers}");
        if (config.Value(key) is not { } types)
            return written ?? (layers == published ? [.. Enumerable.Range(0, layers).Select(i => i % 2 == 1)]
                : throw Fault.Model(config.File, key, "is missing; expected for example [[[\"global\", \"local\"], 16]]"));
        var unrolled = new List<bool>();
        try
        {
            foreach (var entry in types.EnumerateArray())
            {
                var pattern = entry[0].EnumerateArray().Select(type => IsLocalType(config, key, type.GetString())).ToList();
                for (var times = entry[1].GetInt32(); times > 0 && pattern.Count > 0 && unrolled.Count <= layers; times--)
                    unrolled.AddRange(pattern);
            }
        }
        catch (Exception e) when (e is InvalidOperationException or FormatException or IndexOutOfRangeException)
        {
            throw Fault.Model(config.File, key, $"is {types.GetRawText()}, expected for example [[[\"global\", \"local\"], 16]]");
        }
        if (unrolled.Count != layers)
            throw Fault.Model(config.File, key, $"{types.GetRawText()} does not make num_layers {layers}");
        return written?.SequenceEqual(unrolled) != false ? [.. unrolled]
            : throw Fault.Model(config.File, outright, $"is not what {key} {types.GetRawText()} makes");
    }

    private static bool IsLocalType(ConfigFile config, string key, string? type) => type switch
    {
        "global" => false,
        "local" => true,
        _ => throw Fault.Model(config.File, key, $"'{type}' is not known; known: global, local"),
    };
}

public sealed class GptNeo(GptNeoConfig config) : Gpt(config.NumLayers, ["c_fc", "c_proj"])
{
    /// <summary>The family's row in <see cref="FamilyRegistry"/>.</summary>
    public static FamilyKind Kind { get; } = new("gpt_neo", config => new GptNeo(GptNeoConfig.From(config)))
    {
        HeadModelPrefixes = ["transformer."],
        DownProjection = "mlp\\.c_proj",
        Published = new Dictionary<string, IReadOnlyList<string>>
        {
            ["gptneo27"] = FamilyKind.Weights("transformer.h", [29, 30, 31], "mlp.c_fc", "mlp.c_proj"),
        },
    };

    public override FamilyKind Family => Kind;

    public override long VocabularySize => config.VocabSize;

    public override long? MaxPositions => config.MaxPositionEmbeddings;

    public override IReadOnlyList<int> EosIds => config.EosTokenIds;

    public override int PadId => config.PadTokenId;

    public override Layer Build(int index, WeightSource weights) =>
        index == 0 ? new GptNeoEmbedding(config, weights)
        : index == LayerNames.Count - 1 ? new GptNeoHead(config, weights)
        : new GptNeoBlock(config, index - 1, LayerNames[index], weights);

    /// <summary>The published initializer_range.</summary>
    public override double InitialStd(string name, long[] shape) => 0.02;
}

internal sealed class GptNeoEmbedding(GptNeoConfig config, WeightSource weights) : Layer
{
    private readonly Tensor wte = weights.Embedding("transformer.wte.weight", config.VocabSize, config.HiddenSize, "lm_head.weight");
    private readonly Tensor wpe = weights.Embedding("transformer.wpe.weight", config.MaxPositionEmbeddings, config.HiddenSize);

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var ids = pass.Input.InputIds; // [B, T]
        return activations with { Hidden = Layers.Embed(wte, ids).Plus(Layers.Embed(wpe, pass.DecoderPositions(ids.shape[1]))) };
    }
}

internal sealed class GptNeoAttention(GptNeoConfig config, bool isLocal, string name, WeightSource weights)
{
    private readonly EditableLinear q_proj = Project(config, name + ".q_proj.weight", weights);
    private readonly EditableLinear k_proj = Project(config, name + ".k_proj.weight", weights);
    private readonly EditableLinear v_proj = Project(config, name + ".v_proj.weight", weights);

    private readonly EditableLinear out_proj = new(name + ".out_proj.weight",
        weights.Linear(name + ".out_proj.weight", config.HiddenSize, config.HiddenSize),
        weights.Bias(name + ".out_proj.bias", config.HiddenSize));

    public IReadOnlyList<EditableLinear> Linears => [q_proj, k_proj, v_proj, out_proj];

    public Tensor Forward(Tensor x, ForwardContext pass)
    {
        var q = Layers.SplitHeads(q_proj.Forward(x, pass), config.NumHeads); // [B, H, T, D]
        var k = Layers.SplitHeads(k_proj.Forward(x, pass), config.NumHeads);
        var v = Layers.SplitHeads(v_proj.Forward(x, pass), config.NumHeads);
        if (pass.Cache is { } cache)
            (k, v) = cache.Append(name, k, v); // [B, H, S, D], S = cached + T
        var bias = pass.CausalBias(x.shape[1], k.shape[2], isLocal ? config.WindowSize : null);
        return out_proj.Forward(Layers.MergeHeads(Layers.Attention(q, k, v, bias, 1.0)), pass);
    }

    private static EditableLinear Project(GptNeoConfig config, string name, WeightSource weights) =>
        new(name, weights.Linear(name, config.HiddenSize, config.HiddenSize), null);
}

internal sealed class GptNeoMlp(GptNeoConfig config, string name, WeightSource weights)
{
    private readonly EditableLinear c_fc = new(name + ".c_fc.weight",
        weights.Linear(name + ".c_fc.weight", config.IntermediateSize, config.HiddenSize),
        weights.Bias(name + ".c_fc.bias", config.IntermediateSize));

    private readonly EditableLinear c_proj = new(name + ".c_proj.weight",
        weights.Linear(name + ".c_proj.weight", config.HiddenSize, config.IntermediateSize),
        weights.Bias(name + ".c_proj.bias", config.HiddenSize));

    private readonly Func<Tensor, Tensor> act = Layers.Activation(config.ActivationFunction, config.File);

    public IReadOnlyList<EditableLinear> Linears => [c_fc, c_proj];

    public Tensor Forward(Tensor x, ForwardContext pass) => c_proj.Forward(act(c_fc.Forward(x, pass)), pass);
}

internal sealed class GptNeoBlock(GptNeoConfig config, int block, string name, WeightSource weights) : Layer
{
    private readonly Tensor ln_1_weight = weights.Norm(name + ".ln_1.weight", config.HiddenSize);
    private readonly Tensor ln_1_bias = weights.Norm(name + ".ln_1.bias", config.HiddenSize);
    private readonly GptNeoAttention attn = new(config, config.IsLocal[block], name + ".attn.attention", weights);
    private readonly Tensor ln_2_weight = weights.Norm(name + ".ln_2.weight", config.HiddenSize);
    private readonly Tensor ln_2_bias = weights.Norm(name + ".ln_2.bias", config.HiddenSize);
    private readonly GptNeoMlp mlp = new(config, name + ".mlp", weights);

    public override IReadOnlyList<EditableLinear> Linears => [.. attn.Linears, .. mlp.Linears];

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var x = activations.Hidden!; // [B, T, C]
        x = x.Plus(attn.Forward(Layers.LayerNorm(x, ln_1_weight, ln_1_bias, config.LayerNormEpsilon), pass));
        x = x.Plus(mlp.Forward(Layers.LayerNorm(x, ln_2_weight, ln_2_bias, config.LayerNormEpsilon), pass));
        return activations with { Hidden = x };
    }
}

internal sealed class GptNeoHead(GptNeoConfig config, WeightSource weights) : Head
{
    private readonly Tensor ln_f_weight = weights.Norm("transformer.ln_f.weight", config.HiddenSize);
    private readonly Tensor ln_f_bias = weights.Norm("transformer.ln_f.bias", config.HiddenSize);
    private readonly Tensor wte = weights.Embedding("transformer.wte.weight", config.VocabSize, config.HiddenSize, "lm_head.weight");

    public override Activations Forward(Activations activations, ForwardContext pass) =>
        activations with { Hidden = Layers.LayerNorm(activations.Hidden!, ln_f_weight, ln_f_bias, config.LayerNormEpsilon) };

    public override Tensor Logits(Tensor hidden) => Layers.Linear(hidden, wte);
}
