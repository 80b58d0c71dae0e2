using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using MendCluster.Contracts;
using MendCluster.Engine.Files;

namespace MendCluster.Engine.Training;

/// <summary>What a run is trained on, by digests.</summary>
public sealed record RunInputs(string Model, string Data);

/// <summary>A line of a run's metrics, as far as other programs read it.</summary>
/// <param name="Kind">training, validation, memory or end.</param>
/// <param name="Total">Loss of a training or a validation.</param>
/// <param name="Seconds">Since the last validation, of a validation.</param>
/// <param name="PeakBytes">Most bytes of tensors, of a memory line.</param>
public sealed record RunEntry(string Kind, long Iteration, double Total, double Seconds, long? PeakBytes);

/// <summary>
/// What a training run leaves behind: <c>config.json</c>, <c>inputs.json</c> (digests of model and data), <c>metrics.jsonl</c> (a JSON
/// object a line),
/// <c>checkpoint.safetensors</c> and <c>editor.safetensors</c> (the best). <c>mend train</c> draws <c>curves.svg</c> there.
/// </summary>
/// <param name="directory">Made if it does not exist.</param>
/// <param name="inputs">Of the run that is to go on there; null: not known, and not held against the folder's.</param>
public sealed class RunFolder(string directory, RunInputs? inputs = null)
{
    private const string Maker = "mend train";

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
    };

    private static readonly JsonSerializerOptions IndentedJson = new(Json) { WriteIndented = true };

    private static readonly JsonSerializerOptions StrictJson = new(Json) { UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow };

    public string Directory { get; } = directory;

    public string Configuration => Path.Combine(Directory, "config.json");

    public string Inputs => Path.Combine(Directory, "inputs.json");

    public string Checkpoint => Path.Combine(Directory, "checkpoint.safetensors");

    public string BestEditor => Path.Combine(Directory, EditorCheckpoint.FileName);

    public string Metrics => Path.Combine(Directory, "metrics.jsonl");

    public string Curves => Path.Combine(Directory, "curves.svg");

    /// <summary>Takes the folder for a run, as long as what is returned is held.</summary>
    /// <exception cref="MendException">Another run has it, or there is something in it that no training made.</exception>
    public OwnFolder Take() =>
        OwnFolder.Take(Directory, Maker,
        [.. new[] { Configuration, Inputs, Checkpoint, BestEditor, Metrics, Curves }.Select(file => Path.GetFileName(file))]);

    /// <summary>
    /// Refuses to go on with what was begun otherwise: an editor is of one model, one set of data and one configuration, which the folder
    /// names. Only how long to train may differ.
    /// </summary>
    /// <exception cref="MendException"><see cref="MendError.RunDiffers"/>, naming each setting with both values.</exception>
    public void Check(EditorTrainingOptions options)
    {
        if (!File.Exists(Checkpoint))
            return;
        var begun = ReadConfiguration<EditorTrainingOptions>(Configuration) with
        {
            MaxIters = options.MaxIters,
            EarlyStopPatience = options.EarlyStopPatience
        };
        var earlier = File.Exists(Inputs) ? ReadConfiguration<RunInputs>(Inputs) : inputs;
        List<string> differences =
        [
            .. Differences("", JsonSerializer.SerializeToNode(begun, Json), JsonSerializer.SerializeToNode(options, Json)),
            .. Differences("", JsonSerializer.SerializeToNode(earlier, Json), JsonSerializer.SerializeToNode(inputs ?? earlier, Json)),
        ];
        if (differences.Count > 0)
            throw new MendException(MendError.RunDiffers,
                $"The run in {Directory} was begun with other inputs: {string.Join("; ", differences)}.",
                "Give it what it was begun with (its config.json has the settings: --config), or name another folder.");
    }

    private static IEnumerable<string> Differences(string name, JsonNode? before, JsonNode? now)
    {
        if (before is JsonObject objectBefore && now is JsonObject objectNow)
            return objectBefore.SelectMany(entry =>
                Differences(name.Length == 0 ? entry.Key : $"{name}.{entry.Key}", entry.Value, objectNow[entry.Key]));
        return JsonNode.DeepEquals(before, now) ? [] : [$"{name} was {Text(before)} and is now {Text(now)}"];

        static string Text(JsonNode? value) => value?.ToJsonString(Json) ?? "nothing";
    }

    /// <summary>
    /// Writes the configuration; when a run goes on, drops the metrics after its checkpoint, which will be measured again.
    /// </summary>
    public void Start<T>(T configuration, long iteration)
    {
        System.IO.Directory.CreateDirectory(Directory);
        AtomicFile.Write(Configuration, JsonSerializer.Serialize(configuration, IndentedJson) + "\n");
        if (inputs is not null)
            AtomicFile.Write(Inputs, JsonSerializer.Serialize(inputs, IndentedJson) + "\n");
        var kept = File.Exists(Metrics) && iteration > 0
            ? File.ReadLines(Metrics).Where(line => Read(line) is { } entry && entry.Iteration <= iteration && entry.Kind != "end")
            : [];
        File.WriteAllLines(Metrics, kept.ToList());
    }

    /// <summary>A configuration as <see cref="Start"/> writes it; what it leaves out stays at the default.</summary>
    /// <exception cref="MendException">Not JSON, a setting that does not exist, or a value of another kind.</exception>
    public static T ReadConfiguration<T>(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<T>(File.ReadAllText(path), StrictJson)
                ?? throw Fault.Setting($"{path}: is null, expected an object of settings");
        }
        catch (JsonException e)
        {
            throw Fault.Setting($"{path}: {e.Message}");
        }
    }

    /// <summary>Appends one line to the metrics.</summary>
    public void Log<T>(T entry) => File.AppendAllText(Metrics, JsonSerializer.Serialize(entry, Json) + "\n");

    /// <summary>Appends the most bytes of tensors that were held so far.</summary>
    public void LogMemory(long iteration, long peakBytes) => Log(new { kind = "memory", iteration, peak_bytes = peakBytes });

    /// <summary>The lines of the metrics, without one that a crash cut short.</summary>
    public IEnumerable<RunEntry> Entries() => File.Exists(Metrics) ? File.ReadLines(Metrics).Select(Read).OfType<RunEntry>() : [];

    private static RunEntry? Read(string line)
    {
        try
        {
            return JsonSerializer.Deserialize<RunEntry>(line, Json);
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
