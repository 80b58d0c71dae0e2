using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;

namespace MendCluster.Experiments;

/// <summary>Shape of a small GPT-2 that is trained here from scratch to continue texts or to answer questions, and how it is trained.</summary>
public sealed record SmallGptOptions : SmallModelOptions
{
    public int NEmbd { get; init; } = 96;

    public int NLayer { get; init; } = 4;

    public int NHead { get; init; } = 4;

    public int NPositions { get; init; } = 256;

    /// <summary>A Hugging Face directory whose tokenizer it has, of GPT-2's kind.</summary>
    /// <value>Null: one is learned from the texts.</value>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Tokenizer { get; init; }
}

/// <summary>Makes a model that writes like given texts, or that knows the answers to given questions, so that there is something to edit.</summary>
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
        Begin(directory, texts, options);
        return SmallModel.Train(directory, options, text => Rows(text, texts),
            (stage, text, _) => Pretraining.Perplexity(stage, SmallModel.Batches(text, Rows(text, heldOut))), hasAnswers: false, options.From,
            progress, resumes: false, cancellation);

        static List<TokenRow> Rows(TextBatch text, IReadOnlyList<string> texts) => [.. texts.Select(passage => text.Tokens(passage))
            .Where(ids => ids.Length > 1).Select(ids => text.Passage(ids, ids.Length))];
    }

    /// <summary>The same for a model that writes the answer after the question, and then the end of the text.</summary>
    /// <returns>Fraction of all questions that the saved model answers exactly.</returns>
    public static double Train(string directory, IReadOnlyList<QaPair> pairs, SmallGptOptions options,
        Action<PretrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        Begin(directory, pairs.SelectMany(pair => new[] { pair.Question, " " + pair.Answer }), options);
        var end = ModelFamily.FromDirectory(directory).EosIds[0];
        return SmallModel.Train(directory, options, text => [.. pairs.Select(pair => Ended(text.Row(pair.Question, pair.Answer)))],
            SmallModel.ExactMatch, hasAnswers: true, options.From, progress, resumes: false, cancellation);

        TokenRow Ended(TokenRow row) => row with { Ids = [.. row.Ids, end], Labels = [.. row.Labels, end] };
    }

    private static void Begin(string directory, IEnumerable<string> texts, SmallGptOptions options)
    {
        if (options.From is { } from)
        {
            SmallModel.Begin(directory, from, family => family is { Labels: null, IsEncoderDecoder: false }, "a decoder that writes text");
            return;
        }
        Directory.CreateDirectory(directory);
        if (options.Tokenizer is { } given)
            SmallModel.CopyFiles(given, directory, HuggingFaceWriter.Beside.Where(file => !file.EndsWith("config.json", StringComparison.Ordinal)
                || file.StartsWith("tokenizer", StringComparison.Ordinal)));
        else
            BytePairTrainer.Train(texts, options.Vocabulary, [Pad, End]).Save(directory, null);
        var tokenizer = TokenizerFiles.Load(directory);
        var end = tokenizer.IdOf(End) ?? throw new MendException(MendError.InvalidOption, $"The tokenizer of {options.Tokenizer} has no {End}.",
            "Name one of GPT-2's kind, or none.");
        File.WriteAllText(Path.Combine(directory, "config.json"), Config(options, tokenizer.VocabularySize, tokenizer.IdOf(Pad) ?? end, end));
    }

    /// <summary>config.json with the keys of transformers' GPT-2.</summary>
    private static string Config(SmallGptOptions options, int vocabulary, int pad, int end) => new JsonObject
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
        ["pad_token_id"] = pad,
        ["eos_token_id"] = end,
    }.ToJsonString(new() { WriteIndented = true }) + "\n";
}
