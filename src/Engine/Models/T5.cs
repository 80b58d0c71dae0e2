// T5 (Raffel et al., 2020), versions 1.0 and 1.1: encoder-decoder, relative position bias, RMS norm, no biases.
// Names are the checkpoint's (transformers T5ForConditionalGeneration). Traps: scores are not scaled; the bias table lives in block 0 of
// each stack and serves all of its blocks; v1.0 ties the head to the embedding and scales the decoder's output by C^-0.5, v1.1 has an
// lm_head and does not; transformers 4 tells the two apart by tie_word_embeddings, transformers 5 writes tie_word_embeddings true for both
// and scale_decoder_outputs beside it; v1.1's feed-forward is gated (wi_0 is the gelu branch, the one that is edited; wi_1 is not).
// B batch, S source tokens, T decoder tokens, C hidden size, H heads, D head size, V vocabulary.

using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>The keys of config.json that change what T5 computes.</summary>
public sealed record T5Config(
    string File, int VocabSize, int DModel, int DKv, int DFf, int NumLayers, int NumDecoderLayers, int NumHeads,
    int RelativeAttentionNumBuckets, int RelativeAttentionMaxDistance, double LayerNormEpsilon, bool IsGated, string Activation,
    bool TieWordEmbeddings, bool ScaleDecoderOutputs, int PadTokenId, IReadOnlyList<int> EosTokenIds, int DecoderStartTokenId)
{
    public static T5Config From(ConfigFile config)
    {
        config = config.WithAliases(("hidden_size", "d_model"), ("num_attention_heads", "num_heads"), ("num_hidden_layers", "num_layers"),
            ("head_dim", "d_kv"));
        config.Require("is_encoder_decoder", true);
        config.Require("is_decoder", false);
        config.RequireAbsent("forced_bos_token_id", "only BART's answers begin with a given token");
        var (layers, vocab, ties) = (config.Size("num_layers"), config.Size("vocab_size"), config.Bool("tie_word_embeddings", true));
        var (isGated, activation) = FeedForward(config);
        var pad = config.PadId(vocab, 0);
        return new(config.File, vocab, config.Size("d_model"), config.Size("d_kv"), config.Size("d_ff"), layers,
            config.Size("num_decoder_layers", layers), config.Size("num_heads"), config.Size("relative_attention_num_buckets", 32),
            config.Size("relative_attention_max_distance", 128), config.Double("layer_norm_epsilon", 1e-6), isGated, activation,
            ties, config.Bool("scale_decoder_outputs", ties), pad, config.Ids("eos_token_id", 1),
                config.IdBelow("decoder_start_token_id", vocab, pad));
    }

    /// <summary>The names under which a checkpoint may keep the embedding; the head's only if it is tied.</summary>
    internal string[] SharedCopies(WeightSource weights) =>
        ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", .. HasOwnHead(weights) ? [] : new[] { "lm_head.weight" }];

    /// <summary>
    /// Whether the head is a weight of its own. Of a model whose output is not scaled transformers 5 says that it is tied, and keeps the
    /// head that the checkpoint has all the same.
    /// </summary>
    internal bool HasOwnHead(WeightSource weights) => !TieWordEmbeddings || (!ScaleDecoderOutputs && weights.Has("lm_head.weight"));

    /// <summary>"relu", "gated-gelu" and the like; "gated-gelu" means the tanh form, as in the published v1.1 code.</summary>
    private static (bool IsGated, string Activation) FeedForward(ConfigFile config)
    {
        const string key = "feed_forward_proj", gated = "gated-";
        var value = config.String(key, "relu");
        var isGated = value.StartsWith(gated, StringComparison.Ordinal);
        var activation = value == "gated-gelu" ? "gelu_new" : isGated ? value[gated.Length..] : value;
        _ = Layers.Activation(activation, config.File, key);
        config.Require("is_gated_act", isGated);
        config.Require("dense_act_fn", activation);
        return (isGated, activation);
    }
}

public sealed class T5(T5Config config) : ModelFamily
{
    /// <summary>The family's row in <see cref="FamilyRegistry"/>.</summary>
    public static FamilyKind Kind { get; } = new("t5", config => new T5(T5Config.From(config)))
    {
        DownProjection = "DenseReluDense\\.wo",
        Published = new Dictionary<string, IReadOnlyList<string>>
        {
            ["t5small"] = PublishedEdits([6, 7], "wi_0"),
            ["t5large"] = PublishedEdits([22, 23], "wi"),
            ["t5xl"] = PublishedEdits([22, 23], "wi_0"),
            ["t5xxl"] = PublishedEdits([22, 23], "wi_0"),
        },
    };

    public override FamilyKind Family => Kind;

    public override bool IsEncoderDecoder => true;

    public override bool ShiftsLabels => false;

    public override long VocabularySize => config.VocabSize;

    public override string WordEmbeddings => "shared.weight";

    public override long? MaxPositions => null;

    public override IReadOnlyList<int> EosIds => config.EosTokenIds;

    public override int PadId => config.PadTokenId;

    public override int? DecoderStartId => config.DecoderStartTokenId;

    public override IReadOnlyList<string> LayerNames { get; } =
    [
        "encoder.embed_tokens", .. Enumerable.Range(0, config.NumLayers).Select(i => $"encoder.block.{i}"), "encoder.final_layer_norm",
        "decoder.embed_tokens", .. Enumerable.Range(0, config.NumDecoderLayers).Select(i => $"decoder.block.{i}"), "lm_head",
    ];

    /// <summary>First feed-forward matrix and wo of the last two blocks of each stack, encoder first.</summary>
    public override IReadOnlyList<string> DefaultEditableWeights { get; } =
    [
        .. LastTwo(config.NumLayers).SelectMany(i => FeedForward(config, $"encoder.block.{i}.layer.1")),
        .. LastTwo(config.NumDecoderLayers).SelectMany(i => FeedForward(config, $"decoder.block.{i}.layer.2")),
    ];

    public override Layer Build(int index, WeightSource weights)
    {
        var name = LayerNames[index];
        return name switch
        {
            "encoder.embed_tokens" => new T5Embedding(config, weights, isDecoder: false),
            "decoder.embed_tokens" => new T5Embedding(config, weights, isDecoder: true),
            "encoder.final_layer_norm" => new T5EncoderNorm(config, weights),
            "lm_head" => new T5Head(config, weights),
            _ => new T5Block(config, name, weights, isDecoder: name.StartsWith("decoder", StringComparison.Ordinal)),
        };
    }

    /// <summary>
    /// The published initialisation (Mesh TensorFlow's): products keep unit variance, q also absorbs the missing 1/sqrt(D).
    /// </summary>
    public override double InitialStd(string name, long[] shape) => name switch
    {
        "shared.weight" => 1.0,
        "lm_head.weight" => 1.0 / Math.Sqrt(config.DModel),
        _ when name.EndsWith(".q.weight", StringComparison.Ordinal) => 1.0 / Math.Sqrt((double)config.DModel * config.DKv),
        _ when name.EndsWith("relative_attention_bias.weight", StringComparison.Ordinal) => 1.0 / Math.Sqrt(config.DModel),
        _ => 1.0 / Math.Sqrt(shape[1]), // [out, in]
    };

    private static IEnumerable<int> LastTwo(int blocks) => Enumerable.Range(Math.Max(0, blocks - 2), Math.Min(2, blocks));

    private static string[] FeedForward(T5Config config, string name) =>
        [$"{name}.DenseReluDense.{(config.IsGated ? "wi_0" : "wi")}.weight", $"{name}.DenseReluDense.wo.weight"];

    private static string[] PublishedEdits(int[] blocks, string first) =>
    [
        .. FamilyKind.Weights("encoder.block", blocks, $"layer.1.DenseReluDense.{first}", "layer.1.DenseReluDense.wo"),
        .. FamilyKind.Weights("decoder.block", blocks, $"layer.2.DenseReluDense.{first}", "layer.2.DenseReluDense.wo"),
    ];
}

internal sealed class T5Embedding(T5Config config, WeightSource weights, bool isDecoder) : Layer
{
    private readonly Tensor shared = weights.Embedding("shared.weight", config.VocabSize, config.DModel, config.SharedCopies(weights));

    public override bool IsEncoder => !isDecoder;

    public override Activations Forward(Activations activations, ForwardContext pass) =>
        activations with { Hidden = Layers.Embed(shared, isDecoder ? pass.Input.DecoderInputIds! : pass.Input.InputIds) };
}

internal sealed class T5Attention(T5Config config, string name, WeightSource weights)
{
    private readonly EditableLinear q = Project(name + ".q.weight", config.NumHeads * config.DKv, config.DModel, weights);
    private readonly EditableLinear k = Project(name + ".k.weight", config.NumHeads * config.DKv, config.DModel, weights);
    private readonly EditableLinear v = Project(name + ".v.weight", config.NumHeads * config.DKv, config.DModel, weights);
    private readonly EditableLinear o = Project(name + ".o.weight", config.DModel, config.NumHeads * config.DKv, weights);

    public IReadOnlyList<EditableLinear> Linears => [q, k, v, o];

    /// <param name="x">[B, T, C] normed hidden states.</param>
    /// <param name="bias">Of the stack.</param>
    /// <param name="pass">With a cache, the decoder's earlier keys and values are put before this pass's.</param>
    public Tensor OverSelf(Tensor x, T5PositionBias bias, ForwardContext pass, bool isDecoder)
    {
        var key = Layers.SplitHeads(k.Forward(x, pass), config.NumHeads); // [B, H, T, D]
        var value = Layers.SplitHeads(v.Forward(x, pass), config.NumHeads);
        if (isDecoder && pass.Cache is { } cache)
            (key, value) = cache.Append(name, key, value);
        return Attend(x, key, value, bias.Of(x.shape[1], key.shape[2], pass), pass);
    }

    /// <param name="x">[B, T, C] normed hidden states.</param>
    /// <param name="memory">[B, S, C]; read only when its keys and values are not cached.</param>
    public Tensor OverMemory(Tensor x, Tensor? memory, ForwardContext pass)
    {
        (Tensor, Tensor) Make() => (Layers.SplitHeads(k.Forward(memory!, pass), config.NumHeads),
            Layers.SplitHeads(v.Forward(memory!, pass), config.NumHeads));
        var (key, value) = pass.Cache is { } cache ? cache.GetOrAdd(name, Make) : Make();
        return Attend(x, key, value, pass.SourceBias, pass);
    }

    private Tensor Attend(Tensor x, Tensor key, Tensor value, Tensor bias, ForwardContext pass)
    {
        var query = Layers.SplitHeads(q.Forward(x, pass), config.NumHeads);
        return o.Forward(Layers.MergeHeads(Layers.Attention(query, key, value, bias, 1.0)), pass);
    }

    private static EditableLinear Project(string name, long outFeatures, long inFeatures, WeightSource weights) =>
        new(name, weights.Linear(name, outFeatures, inFeatures), null);
}

/// <summary>Version 1.0: wo(act(wi x)).</summary>
internal sealed class T5FeedForward(T5Config config, string name, WeightSource weights) : IT5FeedForward
{
    private readonly EditableLinear wi = new(name + ".wi.weight", weights.Linear(name + ".wi.weight", config.DFf, config.DModel), null);
    private readonly EditableLinear wo = new(name + ".wo.weight", weights.Linear(name + ".wo.weight", config.DModel, config.DFf), null);
    private readonly Func<Tensor, Tensor> act = Layers.Activation(config.Activation, config.File);

    public IReadOnlyList<EditableLinear> Linears => [wi, wo];

    public Tensor Forward(Tensor x, ForwardContext pass) => wo.Forward(act(wi.Forward(x, pass)), pass);
}

/// <summary>Version 1.1: wo(act(wi_0 x) * wi_1 x).</summary>
internal sealed class T5GatedFeedForward(T5Config config, string name, WeightSource weights) : IT5FeedForward
{
    private readonly EditableLinear wi_0 =
        new(name + ".wi_0.weight", weights.Linear(name + ".wi_0.weight", config.DFf, config.DModel), null);
    private readonly EditableLinear wi_1 =
        new(name + ".wi_1.weight", weights.Linear(name + ".wi_1.weight", config.DFf, config.DModel), null);
    private readonly EditableLinear wo = new(name + ".wo.weight", weights.Linear(name + ".wo.weight", config.DModel, config.DFf), null);
    private readonly Func<Tensor, Tensor> act = Layers.Activation(config.Activation, config.File);

    public IReadOnlyList<EditableLinear> Linears => [wi_0, wi_1, wo];

    public Tensor Forward(Tensor x, ForwardContext pass) => wo.Forward(act(wi_0.Forward(x, pass)) * wi_1.Forward(x, pass), pass);
}

internal interface IT5FeedForward
{
    IReadOnlyList<EditableLinear> Linears { get; }

    Tensor Forward(Tensor x, ForwardContext pass);
}

/// <summary>What all blocks of one stack add to their scores: the relative position bias and the masks.</summary>
internal sealed class T5PositionBias(T5Config config, WeightSource weights, bool isDecoder)
{
    private readonly string _stack = isDecoder ? "decoder" : "encoder";

    // Lives in block 0 and serves the whole stack: a stage that starts above block 0 reads this one small table too.
    private readonly Tensor table = weights.Table(
        $"{(isDecoder ? "decoder" : "encoder")}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        config.RelativeAttentionNumBuckets, config.NumHeads);

    /// <returns>[B or 1, H, T, S]; queries are the last T of S tokens.</returns>
    public Tensor Of(long T, long S, ForwardContext pass) => pass.Shared(_stack + " bias", () =>
    {
        var buckets = new long[T * S];
        for (var i = 0; i < T; i++)
            for (var j = 0; j < S; j++)
                buckets[i * S + j] = Bucket(j - (S - T + i));
        var bias = table.index_select(0, tensor(buckets, device: CPU).On(table.device)).reshape(T, S, config.NumHeads).permute(2, 0,
            1).unsqueeze(0);
        return bias.Plus(isDecoder ? pass.CausalBias(T, S) : pass.SourceBias);
    });

    /// <summary>
    /// The bucket of key position less query position: half of the buckets for exact small distances, the rest logarithmic up to the
    /// maximal distance; the encoder gives each direction half of all. Single precision, as published, decides the bucket's edges.
    /// </summary>
    private long Bucket(long relative)
    {
        long bucket = 0, buckets = config.RelativeAttentionNumBuckets;
        if (!isDecoder)
        {
            buckets /= 2;
            if (relative > 0)
                bucket = buckets;
            relative = Math.Abs(relative);
        }
        else
        {
            relative = -Math.Min(relative, 0);
        }
        var exact = buckets / 2;
        if (relative < exact)
            return bucket + relative;
        var spread = MathF.Log(relative / (float)exact) / (float)Math.Log((double)config.RelativeAttentionMaxDistance / exact);
        return bucket + Math.Min(exact + (long)(spread * (buckets - exact)), buckets - 1);
    }
}

/// <summary>
/// A block of either stack: self-attention, in the decoder also attention over the memory, feed-forward; each pre-normed.
/// </summary>
internal sealed class T5Block(T5Config config, string name, WeightSource weights, bool isDecoder) : Layer
{
    private readonly T5PositionBias positionBias = new(config, weights, isDecoder);
    private readonly Tensor selfNorm = weights.Norm($"{name}.layer.0.layer_norm.weight", config.DModel);
    private readonly T5Attention SelfAttention = new(config, $"{name}.layer.0.SelfAttention", weights);
    private readonly Tensor? crossNorm = isDecoder ? weights.Norm($"{name}.layer.1.layer_norm.weight", config.DModel) : null;
    private readonly T5Attention? EncDecAttention = isDecoder ? new(config, $"{name}.layer.1.EncDecAttention", weights) : null;
    private readonly Tensor feedForwardNorm = weights.Norm($"{name}.layer.{(isDecoder ? 2 : 1)}.layer_norm.weight", config.DModel);

    private readonly IT5FeedForward DenseReluDense = config.IsGated
        ? new T5GatedFeedForward(config, $"{name}.layer.{(isDecoder ? 2 : 1)}.DenseReluDense", weights)
        : new T5FeedForward(config, $"{name}.layer.{(isDecoder ? 2 : 1)}.DenseReluDense", weights);

    public override bool IsEncoder => !isDecoder;

    public override IReadOnlyList<EditableLinear> Linears =>
        [.. SelfAttention.Linears, .. EncDecAttention?.Linears ?? [], .. DenseReluDense.Linears];

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var x = activations.Hidden!; // [B, T, C]
        x = x.Plus(SelfAttention.OverSelf(Layers.RmsNorm(x, selfNorm, config.LayerNormEpsilon), positionBias, pass, isDecoder));
        if (EncDecAttention is not null)
            x = x.Plus(EncDecAttention.OverMemory(Layers.RmsNorm(x, crossNorm!, config.LayerNormEpsilon), activations.Memory, pass));
        x = x.Plus(DenseReluDense.Forward(Layers.RmsNorm(x, feedForwardNorm, config.LayerNormEpsilon), pass));
        return activations with { Hidden = x };
    }
}

internal sealed class T5EncoderNorm(T5Config config, WeightSource weights) : Layer
{
    private readonly Tensor final_layer_norm = weights.Norm("encoder.final_layer_norm.weight", config.DModel);

    public override bool IsEncoder => true;

    public override Activations Forward(Activations activations, ForwardContext pass) =>
        new(null, Layers.RmsNorm(activations.Hidden!, final_layer_norm, config.LayerNormEpsilon));
}

internal sealed class T5Head(T5Config config, WeightSource weights) : Head
{
    private readonly Tensor final_layer_norm = weights.Norm("decoder.final_layer_norm.weight", config.DModel);

    private readonly Tensor lm_head = config.HasOwnHead(weights)
        ? weights.Embedding("lm_head.weight", config.VocabSize, config.DModel)
        : weights.Embedding("shared.weight", config.VocabSize, config.DModel, config.SharedCopies(weights));

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var x = Layers.RmsNorm(activations.Hidden!, final_layer_norm, config.LayerNormEpsilon);
        return activations with { Hidden = config.ScaleDecoderOutputs ? x.Times(1.0 / Math.Sqrt(config.DModel)) : x };
    }

    public override Tensor Logits(Tensor hidden) => Layers.Linear(hidden, lm_head);
}
