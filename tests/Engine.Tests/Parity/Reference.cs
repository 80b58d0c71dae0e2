using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Parity;

/// <summary>
/// How far a result may lie from the published code's, per kind of quantity. From the float32 noise of the reference itself (its float32
/// run against its float64 run) with room for another order of summation.
/// </summary>
internal static class Tolerance
{
    /// <summary>Absolute, at unpadded positions. Noise 1.4e-5.</summary>
    public const double Logits = 2e-4;

    /// <summary>Absolute. Noise 1.6e-6.</summary>
    public const double Loss = 2e-5;

    /// <summary>Of the tensor's largest entry. Noise 3.4e-6.</summary>
    public const double Factors = 3e-5;

    /// <summary>Of the tensor's largest entry. Noise 1.9e-5.</summary>
    public const double Gradient = 1e-4;

    /// <summary>Of the tensor's largest entry; Adam's first steps are sign-like, tiny gradients make noise.</summary>
    public const double AfterAdam = 5e-3;

    /// <summary>
    /// Of the tensor's largest entry; a first step is the gradient's sign. Noise 7e-5, and of the one entry in 1,386 whose gradient is next
    /// to nothing 3e-3 (AVX2) or 5e-3 (AVX-512).
    /// </summary>
    public const double AfterRmsProp = 1e-2;
}

/// <summary>A pair NAME.json and NAME.safetensors of the fixtures.</summary>
internal sealed class Reference : IDisposable
{
    private readonly SafetensorsFile _file;

    /// <summary>Where models and editors are compared: MEND_TEST_DEVICE, otherwise the CPU.</summary>
    public static Device Device { get; } =
        Devices.Of(Environment.GetEnvironmentVariable("MEND_TEST_DEVICE") is { Length: > 0 } name ? name : "cpu");

    public Reference(string path)
    {
        Path = path;
        Json = JsonDocument.Parse(File.ReadAllText(path + ".json")).RootElement;
        _file = SafetensorsFile.Open(path + ".safetensors");
    }

    public string Path { get; }

    public JsonElement Json { get; }

    public IEnumerable<string> Names => _file.Entries.Keys;

    /// <summary>On the host.</summary>
    public Tensor this[string name] => TensorBytes.Load(_file.Find(name));

    /// <summary>On <see cref="Device"/>: of an editor.</summary>
    public Tensor There(string name) => this[name].On(Device);

    public bool Has(string name) => _file.Entries.ContainsKey(name);

    /// <summary>The batch under a prefix such as <c>eval1/batch/loc/</c>.</summary>
    public LabelledInput Batch(string prefix, ModelFamily family)
    {
        var labels = this[prefix + "labels"];
        Tensor? Optional(string name) => Has(prefix + name) ? this[prefix + name] : null;
        var decoder = Optional("decoder_input_ids")
            ?? (family.DecoderStartId is { } start ? ShiftRight(labels, start, family.PadId) : null);
        return new(new(this[prefix + "input_ids"], this[prefix + "attention_mask"], decoder, Optional("decoder_attention_mask")), labels);
    }

    public EditBatch EditBatch(string prefix, ModelFamily family) =>
        new(Batch(prefix + "edit_inner/", family), Batch(prefix + "edit_outer/", family), Batch(prefix + "loc/", family));

    /// <summary>The settings of an editor's configuration section.</summary>
    public static MendOptions Options(JsonElement mend, bool reference = true)
    {
        bool Is(string name) => mend.GetProperty(name).GetBoolean();
        return new()
        {
            Rank = mend.GetProperty("rank").GetInt32(),
            NHidden = mend.GetProperty("n_hidden").GetInt32(),
            Init = mend.GetProperty("init").GetString() == "id" ? EditorInit.Identity : EditorInit.Xavier,
            Norm = Is("norm"),
            Shared = Is("shared"),
            Sides = Is("one_sided") ? EditorSides.Smaller
                : Is("x_only") ? EditorSides.UOnly
                : Is("delta_only") ? EditorSides.DeltaOnly
                : Is("combine") ? EditorSides.Combined
                : EditorSides.Separate,
            Reference = reference,
        };
    }

    /// <summary>The model of the fixtures, whole, float32, with the given weights editable.</summary>
    /// <param name="device">Null: <see cref="Device"/>.</param>
    public static Stage Model(string name, IReadOnlyCollection<string>? editable = null, Device? device = null)
    {
        var folder = System.IO.Path.Combine(FixtureFolder.Path, name);
        using var directory = HuggingFaceDirectory.Open(folder);
        return Stage.LoadWhole(ModelFamily.FromDirectory(folder), new CheckpointWeights(directory, ScalarType.Float32, device ?? Device),
            editable);
    }

    public IReadOnlyList<string> Strings(string key) => [.. Json.GetProperty(key).EnumerateArray().Select(item => item.GetString()!)];

    public void Dispose() => _file.Dispose();

    /// <summary>Logits as one row a position; a classifier's have one position already.</summary>
    public static Tensor Rows(Tensor logits) => logits.reshape(-1, logits.shape[^1]);

    /// <summary>The published fact checker has one logit where this one has [0, logit].</summary>
    public static Tensor Comparable(Tensor logits, Tensor expected) =>
        expected.shape[^1] == 1 ? logits.narrow(1, 1, 1) - logits.narrow(1, 0, 1) : logits;

    /// <summary>Fails with the tensor's name, the largest difference and the tolerance.</summary>
    /// <param name="relative">Of the expected tensor's largest entry; otherwise the tolerance is absolute.</param>
    public static void Same(string what, Tensor expected, Tensor actual, double tolerance, bool relative = true)
    {
        Assert.True(expected.shape.SequenceEqual(actual.shape),
            $"{what}: shape [{string.Join(", ", actual.shape)}], expected [{string.Join(", ", expected.shape)}]");
        if (expected.numel() == 0)
            return;
        using var scope = NewDisposeScope();
        var wanted = expected.detach().Host().to_type(ScalarType.Float64);
        var difference = (wanted - actual.detach().Host().to_type(ScalarType.Float64)).abs().max().item<double>();
        var allowed = relative ? tolerance * wanted.abs().max().item<double>() + 1e-12 : tolerance;
        Assert.True(difference <= allowed, $"{what}: largest difference {difference:g3}, tolerance {allowed:g3}");
    }

    public static void Same(string what, double expected, double actual, double tolerance) =>
        Assert.True(Math.Abs(expected - actual) <= tolerance, $"{what}: {actual:g9}, expected {expected:g9}, tolerance {tolerance:g3}");

    private static Tensor ShiftRight(Tensor labels, int start, int pad)
    {
        var shifted = cat([NewTensor.Full([labels.shape[0], 1], start, ScalarType.Int64), labels.narrow(1, 0, labels.shape[1] - 1)], 1);
        return where(shifted.Eq(ScoredPositions.Ignored), NewTensor.Full(shifted.shape, pad, ScalarType.Int64), shifted);
    }
}

/// <summary>What the fixture folder holds of the families that are built.</summary>
internal static class Fixtures
{
    /// <summary>Runs of the baselines whose file names fit a pattern, e.g. <c>ke_*.json</c>.</summary>
    public static TheoryData<string> Baselines(string pattern) => Data(
        from file in Directory.EnumerateFiles(System.IO.Path.Combine(FixtureFolder.Path, "baselines"), pattern)
        let model = JsonDocument.Parse(File.ReadAllText(file)).RootElement.GetProperty("model").GetString()!
        where IsSupported(System.IO.Path.Combine(FixtureFolder.Path, model))
        select "baselines/" + System.IO.Path.GetFileNameWithoutExtension(file));

    public static TheoryData<string> Models => Data(Directory.EnumerateDirectories(System.IO.Path.Combine(FixtureFolder.Path, "models"))
        .Where(IsSupported).Select(folder => "models/" + System.IO.Path.GetFileName(folder)));

    public static TheoryData<string> Editors => Data(Configurations(name => name != "loop"));

    public static TheoryData<string> Loops => Data(Configurations(name => name == "loop"));

    private static IEnumerable<string> Configurations(Func<string, bool> wanted) =>
        from folder in Directory.EnumerateDirectories(System.IO.Path.Combine(FixtureFolder.Path, "mend"))
        from file in Directory.EnumerateFiles(folder, "*.json")
        let name = System.IO.Path.GetFileNameWithoutExtension(file)
        where wanted(name) && File.Exists(System.IO.Path.ChangeExtension(file, ".safetensors"))
        let model = JsonDocument.Parse(File.ReadAllText(file)).RootElement.GetProperty("model").GetString()!
        where IsSupported(System.IO.Path.Combine(FixtureFolder.Path, model))
        select $"mend/{System.IO.Path.GetFileName(folder)}/{name}";

    private static bool IsSupported(string model) =>
        ModelFamily.SupportedTypes.Contains(ConfigFile.Read(System.IO.Path.Combine(model, "config.json")).String("model_type", ""));

    private static TheoryData<string> Data(IEnumerable<string> names)
    {
        var data = new TheoryData<string>();
        foreach (var name in names.Order(StringComparer.Ordinal))
            data.Add(name);
        return data;
    }
}
