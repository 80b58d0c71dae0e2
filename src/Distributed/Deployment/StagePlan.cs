using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;

namespace MendCluster.Distributed.Deployment;

/// <summary>What a plan is made for.</summary>
public sealed record StagePlanOptions
{
    public int Stages { get; init; } = 1;

    /// <summary>Of weights in memory: 4 for float32, 2 for bfloat16. Norms take 4 in any case.</summary>
    public int BytesPerWeight { get; init; } = 4;

    /// <summary>Bytes that each stage has; null: no limit.</summary>
    public long? Memory { get; init; }

    /// <summary>Of the editor, where there is no editor file to ask.</summary>
    public MendOptions Mend { get; init; } = new();

    /// <summary>As <see cref="EditableWeights.Select"/> takes them.</summary>
    public IReadOnlyList<string> Editable { get; init; } = [];

    /// <summary>Of an edit: prompt and target.</summary>
    public int Tokens { get; init; } = 32;

    /// <summary>Of an edit: its target.</summary>
    public int LabelledTokens { get; init; } = 10;

    /// <summary>Unrelated questions that every edit is tried on.</summary>
    public int Probes { get; init; } = 16;

    /// <summary>Operations a second that one stage's products reach in the type of the weights.</summary>
    public double Flops { get; init; } = 50e12;

    /// <summary>Operations a second that one stage's products reach in float32, which the editor's are in whatever the weights' type.</summary>
    public double EditorFlops { get; init; } = 20e12;

    /// <summary>Bytes a second at which one stage's memory is read.</summary>
    public double Bandwidth { get; init; } = 600e9;
}

/// <summary>One stage of a plan.</summary>
/// <param name="WeightBytes">In memory. A weight that two layers share counts once.</param>
/// <param name="EditorBytes">Networks and statistics of the stage's editable weights.</param>
/// <param name="ActivationBytes">An upper estimate for an edit with its probes.</param>
/// <param name="Operations">Of an edit: forward, back to the lowest editable layer, editor.</param>
/// <param name="Forward">Of an edit. Each part takes its operations or the reading of its weights, whichever is longer.</param>
/// <param name="Backward">Down to the lowest editable layer, without gradients of weights.</param>
/// <param name="Editor">Of an edit: MEND's networks.</param>
public sealed record PlannedStage(
    StageRange Range, string FirstLayer, string LastLayer, IReadOnlyList<string> Editable,
    long WeightBytes, long EditorBytes, long ActivationBytes, double Operations, TimeSpan Forward, TimeSpan Backward, TimeSpan Editor)
{
    public long Bytes => WeightBytes + EditorBytes + ActivationBytes;

    public TimeSpan EditTime => Forward + Backward + Editor;
}

/// <summary>
/// A model cut into pipeline stages that are even in bytes and operations, from its configuration and the headers of its checkpoint: what
/// a stage will hold and take, before a weight is read.
/// </summary>
public sealed class StagePlan
{
    /// <summary>
    /// Tensors of an activation's size that an edit's graph keeps at once, per linear map's input and output: measured on every family and
    /// rounded up. Most are the steps of the activation function.
    /// </summary>
    internal const int KeptInGraph = 4;

    /// <summary>
    /// What the cut reckons with: a model that has to be cut is held in 16 bits, and one model has one cut whatever its type.
    /// </summary>
    private const int BytesWhereItMatters = 2;

    private readonly StagePlanOptions _options;
    private readonly IReadOnlyList<LayerShape> _layers;
    private readonly IReadOnlyList<EditableWeight> _editable;
    private readonly long _vocabulary;
    private readonly int _lowestEditable;

    private StagePlan(ModelFamily family, IReadOnlyList<LayerShape> layers, IReadOnlyList<EditableWeight> editable,
        StagePlanOptions options)
    {
        (_options, _layers, _editable, _vocabulary) = (options, layers, editable, family.VocabularySize);
        if (options.Stages < 1 || options.Stages > layers.Count)
            throw Fault.Model("stages", $"{options.Stages}", $"this model has 1 to {layers.Count}");
        var names = editable.Select(weight => weight.Name).ToHashSet();
        var lowest = layers.ToList().FindIndex(layer => layer.Linears.Any(linear => names.Contains(linear.Name)));
        _lowestEditable = lowest < 0 ? layers.Count : lowest;
        var whole = Stage(new(0, layers.Count), BytesWhereItMatters);
        Ranges = StageRange.Split(layers.Count, options.Stages, range =>
        {
            var stage = Stage(range, BytesWhereItMatters);
            return (double)(stage.WeightBytes + stage.EditorBytes) / (whole.WeightBytes + whole.EditorBytes)
                + stage.Operations / whole.Operations;
        });
        Stages = [.. Ranges.Select(range => Stage(range, options.BytesPerWeight))];
    }

    public IReadOnlyList<StageRange> Ranges { get; }

    public IReadOnlyList<PlannedStage> Stages { get; }

    /// <summary>The stages that need more than they have.</summary>
    public IEnumerable<PlannedStage> TooLarge => Stages.Where(stage => stage.Bytes > _options.Memory);

    /// <summary>A plan for an editor of the options' kind.</summary>
    /// <exception cref="MendException">A number of stages or a selector of weights that the model does not have.</exception>
    public static StagePlan Of(ModelFamily family, StagePlanOptions options) => Of(family, LayerShape.Of(family), options);

    /// <summary>A plan for a directory. Reads config.json and the headers of the weights and of the editor.</summary>
    /// <param name="editor">Its file; null: an editor of the options' kind.</param>
    /// <exception cref="MendException">A weight is missing, or a file is damaged.</exception>
    public static StagePlan Read(string model, string? editor, StagePlanOptions options)
    {
        var family = ModelFamily.FromDirectory(model);
        using var files = HuggingFaceDirectory.Open(model);
        _ = LayerShape.Of(family, files); // a weight that is missing or of another shape is found here
        var layers = LayerShape.Of(family);
        if (editor is null)
            return Of(family, layers, options);
        using var checkpoint = EditorCheckpoint.Open(editor);
        checkpoint.RequireFit(family);
        return new(family, layers, checkpoint.Weights, options with { Mend = checkpoint.Options });
    }

    /// <summary>
    /// The cut that every stage of a cluster loads by: <see cref="Ranges"/> of <see cref="Read"/>'s plan. Asks the configuration and the
    /// editor's header alone: a stage need not have the other stages' files.
    /// </summary>
    /// <param name="editor">Its file; null: the model is asked and not edited.</param>
    public static IReadOnlyList<StageRange> Cut(ModelFamily family, int stages, string? editor)
    {
        using var checkpoint = editor is null ? null : EditorCheckpoint.Open(editor);
        return new StagePlan(family, LayerShape.Of(family), checkpoint?.Weights ?? [],
            new() { Stages = stages, Mend = checkpoint?.Options ?? new() }).Ranges;
    }

    private static StagePlan Of(ModelFamily family, IReadOnlyList<LayerShape> layers, StagePlanOptions options)
    {
        var linears = layers.SelectMany(layer => layer.Linears).ToDictionary(linear => linear.Name);
        return new(family, layers, [.. EditableWeights.Select(family, options.Editable)
            .Select(name => new EditableWeight(name, linears[name].InFeatures, linears[name].OutFeatures))], options);
    }

    private PlannedStage Stage(StageRange range, int bytesPerWeight)
    {
        var layers = Enumerable.Range(range.First, range.Count).Select(i => (Layer: _layers[i], InGraph: i >= _lowestEditable)).ToList();
        var held = layers.SelectMany(layer => layer.Layer.Linears).Select(linear => linear.Name).ToHashSet();
        var editable = _editable.Where(weight => held.Contains(weight.Name)).Select(weight => weight.Name).ToList();
        var editor = Mend.BytesOf(_options.Mend, _editable, editable);
        var weights = layers.SelectMany(layer => layer.Layer.Weights).DistinctBy(weight => weight.Key)
            .Sum(weight => weight.Value.Elements * (weight.Value.IsFloat32 ? 4 : bytesPerWeight));

        var operations = 0.0;
        double Seconds(double elements, double bytes, double rows, double flops)
        {
            operations += 2 * elements * rows;
            return Math.Max(2 * elements * rows / flops, bytes / _options.Bandwidth);
        }
        double Pass(LayerShape layer) => Seconds(Products(layer), (double)Products(layer) * bytesPerWeight,
            layer.IsHead ? _options.LabelledTokens : _options.Tokens, _options.Flops);
        var forward = layers.Sum(layer => Pass(layer.Layer));
        var backward = layers.Where(layer => layer.InGraph).Sum(layer => Pass(layer.Layer));
        // A network serves the rows of all weights of its shape at once.
        var edited = Seconds(editor / 4.0, editor, (double)_options.Tokens * editable.Count / Math.Max(1, Shapes(editable)),
            _options.EditorFlops);
        return new(range, layers[0].Layer.Name, layers[^1].Layer.Name, editable, weights, editor, Activations(layers), operations,
            TimeSpan.FromSeconds(forward), TimeSpan.FromSeconds(backward), TimeSpan.FromSeconds(edited));
    }

    private int Shapes(List<string> editable) =>
        _editable.Where(weight => editable.Contains(weight.Name)).DistinctBy(weight => (weight.InFeatures, weight.OutFeatures)).Count();

    /// <summary>Elements of the matrices that a token is multiplied by: an embedding is looked up.</summary>
    private static long Products(LayerShape layer) =>
        layer.IsHead ? layer.Weights.Values.Max(weight => weight.Elements)
        : layer.Linears.Sum(linear => linear.InFeatures * linear.OutFeatures);

    /// <summary>The larger of an edit's graph and of a trial on the edit and its probes, of which one layer at a time is at work.</summary>
    private long Activations(List<(LayerShape Layer, bool InGraph)> layers)
    {
        long Wide(LayerShape layer) => KeptInGraph * layer.Linears.Sum(linear => linear.InFeatures + linear.OutFeatures);
        var tried = (1L + _options.Probes) * _options.Tokens;
        var logits = layers[^1].Layer.IsHead ? _vocabulary : 0;
        var graph = layers.Where(layer => layer.InGraph).Sum(layer => Wide(layer.Layer)) * _options.Tokens
            + 4 * logits * _options.LabelledTokens;
        var trial = layers.Max(layer => Wide(layer.Layer)) * tried + 4 * logits * tried; // before and after, and their log-softmax
        return sizeof(float) * Math.Max(graph, trial);
    }
}
