// BERT (Devlin et al., 2019) as a classifier of a text: encoder, learned positions, post-norm blocks, a pooler over [CLS], a linear map.
// Two published forms, told apart by config.json's "architectures":
// - transformers' BertForSequenceClassification: weights bert.*, one logit a class.
// - the paper's fact checker (De Cao et al., 2021), and anything else: weights model.*, one logit s; class 1 has probability sigmoid(s).
//   Here its logits are [0, s]: softmax, likelihood and KL over these two are the sigmoid's, so no loss or metric knows of it.
// Traps: only [CLS] reaches the pooler, so the last block's other rows carry no gradient; every token has type 0 (one text, no pair);
// old checkpoints call a norm's weight and bias gamma and beta (see CheckpointWeights).
// B batch, T tokens, C hidden size, H heads, D head size.

using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>The keys of config.json that change what BERT computes.</summary>
/// <param name="HasLogitPerClass">One logit a class; otherwise one for two classes.</param>
/// <param name="Labels">Names of the classes.</param>
public sealed record BertConfig(
    string File, int VocabSize, int HiddenSize, int NumHiddenLayers, int NumAttentionHeads, int IntermediateSize, string HiddenAct,
    int MaxPositionEmbeddings, int TypeVocabSize, double LayerNormEps, double InitializerRange, int PadTokenId,
    bool HasLogitPerClass, IReadOnlyList<string> Labels)
{
    public static BertConfig From(ConfigFile config)
    {
        config.Require("is_encoder_decoder", false);
        config.Require("is_decoder", false);
        config.Require("position_embedding_type", "absolute");
        config.Require("problem_type", "single_label_classification");
        var (width, heads) = (config.Size("hidden_size"), config.Size("num_attention_heads"));
        if (width % heads != 0)
            throw Fault.Model(config.File, "num_attention_heads", $"{heads} does not divide hidden_size {width}");
        var perClass = config.Strings("architectures").Contains("BertForSequenceClassification");
        return new(config.File, config.Size("vocab_size"), width, config.Size("num_hidden_layers"), heads, config.Size("intermediate_size"),
            config.Activation("hidden_act", "gelu"), config.Size("max_position_embeddings"), config.Size("type_vocab_size", 2),
            config.Double("layer_norm_eps", 1e-12), config.Double("initializer_range", 0.02), config.PadId(config.Size("vocab_size"), 0),
            perClass, LabelsOf(config, perClass));
    }

    /// <summary>id2label, where it says more than LABEL_0, LABEL_1; else false and true for two classes.</summary>
    private static IReadOnlyList<string> LabelsOf(ConfigFile config, bool perClass)
    {
        var names = config.Names("id2label");
        var count = !perClass ? 2 : names.Count > 0 ? names.Count : config.Size("num_labels", 2);
        if (count < 2)
            throw Fault.Model(config.File, "id2label", "has one class, which is a regression; a classifier has two or more");
        if (names.Count > 0 && names.Count != count)
            throw Fault.Model(config.File, "id2label", $"names {names.Count} classes, this classifier has {count}");
        if (names.Distinct(StringComparer.OrdinalIgnoreCase).Count() != names.Count)
            throw Fault.Model(config.File, "id2label", $"gives two classes one name: {string.Join(", ", names)}");
        var says = names.Where((name, i) => name != $"LABEL_{i}").Any();
        return says ? names : count == 2 ? ["false", "true"] : [.. Enumerable.Range(0, count).Select(i => $"LABEL_{i}")];
    }
}

public sealed class Bert(BertConfig config) : ModelFamily
{
    /// <summary>The family's row in <see cref="FamilyRegistry"/>.</summary>
    public static FamilyKind Kind { get; } = new("bert", config => new Bert(BertConfig.From(config)))
    {
        HeadModelPrefixes = ["model.", "bert."],
        DownProjection = "layer\\.\\d+\\.output\\.dense",
        Published = new Dictionary<string, IReadOnlyList<string>>
        {
            ["bert-base"] = FamilyKind.Weights("model.encoder.layer", [9, 10, 11], "intermediate.dense", "output.dense"),
        },
    };

    private readonly string _prefix = Prefix(config);

    public override FamilyKind Family => Kind;

    public override bool IsEncoderDecoder => false;

    public override bool ShiftsLabels => false;

    public override long VocabularySize => config.VocabSize;

    public override string WordEmbeddings => _prefix + ".embeddings.word_embeddings.weight";

    public override long? MaxPositions => config.MaxPositionEmbeddings;

    /// <summary>None: a classifier writes no text.</summary>
    public override IReadOnlyList<int> EosIds => [];

    public override int PadId => config.PadTokenId;

    public override int? DecoderStartId => null;

    public override IReadOnlyList<string> Labels => config.Labels;

    public override IReadOnlyList<string> LayerNames { get; } =
        [Prefix(config) + ".embeddings", .. Enumerable.Range(0, config.NumHiddenLayers).Select(i => $"{Prefix(config)}.encoder.layer.{i}"),
        "classifier"];

    /// <summary>Both feed-forward matrices of the last three blocks.</summary>
    public override IReadOnlyList<string> DefaultEditableWeights { get; } =
        [.. Enumerable.Range(Math.Max(0, config.NumHiddenLayers - 3), Math.Min(3, config.NumHiddenLayers))
            .SelectMany(i => new[] { "intermediate", "output" }.Select(part => $"{Prefix(config)}.encoder.layer.{i}.{part}.dense.weight"))];

    public override Layer Build(int index, WeightSource weights) =>
        index == 0 ? new BertEmbeddings(config, LayerNames[index], weights)
        : index == LayerNames.Count - 1 ? new BertClassifier(config, _prefix, weights)
        : new BertBlock(config, LayerNames[index], weights);

    public override double InitialStd(string name, long[] shape) => config.InitializerRange;

    private static string Prefix(BertConfig config) => config.HasLogitPerClass ? "bert" : "model";
}

internal sealed class BertNorm(BertConfig config, string name, WeightSource weights)
{
    private readonly Tensor weight = weights.Norm(name + ".weight", config.HiddenSize);
    private readonly Tensor bias = weights.Norm(name + ".bias", config.HiddenSize);

    public Tensor Forward(Tensor x) => Layers.LayerNorm(x, weight, bias, config.LayerNormEps);
}

internal sealed class BertEmbeddings(BertConfig config, string name, WeightSource weights) : Layer
{
    private readonly Tensor word_embeddings = weights.Embedding(name + ".word_embeddings.weight", config.VocabSize, config.HiddenSize);
    private readonly Tensor position_embeddings =
        weights.Embedding(name + ".position_embeddings.weight", config.MaxPositionEmbeddings, config.HiddenSize);
    private readonly Tensor token_type_embeddings =
        weights.Embedding(name + ".token_type_embeddings.weight", config.TypeVocabSize, config.HiddenSize);
    private readonly BertNorm LayerNorm = new(config, name + ".LayerNorm", weights);

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var ids = pass.Input.InputIds; // [B, T]
        var positions = position_embeddings.narrow(0, 0, ids.shape[1]).to_type(ScalarType.Float32);  // [T, C]
        var type = token_type_embeddings.select(0, 0).to_type(ScalarType.Float32);                  // [C]
        return activations with { Hidden = LayerNorm.Forward(Layers.Embed(word_embeddings, ids).Plus(type).Plus(positions)) };
    }
}

internal sealed class BertAttention(BertConfig config, string name, WeightSource weights)
{
    private readonly EditableLinear query = weights.Editable(name + ".self.query", config.HiddenSize, config.HiddenSize);
    private readonly EditableLinear key = weights.Editable(name + ".self.key", config.HiddenSize, config.HiddenSize);
    private readonly EditableLinear value = weights.Editable(name + ".self.value", config.HiddenSize, config.HiddenSize);
    private readonly EditableLinear dense = weights.Editable(name + ".output.dense", config.HiddenSize, config.HiddenSize);
    private readonly BertNorm LayerNorm = new(config, name + ".output.LayerNorm", weights);

    public IReadOnlyList<EditableLinear> Linears => [query, key, value, dense];

    public Tensor Forward(Tensor x, ForwardContext pass)
    {
        Tensor Heads(EditableLinear projection) => Layers.SplitHeads(projection.Forward(x, pass), config.NumAttentionHeads); // [B, H, T, D]
        var (q, k, v) = (Heads(query), Heads(key), Heads(value));
        var attended = Layers.MergeHeads(Layers.Attention(q, k, v, pass.SourceBias, 1.0 / Math.Sqrt(q.shape[3])));
        return LayerNorm.Forward(x.Plus(dense.Forward(attended, pass)));
    }
}

internal sealed class BertBlock(BertConfig config, string name, WeightSource weights) : Layer
{
    private readonly BertAttention attention = new(config, name + ".attention", weights);
    private readonly EditableLinear intermediate =
        weights.Editable(name + ".intermediate.dense", config.IntermediateSize, config.HiddenSize);
    private readonly EditableLinear output = weights.Editable(name + ".output.dense", config.HiddenSize, config.IntermediateSize);
    private readonly BertNorm LayerNorm = new(config, name + ".output.LayerNorm", weights);
    private readonly Func<Tensor, Tensor> act = Layers.Activation(config.HiddenAct, config.File);

    public override IReadOnlyList<EditableLinear> Linears => [.. attention.Linears, intermediate, output];

    public override Activations Forward(Activations activations, ForwardContext pass)
    {
        var x = attention.Forward(activations.Hidden!, pass); // [B, T, C]
        return activations with { Hidden = LayerNorm.Forward(x.Plus(output.Forward(act(intermediate.Forward(x, pass)), pass))) };
    }
}

/// <summary>The pooler, then a logit for each class. One row an example: the head's input is [B, 1, C].</summary>
internal sealed class BertClassifier(BertConfig config, string prefix, WeightSource weights) : Head
{
    private readonly EditableLinear pooler = weights.Editable(prefix + ".pooler.dense", config.HiddenSize, config.HiddenSize);
    private readonly int classes = config.HasLogitPerClass ? config.Labels.Count : 1;
    private readonly Tensor weight =
        weights.Linear("classifier.weight", config.HasLogitPerClass ? config.Labels.Count : 1, config.HiddenSize);
    private readonly Tensor bias = weights.Bias("classifier.bias", config.HasLogitPerClass ? config.Labels.Count : 1);

    public override IReadOnlyList<EditableLinear> Linears => [pooler];

    public override Activations Forward(Activations activations, ForwardContext pass) =>
        activations with { Hidden = pooler.Forward(activations.Hidden!.narrow(1, 0, 1), pass).tanh() };

    public override Tensor Logits(Tensor hidden)
    {
        var logits = Layers.Linear(hidden, weight, bias); // [N, classes]
        return classes > 1 ? logits : cat([zeros_like(logits), logits], 1);
    }
}
