using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Deployment;

/// <summary>What to export, and how.</summary>
public sealed record ExportOptions
{
    /// <summary>The Hugging Face directory that the ledger belongs to.</summary>
    public required string ModelDirectory { get; init; }

    /// <summary>The ledger's file. No other process may have it open.</summary>
    public required string Ledger { get; init; }

    /// <summary>The directory to make; there, only if it is empty.</summary>
    public required string Output { get; init; }

    /// <summary>Weights beyond this many bytes go to another file; a larger tensor has one of its own.</summary>
    public long MaxFileBytes { get; init; } = HuggingFaceWriter.DefaultFileLength;

    /// <summary>Whose edits are exported after those for everybody; null: nobody's.</summary>
    public string? Scope { get; init; }

    /// <summary>Of all floating weights; null: each as the checkpoint has it.</summary>
    public DType? DType { get; init; }
}

/// <summary>One weight that edits were folded into.</summary>
/// <param name="Rank">Rows of all updates.</param>
/// <param name="Norm">Of the update, Frobenius.</param>
/// <param name="Rounded">
/// What rounding the edited weight to its stored type took from the update: the error's norm over the update's.
/// </param>
public sealed record FoldedWeight(string Name, long Rank, double Norm, double Rounded);

/// <param name="Version">Of the model that was exported.</param>
/// <param name="Edits">In force at it, oldest first.</param>
/// <param name="Files">Of weights.</param>
public sealed record ExportReport(ModelVersion Version, IReadOnlyList<LedgerEntry> Edits, IReadOnlyList<FoldedWeight> Weights,
    IReadOnlyList<string> Files);

/// <summary>
/// Folds the edits that are in force into a checkpoint that any tool reads: W' = W - sum of alpha deltaTilde^T uTilde over the edits, in
/// float64 and in the order of the ledger, rounded once to the stored type. Weights without an edit are copied byte for byte, so with no
/// edit in force the weights are the original's. One weight at a time is in memory.
/// </summary>
public static class ModelExport
{
    /// <summary>Beside the weights: which edits they hold.</summary>
    public const string EditsFile = "mend_edits.json";

    private static readonly JsonSerializerOptions Json =
        new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <exception cref="MendException">Model or ledger cannot be used, or the output is not empty. Nothing was written.</exception>
    public static async Task<ExportReport> RunAsync(ExportOptions options, CancellationToken cancellation = default)
    {
        if (!File.Exists(options.Ledger))
            throw new MendException(MendError.LedgerUnusable, $"There is no ledger {options.Ledger}.",
                "Name the ledger of the model's edits.");
        try
        {
            await using var ledger = FileLedger.Open(options.Ledger, ModelFingerprint.Of(options.ModelDirectory));
            var records = await ledger.ReadAfterAsync(ModelVersion.Base, cancellation).ConfigureAwait(false);
            var inForce = records.Aggregate(EditsInForce<SeenChanges>.None, (earlier, record) => earlier.Plus(record,
                (scope, changes) => new(scope, [.. changes])));
            List<string?> seen = options.Scope is null ? [null] : [null, options.Scope];
            var entries = records.Where(record => record.Entry.Kind == LedgerKind.Edit)
                .ToDictionary(record => record.Entry.Edit, record => record.Entry);
            return Write(options, records.Count == 0 ? ModelVersion.Base : records[^1].Entry.Version,
                [.. seen.SelectMany(scope => inForce.Edits.Where(edit => edit.Scope == scope)).Select(edit => entries[edit.Id])],
                [.. seen.SelectMany(scope => inForce.Updates.Where(update => update.Scope == scope)).SelectMany(update => update.Changes)],
                cancellation);
        }
        catch (MendException e) when (e.Error == MendError.ModelUnusable)
        {
            throw e.Because(e.Error, "The model was not exported", "Nothing was written.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw e.Because(MendError.FileUnusable, "The model was not exported",
                "Nothing was written. Make room, or name a directory that can be written.");
        }
    }

    /// <summary>Of an edit or a consolidation.</summary>
    private sealed record SeenChanges(string? Scope, IReadOnlyList<WeightChange> Changes);

    private static ExportReport Write(ExportOptions options, ModelVersion version, List<LedgerEntry> edits,
        IReadOnlyList<WeightChange> inForce, CancellationToken cancellation)
    {
        var family = ModelFamily.FromDirectory(options.ModelDirectory);
        using var files = HuggingFaceDirectory.Open(options.ModelDirectory);
        var map = CheckpointMap.Of(family, files).DistinctBy(weight => weight.StoredName).ToDictionary(weight => weight.StoredName);
        var changes = inForce.ToLookup(change => change.Weight);
        if (changes.FirstOrDefault(change => map.Values.All(weight => weight.Name != change.Key)) is { } unknown)
            throw new MendException(MendError.LedgerUnusable, $"The ledger changes {unknown.Key}, which this model does not have.",
                "Name the ledger of this model.");
        foreach (var change in changes.SelectMany(ofWeight => ofWeight))
        {
            var weight = map.Values.First(weight => weight.Name == change.Weight);
            var (m, n, stored) = (change.UTilde.Shape[1], change.DeltaTilde.Shape[1], files.Find(weight.StoredName).Shape);
            if (!stored.SequenceEqual(weight.IsTransposed ? [m, n] : [n, m]))
                throw new MendException(MendError.LedgerUnusable,
                    $"The ledger changes {change.Weight} of [{n}, {m}], which this model has as [{string.Join(", ", stored)}].",
                    "Name the ledger of this model.");
        }
        var folded = new List<FoldedWeight>();
        var wanted = options.DType;
        var tensors = HuggingFaceWriter.WithoutTies(files, map.ContainsKey).Select(tensor =>
        {
            var stored = tensor.Tensor;
            var type = stored.Type.IsFloating() ? wanted ?? stored.Type : stored.Type;
            if (map.GetValueOrDefault(tensor.Name) is { } weight && changes.Contains(weight.Name))
                return new TensorToWrite(tensor.Name, type, stored.Shape,
                    stream => folded.Add(Fold(weight, stored, [.. changes[weight.Name]], type, stream)));
            return type == stored.Type ? new(tensor.Name, stored) : new(tensor.Name, type, stored.Shape, stream =>
            {
                using var scope = NewDisposeScope();
                stream.Write(TensorBytes.Load(stored, TensorBytes.DTypeOf(type)).Host().bytes);
            });
        });
        var names = HuggingFaceWriter.Write(options.Output, options.ModelDirectory, HuggingFaceWriter.Split(tensors, options.MaxFileBytes),
            Texts(options, version, edits), cancellation);
        return new(version, edits, folded, names);
    }

    /// <summary>Writes one edited weight.</summary>
    private static FoldedWeight Fold(MappedWeight weight, StoredTensor stored, IReadOnlyList<WeightChange> changes, DType type,
        Stream stream)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        Tensor Rows(Func<WeightChange, Tensor> rows) => cat([.. changes.Select(rows)], 0);
        var u = Rows(change => WireTensorCodec.Decode(change.UTilde).to_type(ScalarType.Float64).Times(change.Alpha)); // [R, m]
        var delta = Rows(change => WireTensorCodec.Decode(change.DeltaTilde).to_type(ScalarType.Float64));        // [R, n]
        var update = weight.IsTransposed ? u.t().mm(delta) : delta.t().mm(u);                                     // as stored
        var exact = TensorBytes.Load(stored, ScalarType.Float64) - update;
        var rounded = exact.to_type(TensorBytes.DTypeOf(type)).contiguous();
        var (norm, error) = (Norm(update), Norm(rounded.to_type(ScalarType.Float64) - exact));
        if (!double.IsFinite(error))
            throw new MendException(MendError.NotFinite,
                $"{weight.Name} with its edits has entries that are NaN, infinite or too large for {type}.",
                "Nothing was written. Export as Float32, or take the edit back.");
        stream.Write(rounded.Host().bytes);
        return new(weight.Name, u.shape[0], norm, norm == 0 ? 0 : error / norm);
    }

    private static double Norm(Tensor x) => Math.Sqrt((x * x).sum().Host().item<double>());

    private static Dictionary<string, string> Texts(ExportOptions options, ModelVersion version, List<LedgerEntry> edits)
    {
        var texts = new Dictionary<string, string>
        {
            [EditsFile] = JsonSerializer.Serialize(new
            {
                version = version.Value,
                edits = edits.Select(edit =>
                    new { id = edit.Edit.Value, time = edit.Time, prompt = edit.Prompt, target = edit.Target, author = edit.Author }),
            }, Json) + "\n",
        };
        if (options.DType is { } dtype)
        {
            var config = JsonNode.Parse(File.ReadAllText(Path.Combine(options.ModelDirectory, "config.json")))!.AsObject();
            // Newer configurations say dtype, older ones torch_dtype.
            config[config.ContainsKey("dtype") ? "dtype" : "torch_dtype"] = dtype.ToString().ToLowerInvariant();
            texts["config.json"] = config.ToJsonString(Json) + "\n";
        }
        return texts;
    }
}
