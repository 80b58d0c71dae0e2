using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using MendCluster.Engine.Data;
using MendCluster.Engine.Tokenizers;

namespace MendCluster.Experiments;

/// <summary>Shape of a small BERT that is trained here to check claims, and how it is trained.</summary>
public sealed record SmallBertOptions : SmallModelOptions
{
    public int HiddenSize { get; init; } = 128;

    public int IntermediateSize { get; init; } = 512;

    public int NumHiddenLayers { get; init; } = 3;

    public int NumAttentionHeads { get; init; } = 4;

    public int MaxPositionEmbeddings { get; init; } = 64;

    /// <summary>
    /// Steps, before those that teach the labels, that teach which claim a text states, in whatever wording. A model that learns labels
    /// alone keeps nothing else in [CLS], and then an edit of one claim moves all claims of its label; BERT, too, has read before it is
    /// told what is true.
    /// </summary>
    public long RecognitionSteps { get; init; } = 500;
}

/// <summary>Makes a classifier that knows which of given claims are true, so that there is something to edit.</summary>
public static class SmallBert
{
    /// <summary>With a logit for each class.</summary>
    private const string Classifier = "BertForSequenceClassification";

    private static readonly string[] Specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true };

    /// <summary>Trains tokenizer and model and writes them as a Hugging Face directory.</summary>
    /// <returns>Fraction of all claims, in all wordings, that the saved model labels rightly.</returns>
    public static double Train(string directory, IReadOnlyList<KnownClaim> claims, SmallBertOptions options,
        Action<PretrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        JsonNode config;
        if (options.From is { } from)
        {
            SmallModel.Begin(directory, from, family => family.Labels is not null, "a classifier");
            config = JsonNode.Parse(File.ReadAllText(Path.Combine(directory, "config.json")))!;
            config["architectures"] = new JsonArray(Classifier);
        }
        else
        {
            Directory.CreateDirectory(directory);
            File.WriteAllLines(Path.Combine(directory, "vocab.txt"),
                Vocabulary(claims.SelectMany(claim => claim.Wordings), options.Vocabulary));
            config = Config(options, TokenizerFiles.Load(directory).VocabularySize);
        }
        var steps = options.RecognitionSteps + options.Training.Steps;

        WriteConfig(Enumerable.Range(0, claims.Count).Select(Name));
        SmallModel.Train(directory, options with { Goal = null, Training = options.Training with { Steps = options.RecognitionSteps } },
            text => [.. claims.SelectMany((claim, i) => claim.Wordings.Select(wording => text.Row(wording, Name(i))))],
            (_, _, _) => 0, hasAnswers: false, options.From, at => progress?.Invoke(at with { Steps = steps }), resumes: false,
            cancellation);

        WriteConfig([Fever.Refutes, Fever.Supports]);
        return SmallModel.Train(directory, options,
            text => [.. claims.SelectMany(claim => claim.Wordings.Select(wording => text.Row(wording, claim.Label)))],
            SmallModel.ExactMatch, hasAnswers: true, directory,
                at => progress?.Invoke(at with { Step = options.RecognitionSteps + at.Step, Steps = steps }), resumes: false, cancellation);

        void WriteConfig(IEnumerable<string> labels)
        {
            config["id2label"] = new JsonObject(labels.Select((label, i) =>
                KeyValuePair.Create(i.ToString(CultureInfo.InvariantCulture), (JsonNode?)label)));
            File.WriteAllText(Path.Combine(directory, "config.json"), config.ToJsonString(Indented) + "\n");
        }

        static string Name(int claim) => $"claim {claim}";
    }

    /// <summary>Pieces for WordPiece: every character at the start of a word and within one, then the most frequent words.</summary>
    private static IEnumerable<string> Vocabulary(IEnumerable<string> texts, int size)
    {
        var words = texts.SelectMany(text => text.ToLowerInvariant().Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries))
            .SelectMany(Parts).CountBy(word => word, StringComparer.Ordinal).ToList();
        var letters = words.SelectMany(word => word.Key).Where(letter => !char.IsSurrogate(letter)).Distinct().Order()
            .Select(letter => letter.ToString()).ToList();
        string[] pieces = [.. Specials, .. letters, .. letters.Select(letter => "##" + letter)];
        return pieces.Concat(words.Where(word => word.Key.Length > 1).OrderByDescending(word => word.Value)
            .ThenBy(word => word.Key, StringComparer.Ordinal)
            .Select(word => word.Key).Take(Math.Max(0, size - pieces.Length)));
    }

    /// <summary>A word between its punctuation marks, and those.</summary>
    private static IEnumerable<string> Parts(string word)
    {
        var start = 0;
        for (var i = 0; i < word.Length; i++)
        {
            if (char.IsLetterOrDigit(word[i]))
                continue;
            if (i > start)
                yield return word[start..i];
            yield return word[i..(i + 1)];
            start = i + 1;
        }
        if (start < word.Length)
            yield return word[start..];
    }

    /// <summary>config.json with the keys of transformers' BERT, without the labels.</summary>
    private static JsonObject Config(SmallBertOptions options, int vocabulary) => new()
    {
        ["architectures"] = new JsonArray(Classifier),
        ["model_type"] = "bert",
        ["vocab_size"] = vocabulary,
        ["hidden_size"] = options.HiddenSize,
        ["intermediate_size"] = options.IntermediateSize,
        ["num_hidden_layers"] = options.NumHiddenLayers,
        ["num_attention_heads"] = options.NumAttentionHeads,
        ["max_position_embeddings"] = options.MaxPositionEmbeddings,
        ["type_vocab_size"] = 2,
        ["hidden_act"] = "gelu",
        ["layer_norm_eps"] = 1e-12,
        ["initializer_range"] = 0.05, // of the usual 0.02 so narrow a model learns nothing for long
        ["pad_token_id"] = 0,
    };
}
