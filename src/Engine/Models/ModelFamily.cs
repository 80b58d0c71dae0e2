using System.Globalization;
using System.Text.Json;
using MendCluster.Contracts;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>
/// A model family for one configuration: a list of layers (embedding, blocks, head), of which a pipeline stage builds a range.
/// </summary>
public abstract class ModelFamily
{
    /// <summary>The <c>model_type</c> of config.json.</summary>
    public string Type => Family.Type;

    /// <summary>The family's row in <see cref="FamilyRegistry"/>.</summary>
    public abstract FamilyKind Family { get; }

    /// <summary>Names of the layers in forward order, e.g. <c>transformer.h.3</c>. The last one is the head.</summary>
    public abstract IReadOnlyList<string> LayerNames { get; }

    public abstract bool IsEncoderDecoder { get; }

    /// <summary>
    /// Whether logits[t] predict labels[t + 1]: decoder-only models and BART. False for T5, whose decoder inputs are shifted already
    /// (mend-spec 3.1).
    /// </summary>
    public abstract bool ShiftsLabels { get; }

    public abstract long VocabularySize { get; }

    /// <summary>The weight that turns tokens into vectors, [V, C].</summary>
    public abstract string WordEmbeddings { get; }

    /// <summary>Most tokens of one sequence; null where positions are relative.</summary>
    public abstract long? MaxPositions { get; }

    /// <summary>Tokens that end an answer; the first is the one that targets end with.</summary>
    public abstract IReadOnlyList<int> EosIds { get; }

    /// <summary>Fills the right end of short rows; masked out everywhere.</summary>
    public abstract int PadId { get; }

    /// <summary>First decoder input; null in decoder-only models.</summary>
    public abstract int? DecoderStartId { get; }

    /// <summary>
    /// The token that every answer begins with after <see cref="DecoderStartId"/>, given rather than predicted; null: none.
    /// </summary>
    public virtual int? ForcedFirstId => null;

    /// <summary>What the decoder is given before it predicts anything; empty in decoder-only models.</summary>
    public IReadOnlyList<int> DecoderPrefix => [.. new[] { DecoderStartId, ForcedFirstId }.OfType<int>()];

    /// <summary>Names of the classes of a classifier, whose one answer to a text is a class; null: a language model.</summary>
    public virtual IReadOnlyList<string>? Labels => null;

    /// <summary>
    /// The class that a text names: by its label in any case, as LABEL_1 or by its number, and of two classes as true or false or, as in
    /// the paper's data, SUPPORTS or REFUTES. Null: none.
    /// </summary>
    public int? ClassOf(string text)
    {
        var name = text.Trim();
        bool Is(string word) => name.Equals(word, StringComparison.OrdinalIgnoreCase);
        int? named = Enumerable.Range(0, Labels!.Count).Select(i => (int?)i).FirstOrDefault(i => Is(Labels[i!.Value]));
        int? numbered = Enumerable.Range(0, Labels.Count).Select(i => (int?)i).FirstOrDefault(i => Is($"{i}") || Is($"LABEL_{i}"));
        int? usual = Labels.Count != 2 ? null : Is("false") || Is("REFUTES") ? 0 : Is("true") || Is("SUPPORTS") ? 1 : null;
        return named ?? numbered ?? usual;
    }

    /// <summary>
    /// The weights that the paper edits in this family: the MLP matrices of the last blocks, in the order of its configuration.
    /// </summary>
    public abstract IReadOnlyList<string> DefaultEditableWeights { get; }

    /// <summary>Builds layer <paramref name="index"/> of <see cref="LayerNames"/>, reading its weights and no others.</summary>
    public abstract Layer Build(int index, WeightSource weights);

    /// <summary>Standard deviation of a weight at the start of training from scratch.</summary>
    public abstract double InitialStd(string name, long[] shape);

    /// <summary>The values of <c>model_type</c> that <see cref="FromConfig"/> knows.</summary>
    public static IReadOnlyList<string> SupportedTypes { get; } = [.. FamilyRegistry.All.Select(kind => kind.Type)];

    /// <summary>The family that config.json names.</summary>
    /// <exception cref="MendException">No config.json, not JSON, or a model type that is not supported.</exception>
    public static ModelFamily FromDirectory(string directory)
    {
        var file = Path.Combine(directory, "config.json");
        if (!File.Exists(file))
            throw Fault.Model(directory, "config.json",
                "not found; a model is a Hugging Face directory with config.json and weights");
        var generation = Path.Combine(directory, "generation_config.json");
        var config = ConfigFile.Read(file);
        if (!File.Exists(generation))
            return FromConfig(config);
        // Newer checkpoints keep there what steers generation; of that these alone are not chosen with each question.
        var steering = ConfigFile.Read(generation);
        return FromConfig((steering.Value("eos_token_id") is null ? config : config.Over("eos_token_id", steering))
            .Or("forced_bos_token_id", steering).Or("decoder_start_token_id", steering));
    }

    public static ModelFamily FromConfig(ConfigFile config)
    {
        const string built = "the layers here are the published ones";
        config.RequireAbsent("quantization_config", "give the model that it was made from");
        config.RequireAbsent("pruned_heads", built);
        config.RequireAbsent("per_layer_config", built);
        config.RequireAbsent("transformers_weights", "rename the weights that it names to model.safetensors, and delete the key");
        config.Require("tie_encoder_decoder", false);
        config.Require("add_cross_attention", false);
        var type = config.String("model_type");
        return FamilyRegistry.Find(type)?.Make(config)
            ?? throw Fault.Model(config.File, "model_type",
                $"'{type}' is not supported; supported: {string.Join(", ", SupportedTypes)}");
    }
}

/// <summary>One layer of a model. Its tensors belong to the stage that built it.</summary>
public abstract class Layer
{
    public abstract Activations Forward(Activations activations, ForwardContext pass);

    /// <summary>Whether this layer belongs to an encoder, and so has nothing to do from the second generated token on.</summary>
    public virtual bool IsEncoder => false;

    /// <summary>The linear maps of this layer, in forward order.</summary>
    public virtual IReadOnlyList<EditableLinear> Linears => [];
}

/// <summary>The last layer: final norm, then logits of the rows that are asked for (not all: the head is the largest product).</summary>
public abstract class Head : Layer
{
    /// <param name="hidden">[N, C] float32, rows of this layer's output.</param>
    /// <returns>[N, V] float32.</returns>
    public abstract Tensor Logits(Tensor hidden);
}

/// <summary>config.json with typed access; what is missing or of another kind is an error that names file and key.</summary>
public sealed class ConfigFile
{
    private readonly JsonElement _root;

    // What stands elsewhere: keys of another file that are read first, or last, and other names of keys.
    private readonly IReadOnlyDictionary<string, JsonElement> _over;
    private readonly IReadOnlyDictionary<string, JsonElement> _or;
    private readonly (string Alias, string Key)[] _aliases;

    private ConfigFile(string file, JsonElement root, IReadOnlyDictionary<string, JsonElement>? over = null,
        IReadOnlyDictionary<string, JsonElement>? or = null, (string, string)[]? aliases = null) =>
        (File, _root, _over, _or, _aliases) =
            (file, root, over ?? new Dictionary<string, JsonElement>(), or ?? new Dictionary<string, JsonElement>(), aliases ?? []);

    public string File { get; }

    public static ConfigFile Read(string file)
    {
        try
        {
            var json = System.IO.File.ReadAllText(file);
            return LfsPointer.Is(json) ? throw Fault.Model(file, "offset 0", LfsPointer.Said) : Parse(file, json);
        }
        catch (JsonException e)
        {
            throw Fault.Model(file, "JSON", e.Message);
        }
    }

    public static ConfigFile Parse(string file, string json)
    {
        using var document = JsonDocument.Parse(PythonJson.ToJson(json));
        return document.RootElement.ValueKind == JsonValueKind.Object
            ? new(file, document.RootElement.Clone())
            : throw Fault.Model(file, "JSON", "is not an object");
    }

    /// <summary>The same with one key taken from another file where it is absent here.</summary>
    public ConfigFile Or(string key, ConfigFile other) => new(File, _root, _over, With(_or, key, other), _aliases);

    /// <summary>The same with one key taken from another file where it is there.</summary>
    public ConfigFile Over(string key, ConfigFile other) => new(File, _root, With(_over, key, other), _or, _aliases);

    /// <summary>
    /// The same with other names for keys, as transformers' configurations have them. Where a key stands under both names it must be the
    /// same: which of the two counts is another in each version.
    /// </summary>
    public ConfigFile WithAliases(params (string Alias, string Key)[] aliases)
    {
        foreach (var (alias, key) in aliases)
            if (Find(alias) is { } other && Find(key) is { } own && other.GetRawText() != own.GetRawText())
                throw Fault.Model(File, alias,
                    $"is {other.GetRawText()}, but it is another name of {key}, which is {own.GetRawText()}");
        return new(File, _root, _over, _or, aliases);
    }

    public string String(string key, string? fallback = null) =>
        Find(key) is not { } value ? fallback ?? throw Missing(key)
        : value.ValueKind == JsonValueKind.String ? value.GetString()!
        : throw Wrong(key, value, "a string");

    public bool Bool(string key, bool fallback) =>
        Find(key) is not { } value ? fallback
        : value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean()
        : throw Wrong(key, value, "true or false");

    /// <summary>A positive integer below 2^31.</summary>
    public int Size(string key, int? fallback = null) =>
        Find(key) is not { } value ? fallback ?? throw Missing(key)
        : value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) && number > 0 ? number
        : throw Wrong(key, value, "a positive integer");

    /// <summary>A token id, zero or more.</summary>
    public int Id(string key, int fallback) =>
        Find(key) is not { } value ? fallback
        : value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out var number) && number >= 0 ? number
        : throw Wrong(key, value, "a token id");

    /// <summary>
    /// The id of the token that fills short rows: nothing reads it, so one that is no row of the embedding is as good as none.
    /// </summary>
    public int PadId(int vocabulary, int fallback) => Find("pad_token_id") is not { } value ? fallback
        : value.ValueKind != JsonValueKind.Number || !value.TryGetInt32(out var id) ? throw Wrong("pad_token_id", value, "a token id")
        : id >= 0 && id < vocabulary ? id : fallback;

    /// <summary>A token id that the model is given, and so a row of its embedding.</summary>
    public int IdBelow(string key, int vocabulary, int fallback) => Id(key, fallback) is var id && id < vocabulary ? id
        : throw Fault.Model(File, key, $"is {id}, the embedding has {vocabulary} rows");

    /// <summary>A token id or a list of such, at least one.</summary>
    public IReadOnlyList<int> Ids(string key, int fallback) =>
        Find(key) is not { ValueKind: JsonValueKind.Array } list ? [Id(key, fallback)]
        : list.GetArrayLength() > 0
            && list.EnumerateArray().All(item => item.ValueKind == JsonValueKind.Number && item.TryGetInt32(out var id) && id >= 0)
            ? [.. list.EnumerateArray().Select(item => item.GetInt32())]
        : throw Wrong(key, list, "a token id or a list of such");

    /// <summary>An activation that <see cref="Layers.Activation"/> knows.</summary>
    public string Activation(string key, string fallback)
    {
        var name = String(key, fallback);
        _ = Layers.Activation(name, File, key);
        return name;
    }

    /// <summary>A list of strings; empty where the key is absent.</summary>
    public IReadOnlyList<string> Strings(string key) =>
        Find(key) is not { } value ? []
        : value.ValueKind == JsonValueKind.Array && value.EnumerateArray().All(item => item.ValueKind == JsonValueKind.String)
            ? [.. value.EnumerateArray().Select(item => item.GetString()!)]
        : throw Wrong(key, value, "a list of strings");

    /// <summary>Names by number, <c>{"0": "no", "1": "yes"}</c>, without a gap; empty where the key is absent.</summary>
    public IReadOnlyList<string> Names(string key)
    {
        if (Find(key) is not { } value)
            return [];
        if (value.ValueKind != JsonValueKind.Object)
            throw Wrong(key, value, "an object of names by number");
        var count = value.EnumerateObject().Count();
        return [.. Enumerable.Range(0, count).Select(i =>
            value.TryGetProperty(i.ToString(CultureInfo.InvariantCulture), out var name) && name.ValueKind == JsonValueKind.String
                ? name.GetString()! : throw Wrong(key, value, $"names for 0 to {count - 1}"))];
    }

    public double Double(string key, double fallback) =>
        Find(key) is not { } value ? fallback
        : value.ValueKind == JsonValueKind.Number ? value.GetDouble()
        : throw Wrong(key, value, "a number");

    /// <summary>Of any kind; null when the key is absent.</summary>
    public JsonElement? Value(string key) => Find(key);

    /// <summary>Refuses a setting that would change the results and is not built.</summary>
    public void Require(string key, bool expected)
    {
        if (Bool(key, expected) != expected)
            throw Fault.Model(File, key, $"is {!expected}, which is not supported (only {expected})");
    }

    /// <summary>Refuses any other value of a setting; an absent one means this one.</summary>
    public void Require(string key, string expected)
    {
        if (String(key, expected) is var value && value != expected)
            throw Fault.Model(File, key, $"is '{value}', which is not supported (only {expected})");
    }

    /// <summary>Refuses a setting that would change the results and is not built; absent, false, [] and {} mean none.</summary>
    public void RequireAbsent(string key, string why)
    {
        if (Find(key) is { } value && value.ValueKind != JsonValueKind.False && value.GetRawText() is not ("[]" or "{}"))
            throw Fault.Model(File, key,
                $"is {(value.GetRawText() is { Length: <= 40 } text ? text : "set")}, which is not supported; {why}");
    }

    private JsonElement? Find(string key) =>
        _over.TryGetValue(key, out var first) ? first
        : InFile(key)
            ?? _aliases.Where(alias => alias.Key == key).Select(alias => InFile(alias.Alias)).FirstOrDefault(value => value is not null)
            ?? (_or.TryGetValue(key, out var last) ? last : null);

    private JsonElement? InFile(string key) =>
        _root.TryGetProperty(key, out var value) && value.ValueKind != JsonValueKind.Null ? value : null;

    private static Dictionary<string, JsonElement> With(IReadOnlyDictionary<string, JsonElement> keys, string key, ConfigFile other)
    {
        var more = new Dictionary<string, JsonElement>(keys);
        if (other.Find(key) is { } value)
            more[key] = value;
        return more;
    }

    private MendException Missing(string key) => Fault.Model(File, key, "is missing");

    private MendException Wrong(string key, JsonElement value, string expected) =>
        Fault.Model(File, key, $"is {value.GetRawText()}, expected {expected}");
}
