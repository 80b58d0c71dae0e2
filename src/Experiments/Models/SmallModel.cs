using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Experiments;

/// <summary>How a small model is trained, whatever its family.</summary>
[JsonDerivedType(typeof(SmallT5Options)), JsonDerivedType(typeof(SmallBertOptions)), JsonDerivedType(typeof(SmallGptOptions))]
public abstract record SmallModelOptions
{
    /// <summary>A Hugging Face directory whose configuration, tokenizer and weights it begins with.</summary>
    /// <value>Null: it is trained from scratch, in the shape that the options give.</value>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? From { get; init; }

    /// <summary>Most tokens of the vocabulary that is learned from the texts.</summary>
    public int Vocabulary { get; init; } = 1024;

    /// <summary>Rows of a step.</summary>
    public int BatchSize { get; init; } = 64;

    /// <summary>
    /// The rows of so many steps are dealt out among them by their length: less of a batch is padding, and each row comes as often as before.
    /// </summary>
    /// <value>1: each step has its own, as they come.</value>
    public int StepsByLength { get; init; } = 1;

    /// <summary>
    /// The first so many rows are learned alone for <see cref="BeginSteps"/>: from few facts a model finds much sooner how to look one up,
    /// and then learns the others.
    /// </summary>
    /// <value>0: all of them are learned from the start.</value>
    public int BeginRows { get; init; }

    public long BeginSteps { get; init; }

    public PretrainingOptions Training { get; init; } = new();

    /// <summary>Of the word embeddings at the start.</summary>
    /// <value>Null: the family's own.</value>
    public double? EmbeddingStd { get; init; }

    /// <summary>Writes the weights as bfloat16: half the file, and what is read back is what was measured.</summary>
    public bool StoreBFloat16 { get; init; }

    /// <summary>Training ends early when this fraction of the rows is answered exactly.</summary>
    /// <value>Null: it never does.</value>
    public double? Goal { get; init; } = 1;

    public ulong Seed { get; init; }
}

/// <summary>How far pretraining is.</summary>
/// <param name="Loss">Mean since the last report.</param>
/// <param name="ExactMatch">Of a sample of the rows, at the last look; of texts, which have no answer, 0.</param>
public sealed record PretrainingProgress(long Step, long Steps, double Loss, double ExactMatch);

/// <summary>What the small models share: training, and the Hugging Face directory that comes of it.</summary>
internal static partial class SmallModel
{
    private const int SampleSize = 512, LookEvery = 250, ScoredAtOnce = 128;

    /// <summary>Trains the model whose config.json and tokenizer are in the directory, and adds its weights.</summary>
    /// <param name="read">The rows to learn.</param>
    /// <param name="score">Of the saved model.</param>
    /// <param name="hasAnswers">Whether exact match means something, and can end the training.</param>
    /// <param name="from">The directory whose weights it begins with; null: random ones.</param>
    /// <param name="resumes">A stopped training goes on, from a file in the directory, where it has the same options and rows.</param>
    public static double Train(string directory, SmallModelOptions options, Func<TextBatch, IReadOnlyList<TokenRow>> read,
        Func<Stage, TextBatch, IReadOnlyList<TokenRow>, double> score, bool hasAnswers, string? from,
        Action<PretrainingProgress>? progress, bool resumes, CancellationToken cancellation)
    {
        var family = ModelFamily.FromDirectory(directory);
        using var stage = Stage.LoadWhole(family, new RandomWeights((long)options.Seed, ScalarType.Float32,
            (name, shape) => name == family.WordEmbeddings && options.EmbeddingStd is { } std ? std : family.InitialStd(name, shape)));
        if (from is not null)
            CopyFrom(from, stage);
        var text = new TextBatch(family, TokenizerFiles.Load(directory));
        var rows = read(text);
        var sample = Prng.At(options.Seed, ulong.MaxValue).Shuffle(Enumerable.Range(0, rows.Count)).Take(SampleSize).Select(i => rows[i])
            .ToList();
        var (beginning, order) = (Order(options.BeginRows > 0 ? Math.Min(options.BeginRows, rows.Count) : rows.Count), Order(rows.Count));
        var known = 0.0;
        var checkpoint = !resumes ? null : new PretrainingCheckpoint(Path.Combine(directory, "pretraining.safetensors"),
            Digest.OfText(JsonSerializer.Serialize(options) + Digest.OfRows(rows)));
        new Pretraining(stage, options.Training, step => text.Of(
            [.. RowsOf(step, step < options.BeginSteps ? beginning : order, rows, options).Select(i => rows[i])]), checkpoint).Run(
            (step, steps, loss) => progress?.Invoke(new(step, steps, loss, known)),
            // null: neither
            step => hasAnswers && step % LookEvery == 0 && (known = ExactMatch(stage, text, sample)) >= options.Goal
                && ExactMatch(stage, text, rows) >= options.Goal,
            cancellation);

        Save(stage, Path.Combine(directory, "model.safetensors"), options.StoreBFloat16 ? ScalarType.BFloat16 : ScalarType.Float32);
        checkpoint?.Delete();
        return score(stage, text, rows);

        EditSampler Order(int count) => new(options.Seed, count, 0, sameRows: false, Math.Min(options.BatchSize, count), 0);
    }

    private static IEnumerable<int> RowsOf(long step, EditSampler order, IReadOnlyList<TokenRow> rows, SmallModelOptions options)
    {
        if (options.StepsByLength <= 1)
            return order.At(step).Edits;
        var (window, place) = Math.DivRem(step, options.StepsByLength);
        var first = window * options.StepsByLength;
        int[][] steps = [.. Enumerable.Range(0, options.StepsByLength).SelectMany(i => order.At(first + i).Edits)
            .OrderBy(row => rows[row].Ids.Length).Chunk(order.At(first).Edits.Count)];
        return Prng.At(~options.Seed, (ulong)window).Shuffle(steps)[(int)place];
    }

    /// <summary>Puts configuration and tokenizer of a model into the directory of one that begins with it.</summary>
    /// <exception cref="MendException">It is of another family.</exception>
    public static void Begin(string directory, string from, Func<ModelFamily, bool> fits, string wanted)
    {
        var family = ModelFamily.FromDirectory(from);
        if (!fits(family))
            throw new MendException(MendError.InvalidOption, $"{from} is a {family.Family.Type}; what it is to learn needs {wanted}.",
                "Name another model, or another task.");
        Directory.CreateDirectory(directory);
        CopyFiles(from, directory, HuggingFaceWriter.Beside);
    }

    /// <summary>Copies what is there of the named files.</summary>
    public static void CopyFiles(string from, string directory, IEnumerable<string> files)
    {
        foreach (var file in files.Where(file => File.Exists(Path.Combine(from, file))))
            File.Copy(Path.Combine(from, file), Path.Combine(directory, file));
    }

    /// <summary>A classifier that the checkpoint has not, or for other classes, begins anew, and so does a pooler.</summary>
    private static void CopyFrom(string directory, Stage stage)
    {
        using var files = HuggingFaceDirectory.Open(directory);
        var checkpoint = new CheckpointWeights(files, ScalarType.Float32);
        using var _ = no_grad();
        foreach (var (name, weight) in stage.Weights.Loaded)
        {
            using var scope = NewDisposeScope();
            var own = weight.AsStored();
            if (!OfClassifiers().IsMatch(name) || checkpoint.ShapeOf(name)?.SequenceEqual(own.shape) == true)
                own.copy_(checkpoint.Read(name, own.shape));
        }
    }

    /// <summary>Fraction of the rows that are answered exactly.</summary>
    public static double ExactMatch(Stage stage, TextBatch text, IReadOnlyList<TokenRow> rows) =>
        Pretraining.ExactMatch(stage, Batches(text, rows));

    public static IEnumerable<LabelledInput> Batches(TextBatch text, IReadOnlyList<TokenRow> rows) =>
        rows.Chunk(ScoredAtOnce).Select(chunk => text.Of([.. chunk]));

    /// <summary>Writes the weights, and rounds those in memory to what was written.</summary>
    private static void Save(Stage stage, string path, ScalarType dtype)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var stored = stage.Weights.Loaded.ToDictionary(weight => weight.Key, weight => weight.Value.AsStored().to_type(dtype));
        SafetensorsWriter.Write(path, stored.Select(weight => TensorBytes.ToWrite(weight.Key, weight.Value)),
            new Dictionary<string, string> { ["format"] = "pt" });
        foreach (var (name, weight) in stage.Weights.Loaded)
            weight.Value.copy_(weight.IsTransposed ? stored[name].t() : stored[name]);
    }

    [GeneratedRegex(@"^classifier\.|\.pooler\.", RegexOptions.CultureInvariant)]
    private static partial Regex OfClassifiers();
}
