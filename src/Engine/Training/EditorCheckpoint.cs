using System.Text.Json;
using System.Text.Json.Serialization;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>
/// An editor in a safetensors file: alpha, phi and the statistics by the names of the authors' checkpoints; algorithm, options and weights
/// as metadata; in the checkpoint of a training run also Adam's moments and where the run stood. Written atomically.
/// </summary>
public sealed class EditorCheckpoint : IDisposable
{
    /// <summary>What an editor's file is called beside its model, and in the folder of its training.</summary>
    public const string FileName = "editor.safetensors";

    /// <summary>Version of the metadata.</summary>
    private const string Format = "mendcluster-editor/1";

    private static readonly JsonSerializerOptions Json = new() { Converters = { new JsonStringEnumConverter() } };

    private readonly SafetensorsFile _file;

    private EditorCheckpoint(SafetensorsFile file) => _file = file;

    /// <summary>A file of before there were others has no entry, and is MEND's.</summary>
    public EditorAlgorithm Algorithm => _file.Metadata.ContainsKey("algorithm") ? Metadata<EditorAlgorithm>("algorithm")
        : EditorAlgorithm.Mend;

    /// <summary>MEND's; of other editors their networks in the words of MEND's options, for planning.</summary>
    /// <exception cref="MendException">An editor that needs more than gradients.</exception>
    public MendOptions Options => (EditorRegistry.Of(Algorithm).Network ?? throw NotPrepared())(this);

    /// <summary>In configuration order.</summary>
    public IReadOnlyList<EditableWeight> Weights => Metadata<List<EditableWeight>>("weights");

    /// <summary>Iterations done.</summary>
    public long Iteration => Metadata<long>("iteration");

    /// <summary>Best validation loss so far.</summary>
    public double BestLoss => Metadata<double>("best_loss");

    public long BestIteration => Metadata<long>("best_iteration");

    /// <summary>The iteration of the last validation; null: there was none yet.</summary>
    public long? Validated => _file.Metadata.ContainsKey("validated") ? Metadata<long>("validated") is >= 0 and var iteration ? iteration
        : null : Iteration;

    private long AdamSteps => Metadata<long>("adam_steps");

    /// <exception cref="MendException">Not a safetensors file, or not one of an editor.</exception>
    public static EditorCheckpoint Open(string path)
    {
        var file = SafetensorsFile.Open(path);
        if (file.Metadata.GetValueOrDefault("format") is var format && format == Format)
            return new(file);
        file.Dispose();
        throw Fault.File(path, "metadata 'format'",
            $"is '{format}', expected '{Format}'; this is not an editor of this version");
    }

    /// <summary>The editor's file in a model's directory; null: there is none.</summary>
    public static string? Beside(string model) => Path.Combine(model, FileName) is var file && File.Exists(file) ? file : null;

    /// <summary>Null when there is no such file.</summary>
    public static EditorCheckpoint? TryOpen(string path) => File.Exists(path) ? Open(path) : null;

    /// <summary>The editor of a file that <see cref="SaveEditor"/> wrote, if gradients alone make its edits.</summary>
    /// <param name="wanted">The weights that are needed; null: all.</param>
    /// <param name="device">Null: the CPU.</param>
    /// <exception cref="MendException">KE and ENN, which need more.</exception>
    public static IPreparedEditor Load(string path, IReadOnlyCollection<string>? wanted = null, Device? device = null)
    {
        using var checkpoint = Open(path);
        return checkpoint.Prepared(wanted, device);
    }

    /// <summary>The MEND editor of a file that <see cref="SaveEditor"/> wrote.</summary>
    /// <param name="wanted">The weights whose networks are needed; null: all.</param>
    /// <param name="device">Null: the CPU.</param>
    public static Mend LoadEditor(string path, IReadOnlyCollection<string>? wanted = null, Device? device = null)
    {
        using var checkpoint = Open(path);
        return checkpoint.Editor(wanted, device);
    }

    public static void SaveEditor(string path, IStoredEditor editor) => Write(path, editor, editor.State, []);

    /// <summary>Writes the file's MALMEN anew, as one that goes round keys.</summary>
    /// <param name="rounds">Null: as they are; so is <paramref name="beta"/>.</param>
    internal void SavePreserving(string path, IReadOnlyDictionary<string, PreservedKeys> keys, int? rounds, double? beta,
        bool sequential)
    {
        var options = Require(EditorAlgorithm.Malmen).OptionsAs<MalmenOptions>();
        using var preserving = new Malmen(options with
        {
            Rounds = rounds ?? options.Rounds,
            Beta = beta ?? options.Beta,
            Sequential = sequential || options.Sequential,
        }, Weights, name => Read(name), preserved: weight => keys[weight]);
        SaveEditor(path, preserving);
    }

    /// <summary>Refuses an editor of another model. Reads no weight.</summary>
    /// <exception cref="MendException">It changes a weight that the model does not have, or has in another shape.</exception>
    public void RequireFit(ModelFamily family)
    {
        var model = LayerShape.Of(family).SelectMany(layer => layer.Linears).ToDictionary(linear => linear.Name);
        foreach (var (name, m, n) in Weights)
            if (!model.TryGetValue(name, out var linear))
                throw Fault.File(_file.Path, name,
                    $"the editor was made for it, and this {family.Type} model does not have it; the editor is another model's");
            else if ((linear.InFeatures, linear.OutFeatures) != (m, n))
                throw Fault.File(_file.Path, name,
                    $"the editor was made for [{n}, {m}], the model's is [{linear.OutFeatures}, {linear.InFeatures}]; the editor is another model's");
    }

    /// <summary>All that a training run needs to go on.</summary>
    public static void Save(string path, IStoredEditor editor, Adam adam, ParameterAverage? average, long iteration, double bestLoss,
        long bestIteration, long? validated) =>
        Write(path, editor, editor.State.Concat(adam.State).Concat(average?.State ?? []), new()
        {
            ["iteration"] = JsonSerializer.Serialize(iteration),
            ["best_loss"] = JsonSerializer.Serialize(bestLoss),
            ["best_iteration"] = JsonSerializer.Serialize(bestIteration),
            ["validated"] = JsonSerializer.Serialize(validated ?? -1),
            ["adam_steps"] = JsonSerializer.Serialize(adam.Steps),
        });

    /// <exception cref="MendException">It is another algorithm's.</exception>
    public Mend Editor(IReadOnlyCollection<string>? wanted = null, Device? device = null)
    {
        using var scope = NewDisposeScope();
        return new(Require(EditorAlgorithm.Mend).Options, Weights, name => Read(name, device), wanted);
    }

    /// <summary>The editor, if gradients alone make its edits.</summary>
    /// <exception cref="MendException">KE and ENN, which need more.</exception>
    public IPreparedEditor Prepared(IReadOnlyCollection<string>? wanted = null, Device? device = null)
    {
        using var scope = NewDisposeScope();
        return (EditorRegistry.Of(Algorithm).Load ?? throw NotPrepared())(this, name => Read(name, device), wanted);
    }

    public void Restore(Adam adam, ParameterAverage? average)
    {
        using var scope = NewDisposeScope();
        adam.Restore(AdamSteps, name => Read(name));
        average?.Restore(name => Read(name));
    }

    public void Dispose() => _file.Dispose();

    /// <summary>The file, if it is of this algorithm.</summary>
    /// <exception cref="MendException">It is of another.</exception>
    internal EditorCheckpoint Require(EditorAlgorithm algorithm) => Algorithm == algorithm ? this
        : throw Fault.File(_file.Path, "metadata 'algorithm'",
        $"is {Algorithm}, expected {algorithm}; choose that editor's file, or another folder for a new run");

    public T OptionsAs<T>() => Metadata<T>("options");

    /// <summary>A tensor of <see cref="IStoredEditor.State"/>; lives in the caller's scope.</summary>
    /// <param name="device">Null: the CPU.</param>
    internal Tensor Read(string name, Device? device = null) => TensorBytes.Load(_file.Find(name), device: device);

    /// <summary>Whether the file has keys that its editor goes round.</summary>
    internal bool HasPreservedKeys => Names(Malmen.PreservedPrefix).Any();

    /// <summary>The names that begin so.</summary>
    internal IEnumerable<string> Names(string prefix) =>
        _file.Entries.Keys.Where(name => name.StartsWith(prefix, StringComparison.Ordinal));

    private static void Write(string path, IStoredEditor editor, IEnumerable<(string Name, Tensor Value)> tensors,
        Dictionary<string, string> metadata)
    {
        using var scope = NewDisposeScope();
        metadata["format"] = Format;
        metadata["algorithm"] = JsonSerializer.Serialize(editor.Algorithm, Json);
        metadata["options"] = JsonSerializer.Serialize(editor.Options, Json);
        metadata["weights"] = JsonSerializer.Serialize(editor.Weights, Json);
        SafetensorsWriter.Write(path, tensors.Select(tensor => TensorBytes.ToWrite(tensor.Name, tensor.Value)), metadata);
    }

    private MendException NotPrepared() => Fault.File(_file.Path, "metadata 'algorithm'",
        $"is {Algorithm}, whose edits need more than gradients; "
        + $"expected one of {string.Join(", ", EditorRegistry.All.Where(kind => kind.Load is not null).Select(kind => kind.Algorithm))}");

    private T Metadata<T>(string key)
    {
        try
        {
            return _file.Metadata.TryGetValue(key, out var text) && JsonSerializer.Deserialize<T>(text, Json) is { } value
                ? value
                : throw Fault.File(_file.Path, $"metadata '{key}'", "is missing");
        }
        catch (JsonException e)
        {
            throw Fault.File(_file.Path, $"metadata '{key}'", e.Message);
        }
    }
}
