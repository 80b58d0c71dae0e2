using System.Text.Json.Nodes;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Recipes;

/// <summary>Shape of a small T5 (version 1.1) that is trained here from scratch to answer questions, and how it is trained.</summary>
public sealed record SmallT5Options
{
    /// <summary>Tokens of the byte-level encoding that is learned from the questions and answers.</summary>
    public int Vocabulary { get; init; } = 1024;

    public int DModel { get; init; } = 128;

    public int DFf { get; init; } = 256;

    public int DKv { get; init; } = 32;

    public int NumHeads { get; init; } = 4;

    public int NumLayers { get; init; } = 3;

    public int NumDecoderLayers { get; init; } = 2;

    /// <summary>Questions of a step.</summary>
    public int BatchSize { get; init; } = 64;

    public PretrainingOptions Training { get; init; } = new();

    /// <summary>Writes the weights as bfloat16: half the file, and what is read back is what was measured.</summary>
    public bool StoreBFloat16 { get; init; }

    /// <summary>Training ends early when this fraction of the questions is answered exactly.</summary>
    public double Goal { get; init; } = 1;

    public ulong Seed { get; init; }
}

/// <summary>How far pretraining is.</summary>
/// <param name="Loss">Mean since the last report.</param>
/// <param name="ExactMatch">Of a sample of the questions, at the last look.</param>
public sealed record PretrainingProgress(long Step, long Steps, double Loss, double ExactMatch);

/// <summary>Makes a model that knows the answers to given questions, so that there is something to edit.</summary>
public static class SmallT5
{
    private const string Pad = "<pad>", End = "</s>", Unknown = "<unk>";
    private const int SampleSize = 512, LookEvery = 250, ScoredAtOnce = 128;

    /// <summary>Trains tokenizer and model and writes them as a Hugging Face directory.</summary>
    /// <returns>Fraction of all questions that the saved model answers exactly.</returns>
    public static double Train(string directory, IReadOnlyList<QaPair> pairs, SmallT5Options options,
        Action<PretrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        Directory.CreateDirectory(directory);
        BytePairTrainer.Train(pairs.SelectMany(pair => new[] { pair.Question, pair.Answer }), options.Vocabulary, [Pad, End, Unknown])
            .Save(directory, End);
        var tokenizer = TokenizerFiles.Load(directory);
        var config = Config(options, tokenizer.VocabularySize);
        File.WriteAllText(Path.Combine(directory, "config.json"), config);

        var family = ModelFamily.FromDirectory(directory);
        using var stage = Stage.LoadWhole(family, new RandomWeights((long)options.Seed, ScalarType.Float32, family.InitialStd));
        var text = new TextBatch(family, tokenizer);
        var sample = Prng.At(options.Seed, ulong.MaxValue).Shuffle(Enumerable.Range(0, pairs.Count)).Take(SampleSize).Select(i => pairs[i]).ToList();
        var order = new EditSampler(options.Seed, pairs.Count, 0, sameRows: false, Math.Min(options.BatchSize, pairs.Count), 0);
        var known = 0.0;
        new Pretraining(stage, options.Training, step => text.Of([.. order.At(step).Edits.Select(i => (pairs[i].Question, pairs[i].Answer))])).Run(
            (step, steps, loss) => progress?.Invoke(new(step, steps, loss, known)),
            step => step % LookEvery == 0 && (known = ExactMatch(stage, text, sample)) >= options.Goal && ExactMatch(stage, text, pairs) >= options.Goal,
            cancellation);

        Save(stage, Path.Combine(directory, "model.safetensors"), options.StoreBFloat16 ? ScalarType.BFloat16 : ScalarType.Float32);
        return ExactMatch(stage, text, pairs);
    }

    /// <summary>Writes the weights, and rounds those in memory to what was written.</summary>
    private static void Save(Stage stage, string path, ScalarType dtype)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var stored = stage.Weights.Loaded.ToDictionary(weight => weight.Key, weight => weight.Value.AsStored().to_type(dtype));
        SafetensorsWriter.Write(path, stored.Select(weight => TensorBytes.ToWrite(weight.Key, weight.Value)), new Dictionary<string, string> { ["format"] = "pt" });
        foreach (var (name, weight) in stage.Weights.Loaded)
            weight.Value.copy_(weight.IsTransposed ? stored[name].t() : stored[name]);
    }

    /// <summary>Fraction of the questions that are answered exactly.</summary>
    public static double ExactMatch(Stage stage, TextBatch text, IReadOnlyList<QaPair> pairs) =>
        Pretraining.ExactMatch(stage, pairs.Chunk(ScoredAtOnce).Select(chunk => text.Of([.. chunk.Select(pair => (pair.Question, pair.Answer))])));

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
