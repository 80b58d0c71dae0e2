using System.Text.Json.Nodes;
using MendCluster.Engine.Data;
using MendCluster.Engine.Tokenizers;

namespace MendCluster.Experiments;

/// <summary>Shape of a small T5 (version 1.1) that is trained here from scratch to answer questions, and how it is trained.</summary>
public sealed record SmallT5Options : SmallModelOptions
{
    public int DModel { get; init; } = 128;

    public int DFf { get; init; } = 256;

    public int DKv { get; init; } = 32;

    public int NumHeads { get; init; } = 4;

    public int NumLayers { get; init; } = 3;

    public int NumDecoderLayers { get; init; } = 2;
}

/// <summary>Makes a model that knows the answers to given questions, so that there is something to edit.</summary>
public static class SmallT5
{
    private const string Pad = "<pad>", End = "</s>", Unknown = "<unk>";

    /// <summary>Trains tokenizer and model and writes them as a Hugging Face directory.</summary>
    /// <param name="resumes">The same training, stopped and begun again in the same directory, goes on.</param>
    /// <returns>Fraction of all questions that the saved model answers exactly.</returns>
    public static double Train(string directory, IReadOnlyList<QaPair> pairs, SmallT5Options options,
        Action<PretrainingProgress>? progress = null, bool resumes = false, CancellationToken cancellation = default)
    {
        if (options.From is { } from)
            SmallModel.Begin(directory, from, family => family.Labels is null, "a model that writes text");
        else
        {
            Directory.CreateDirectory(directory);
            BytePairTrainer.Train(pairs.SelectMany(pair => new[] { pair.Question, pair.Answer }), options.Vocabulary, [Pad, End, Unknown])
                .Save(directory, End);
            File.WriteAllText(Path.Combine(directory, "config.json"), Config(options, TokenizerFiles.Load(directory).VocabularySize));
        }
        return SmallModel.Train(directory, options, text => [.. pairs.Select(pair => text.Row(pair.Question, pair.Answer))],
            SmallModel.ExactMatch, hasAnswers: true, options.From, progress, resumes, cancellation);
    }

    /// <summary>config.json with the keys of transformers' T5.</summary>
    private static string Config(SmallT5Options options, int vocabulary) => new JsonObject
    {
        ["architectures"] = new JsonArray("T5ForConditionalGeneration"),
        ["model_type"] = "t5",
        ["vocab_size"] = vocabulary,
        ["d_model"] = options.DModel,
        ["d_ff"] = options.DFf,
        ["d_kv"] = options.DKv,
        ["num_heads"] = options.NumHeads,
        ["num_layers"] = options.NumLayers,
        ["num_decoder_layers"] = options.NumDecoderLayers,
        ["feed_forward_proj"] = "gated-gelu",
        ["tie_word_embeddings"] = false,
        ["layer_norm_epsilon"] = 1e-6,
        ["relative_attention_num_buckets"] = 32,
        ["pad_token_id"] = 0,
        ["eos_token_id"] = 1,
        ["decoder_start_token_id"] = 0,
    }.ToJsonString(new() { WriteIndented = true }) + "\n";
}
