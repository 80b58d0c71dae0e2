// BART (Lewis et al., 2020): encoder-decoder, learned positions, post-norm blocks, biases everywhere, head tied to the embedding.
// Names are the checkpoint's (transformers BartForConditionalGeneration). Traps: position t reads row t + 2 of the table; a norm follows
// each embedding (layernorm_embedding), none ends a stack; scale_embedding multiplies tokens, not positions, by sqrt(C);
// final_logits_bias is a buffer that some checkpoints lack. The decoder starts with </s>, and its answer is "y </s>", as in the paper's
// question answering model; where config.json sets forced_bos_token_id (later checkpoints) it is "<s> y </s>", <s> being given, not scored.
// B batch, S source tokens, T decoder tokens, C hidden size, H heads, D head size, V vocabulary.

using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>The keys of config.json that change what BART computes.</summary>
/// <param name="ForcedBosTokenId">Follows the decoder's start in every answer; null: the answer's first word does.</param>
public sealed record BartConfig(
    string File, int VocabSize, int MaxPositionEmbeddings, int DModel, int EncoderLayers, int DecoderLayers, int EncoderFfnDim,
    int DecoderFfnDim,
    int EncoderAttentionHeads, int DecoderAttentionHeads, string ActivationFunction, bool ScaleEmbedding, double InitStd,
    int PadTokenId, IReadOnlyList<int> EosTokenIds, int DecoderStartTokenId, int? ForcedBosTokenId)
{
    public static BartConfig From(ConfigFile config)
    {
        config = config.WithAliases(("hidden_size", "d_model"), ("num_attention_heads", "encoder_attention_heads"),
            ("num_hidden_layers", "encoder_layers"));
        config.Require("is_encoder_decoder", true);
        config.Require("tie_word_embeddings", true);
        config.Require("is_decoder", false);
        config.Require("normalize_before", false);
        config.Require("normalize_embedding", true);
        config.Require("add_final_layer_norm", false);
        config.Require("static_position_embeddings", false);
        config.Require("do_blenderbot_90_layernorm", false);
        config.Require("add_bias_logits", false);
        if (config.Size("extra_pos_embeddings", BartEmbedding.Offset) is var offset and not BartEmbedding.Offset)
            throw Fault.Model(config.File, "extra_pos_embeddings",
                $"is {offset}, which is not supported (only {BartEmbedding.Offset})");
        var (width, vocab) = (config.Size("d_model"), config.Size("vocab_size"));
        // The older name of the setting, which says that <s> is the token.
        int? forced = config.Value("forced_bos_token_id") is not null ? config.IdBelow("forced_bos_token_id", vocab, 0)
            : config.Bool("force_bos_token_to_be_generated", false) ? config.IdBelow("bos_token_id", vocab, 0) : null;
        return new(config.File, vocab, config.Size("max_position_embeddings", 1024), width, config.Size("encoder_layers"),
            config.Size("decoder_layers"), config.Size("encoder_ffn_dim"), config.Size("decoder_ffn_dim"), Heads("encoder_attention_heads"),
            Heads("decoder_attention_heads"), config.Activation("activation_function", "gelu"), config.Bool("scale_embedding", false),
            config.Double("init_std", 0.02), config.PadId(vocab, 1), config.Ids("eos_token_id", 2),
                config.IdBelow("decoder_start_token_id", vocab, 2), forced);

        int Heads(string key) => width % config.Size(key) == 0 ? config.Size(key)
            : throw Fault.Model(config.File, key, $"{config.Size(key)} does not divide d_model {width}");
    }
}

public sealed class Bart(BartConfig config) : ModelFamily
{
    /// <summary>The family's row in <see cref="FamilyRegistry"/>.</summary>
    public static FamilyKind Kind { get; } = new("bart", config => new Bart(BartConfig.From(config)))
    {
        HeadModelPrefixes = ["model."],
        DownProjection = "\\.fc2",
        Published = new Dictionary<string, IReadOnlyList<string>>
        {
            ["bart-base"] =
            [
                .. FamilyKind.Weights("model.encoder.layers", [4, 5], "fc1", "fc2"),
                .. FamilyKind.Weights("model.decoder.layers", [4, 5], "fc1", "fc2"),
            ],
        },
    };

    /// <summary>The other names of the embedding, which is also the head.</summary>
    internal static readonly string[] SharedCopies =
        ["model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight"];

    public override FamilyKind Family => Kind;

    public override bool IsEncoderDecoder => true;

    public override bool ShiftsLabels => true;

    public override long VocabularySize => config.VocabSize;

    public override string WordEmbeddings => "model.shared.weight";

    public override long? MaxPositions => config.MaxPositionEmbeddings;

    public override IReadOnlyList<int> EosIds => config.EosTokenIds;

    public override int PadId => config.PadTokenId;

    public override int? DecoderStartId => config.DecoderStartTokenId;

    public override int? ForcedFirstId => config.ForcedBosTokenId;

    public override IReadOnlyList<string> LayerNames { get; } =
    [
        "model.encoder.embed_tokens", .. Enumerable.Range(0, config.EncoderLayers).Select(i => $"model.encoder.layers.{i}"),
        "model.decoder.embed_tokens", .. Enumerable.Range(0, config.DecoderLayers).Select(i => $"model.decoder.layers.{i}"), "lm_head",
    ];

    /// <summary>fc1 and fc2 of the last two blocks of each stack, encoder first.</summary>
    public override IReadOnlyList<string> DefaultEditableWeights { get; } =
        [.. LastTwo("encoder", config.EncoderLayers), .. LastTwo("decoder", config.DecoderLayers)];

    public override Layer Build(int index, WeightSource weights)
    {
        var name = LayerNames[index];
        return name switch
        {
            "model.encoder.embed_tokens" => new BartEmbedding(config, weights, isDecoder: false),
            "model.decoder.embed_tokens" => new BartEmbedding(config, weights, isDecoder: true),
            "lm_head" => new BartHead(config, weights),
            _ when index <= config.EncoderLayers => new BartEncoderBlock(config, name, weights, isLast: index == config.EncoderLayers),
            _ => new BartDecoderBlock(config, name, weights),
        };
    }

    public override double InitialStd(string name, long[] shape) => name == BartHead.Bias ? 0 : config.InitStd;

    private static IEnumerable<string> LastTwo(string stack, int blocks) =>
        from i in Enumerable.Range(Math.Max(0, blocks - 2), Math.Min(2, blocks))
        from matrix in new[] { "fc1", "fc2" }
        select $"model.{stack}.layers.{i}.{matrix}.weight";
}

internal sealed class BartNorm(string name, int width, WeightSource weights)
{
    private readonly Tensor weight = weights.Norm(name + ".weight", width);
    private readonly Tensor bias = weights.Norm(name + ".bias", width);

    public Tensor Forward(Tensor x) => Layers.LayerNorm(x, weight, bias, 1e-5);
}

internal sealed class BartEmbedding(BartConfig config, WeightSource weights, bool isDecoder) : Layer
{
    /// <summary>Positions count from here: the first rows of the published tables belonged to padding.</summary>
    public const int Offset = 2;

    private readonly string name = isDecoder ? "model.decoder" : "model.encoder";
    private readonly Tensor shared = weights.Embedding("model.shared.weight", config.VocabSize, config.DModel, Bart.SharedCopies);

    private readonly Tensor embed_positions =
        weights.Embedding($"model.{(isDecoder ? "decoder" : "encoder")}.embed_positions.weight", config.MaxPositionEmbeddings + Offset,
        config.DModel);

    private readonly BartNorm layernorm_embedding =
        new($"model.{(isDecoder ? "decoder" : "encoder")}.layernorm_embedding", config.DModel, weights);

    public override bool IsEncoder => !isDecoder;

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var ids = isDecoder ? pass.Input.DecoderInputIds! : pass.Input.InputIds; // [B, T]
        var tokens = Layers.Embed(shared, ids).Times(config.ScaleEmbedding ? Math.Sqrt(config.DModel) : 1.0);
        var places = isDecoder ? pass.DecoderPositions(ids.shape[1])
            : NewTensor.Arange(0, ids.shape[1], device: CPU).unsqueeze(0); // [B or 1, T]
        var positions = Layers.Embed(embed_positions, places.Plus(Offset));
        return activations with { Hidden = layernorm_embedding.Forward(tokens.Plus(positions)) };
    }
}

internal sealed class BartAttention(BartConfig config, int heads, string name, WeightSource weights)
{
    private readonly EditableLinear q_proj = weights.Editable(name + ".q_proj", config.DModel, config.DModel);
    private readonly EditableLinear k_proj = weights.Editable(name + ".k_proj", config.DModel, config.DModel);
    private readonly EditableLinear v_proj = weights.Editable(name + ".v_proj", config.DModel, config.DModel);
    private readonly EditableLinear out_proj = weights.Editable(name + ".out_proj", config.DModel, config.DModel);

    public IReadOnlyList<EditableLinear> Linears => [q_proj, k_proj, v_proj, out_proj];

    /// <param name="x">[B, S, C].</param>
    public Tensor OverSource(Tensor x, ForwardContext pass) =>
        Attend(x, Heads(k_proj, x, pass), Heads(v_proj, x, pass), pass.SourceBias, pass);

    /// <param name="x">[B, T, C]; with a cache, the earlier keys and values are put before this pass's.</param>
    public Tensor OverSelf(Tensor x, ForwardContext pass)
    {
        var (key, value) = (Heads(k_proj, x, pass), Heads(v_proj, x, pass)); // [B, H, T, D]
        if (pass.Cache is { } cache)
            (key, value) = cache.Append(name, key, value);
        return Attend(x, key, value, pass.CausalBias(x.shape[1], key.shape[2]), pass);
    }

    /// <param name="x">[B, T, C].</param>
    /// <param name="memory">[B, S, C]; read only when its keys and values are not cached.</param>
    public Tensor OverMemory(Tensor x, Tensor? memory, ForwardContext pass)
    {
        (Tensor, Tensor) Make() => (Heads(k_proj, memory!, pass), Heads(v_proj, memory!, pass));
        var (key, value) = pass.Cache is { } cache ? cache.GetOrAdd(name, Make) : Make();
        return Attend(x, key, value, pass.SourceBias, pass);
    }

    private Tensor Heads(EditableLinear projection, Tensor x, ForwardContext pass) => Layers.SplitHeads(projection.Forward(x, pass), heads);

    private Tensor Attend(Tensor x, Tensor key, Tensor value, Tensor bias, ForwardContext pass)
    {
        var query = Heads(q_proj, x, pass);
        return out_proj.Forward(Layers.MergeHeads(Layers.Attention(query, key, value, bias, 1.0 / Math.Sqrt(query.shape[3]))), pass);
    }
}

internal sealed class BartFeedForward(BartConfig config, int width, string name, WeightSource weights)
{
    private readonly EditableLinear fc1 = weights.Editable(name + ".fc1", width, config.DModel);
    private readonly EditableLinear fc2 = weights.Editable(name + ".fc2", config.DModel, width);
    private readonly Func<Tensor, Tensor> act = Layers.Activation(config.ActivationFunction, config.File);

    public IReadOnlyList<EditableLinear> Linears => [fc1, fc2];

    public Tensor Forward(Tensor x, ForwardContext pass) => fc2.Forward(act(fc1.Forward(x, pass)), pass);
}

internal sealed class BartEncoderBlock(BartConfig config, string name, WeightSource weights, bool isLast) : Layer
{
    private readonly BartAttention self_attn = new(config, config.EncoderAttentionHeads, name + ".self_attn", weights);
    private readonly BartNorm self_attn_layer_norm = new(name + ".self_attn_layer_norm", config.DModel, weights);
    private readonly BartFeedForward feedForward = new(config, config.EncoderFfnDim, name, weights);
    private readonly BartNorm final_layer_norm = new(name + ".final_layer_norm", config.DModel, weights);

    public override bool IsEncoder => true;

    public override IReadOnlyList<EditableLinear> Linears => [.. self_attn.Linears, .. feedForward.Linears];

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var x = activations.Hidden!; // [B, S, C]
        x = self_attn_layer_norm.Forward(x.Plus(self_attn.OverSource(x, pass)));
        x = final_layer_norm.Forward(x.Plus(feedForward.Forward(x, pass)));
        return isLast ? new(null, x) : activations with { Hidden = x }; // the last block's output is the memory: no norm ends the stack
    }
}

internal sealed class BartDecoderBlock(BartConfig config, string name, WeightSource weights) : Layer
{
    private readonly BartAttention self_attn = new(config, config.DecoderAttentionHeads, name + ".self_attn", weights);
    private readonly BartNorm self_attn_layer_norm = new(name + ".self_attn_layer_norm", config.DModel, weights);
    private readonly BartAttention encoder_attn = new(config, config.DecoderAttentionHeads, name + ".encoder_attn", weights);
    private readonly BartNorm encoder_attn_layer_norm = new(name + ".encoder_attn_layer_norm", config.DModel, weights);
    private readonly BartFeedForward feedForward = new(config, config.DecoderFfnDim, name, weights);
    private readonly BartNorm final_layer_norm = new(name + ".final_layer_norm", config.DModel, weights);

    public override IReadOnlyList<EditableLinear> Linears => [.. self_attn.Linears, .. encoder_attn.Linears, .. feedForward.Linears];

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var x = activations.Hidden!; // [B, T, C]
        x = self_attn_layer_norm.Forward(x.Plus(self_attn.OverSelf(x, pass)));
        x = encoder_attn_layer_norm.Forward(x.Plus(encoder_attn.OverMemory(x, activations.Memory, pass)));
        x = final_layer_norm.Forward(x.Plus(feedForward.Forward(x, pass)));
        return activations with { Hidden = x };
    }
}

internal sealed class BartHead(BartConfig config, WeightSource weights) : Head
{
    public const string Bias = "final_logits_bias";

    private readonly Tensor shared = weights.Embedding("model.shared.weight", config.VocabSize, config.DModel, Bart.SharedCopies);
    private readonly Tensor? final_logits_bias = weights.Has(Bias) ? weights.Table(Bias, 1, config.VocabSize) : null; // [1, V]

    public override Activations Forward(Activations activations, ForwardContext pass) => activations;

    public override Tensor Logits(Tensor hidden)
    {
        var logits = Layers.Linear(hidden, shared);
        return final_logits_bias is null ? logits : logits.Plus(final_logits_bias);
    }
}
