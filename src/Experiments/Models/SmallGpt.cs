using System.Text.Json.Nodes;
using MendCluster.Engine.Data;
using MendCluster.Engine.Tokenizers;

namespace MendCluster.Experiments;

/// <summary>Shape of a small GPT-2 that is trained here from scratch to continue texts, and how it is trained.</summary>
public sealed record SmallGptOptions : SmallModelOptions
{
    public int NEmbd { get; init; } = 96;

    public int NLayer { get; init; } = 4;

    public int NHead { get; init; } = 4;

    public int NPositions { get; init; } = 256;
}

/// <summary>Makes a model that writes like given texts, so that there is something to edit.</summary>
public static class SmallGpt
{
    private const string Pad = "[PAD]", End = "<|endoftext|>";

    /// <summary>Trains tokenizer and model and writes them as a Hugging Face directory.</summary>
    /// <param name="texts">To learn.</param>
    /// <param name="heldOut">To measure on.</param>
    /// <returns>Perplexity of the saved model on the held-out texts.</returns>
    public static double Train(string directory, IReadOnlyList<string> texts, IReadOnlyList<string> heldOut, SmallGptOptions options,
        Action<PretrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        if (options.From is { } from)
            SmallModel.Begin(directory, from, family => family is { Labels: null, IsEncoderDecoder: false }, "a decoder that writes text");
        else
        {
            Directory.CreateDirectory(directory);
            BytePairTrainer.Train(texts, options.Vocabulary, [Pad, End]).Save(directory, null);
            File.WriteAllText(Path.Combine(directory, "config.json"), Config(options, TokenizerFiles.Load(directory).VocabularySize));
        }
        return SmallModel.Train(directory, options, text => Rows(text, texts),
            (stage, text, _) => Pretraining.Perplexity(stage, SmallModel.Batches(text, Rows(text, heldOut))), hasAnswers: false, options.From,
            progress, resumes: false, cancellation);

        static List<TokenRow> Rows(TextBatch text, IReadOnlyList<string> texts) => [.. texts.Select(passage => text.Tokens(passage))
            .Where(ids => ids.Length > 1).Select(ids => text.Passage(ids, ids.Length))];
    }

    /// <summary>config.json with the keys of transformers' GPT-2.</summary>
    private static string Config(SmallGptOptions options, int vocabulary) => new JsonObject
    {
        ["architectures"] = new JsonArray("GPT2LMHeadModel"),
        ["model_type"] = "gpt2",
        ["vocab_size"] = vocabulary,
        ["n_embd"] = options.NEmbd,
        ["n_layer"] = options.NLayer,
        ["n_head"] = options.NHead,
        ["n_positions"] = options.NPositions,
        ["activation_function"] = "gelu_new",
        ["layer_norm_epsilon"] = 1e-5,
        ["pad_token_id"] = 0,
        ["eos_token_id"] = 1,
    }.ToJsonString(new() { WriteIndented = true }) + "\n";
}
