using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>Layers [First, End) of a model.</summary>
public readonly record struct StageRange(int First, int End)
{
    public int Count => End - First;

    /// <summary>Cuts n layers into stages, in order, so that the costliest stage costs as little as can be.</summary>
    /// <param name="cost">Of a range as one stage.</param>
    public static IReadOnlyList<StageRange> Split(int layers, int stages, Func<StageRange, double> cost)
    {
        if (stages < 1 || stages > layers)
            throw new ArgumentOutOfRangeException(nameof(stages), stages, $"a model of {layers} layers has 1 to {layers} stages");
        // best[s][e]: the first e layers in s stages. Among cuts with the same costliest stage the evener one.
        var best = new (double Most, double Squares, int Cut)[stages + 1, layers + 1];
        for (var s = 1; s <= stages; s++)
            for (var end = s; end <= layers; end++)
            {
                best[s, end] = (double.PositiveInfinity, double.PositiveInfinity, 0);
                for (var cut = s - 1; cut < end && (s > 1 || cut == 0); cut++)
                {
                    var own = cost(new(cut, end));
                    var (most, squares, _) = best[s - 1, cut];
                    var candidate = (Math.Max(most, own), squares + own * own, cut);
                    if (candidate.CompareTo(best[s, end]) < 0)
                        best[s, end] = candidate;
                }
            }
        var ranges = new StageRange[stages];
        for (var (s, end) = (stages, layers); s > 0; end = best[s, end].Cut, s--)
            ranges[s - 1] = new(best[s, end].Cut, end);
        return ranges;
    }
}

/// <summary>
/// A contiguous range of a model's layers with their weights. Tensors that a method returns live in the caller's dispose scope.
/// </summary>
public sealed class Stage : IDisposable
{
    private readonly IReadOnlyList<Layer> _layers;
    private readonly int _lowestEditable, _highestEditable;

    private Stage(ModelFamily family, StageRange range, WeightSource weights, IReadOnlyList<Layer> layers,
        IReadOnlyDictionary<string, EditableLinear> editable, IReadOnlyList<string> editableOrder)
    {
        (Family, Range, Weights, _layers, Editable, EditableOrder) = (family, range, weights, layers, editable, editableOrder);
        List<int> withEditable = [.. Enumerable.Range(0, layers.Count).Where(i => layers[i].Linears.Any(linear => linear.IsEditable))];
        (_lowestEditable, _highestEditable) = withEditable.Count == 0 ? (layers.Count, layers.Count) : (withEditable[0], withEditable[^1]);
    }

    public ModelFamily Family { get; }

    public StageRange Range { get; }

    public WeightSource Weights { get; }

    /// <summary>Where the weights are, and all that the stage computes.</summary>
    public Device Device => Weights.Device;

    /// <summary>The maps of this stage that an editor may change, by weight name.</summary>
    public IReadOnlyDictionary<string, EditableLinear> Editable { get; }

    /// <summary>Their names in configuration order, which numbers an editor's modes.</summary>
    public IReadOnlyList<string> EditableOrder { get; }

    /// <summary>The head, when this is the last stage.</summary>
    public Head? Head => _layers[^1] as Head;

    /// <summary>Whether the stage above goes on with the source, not yet with what the decoder reads.</summary>
    public bool EndsInEncoder => _layers[^1].IsEncoder;

    /// <summary>The linear maps of the stage in forward order: all, or those from the lowest editable layer up.</summary>
    public IEnumerable<EditableLinear> Linears(bool all = true) =>
        _layers.Skip(all ? 0 : _lowestEditable).SelectMany(layer => layer.Linears);

    /// <summary>Whether activations of lower layers can be reused between passes that differ in their edits only.</summary>
    public bool HasEditable => Editable.Count > 0;

    /// <summary>Builds the layers of a range, reading their weights and no others.</summary>
    /// <param name="editable">Names of the weights that the editor may change, of the whole model; others are another stage's.</param>
    /// <param name="loaded">Told after each layer which fraction of them is read.</param>
    /// <exception cref="MendException">A name that is no linear map of the model's.</exception>
    public static Stage Load(
        ModelFamily family, StageRange range, WeightSource weights, IReadOnlyCollection<string> editable, Action<double>? loaded = null)
    {
        if (range.First < 0 || range.End > family.LayerNames.Count || range.Count < 1)
            throw Fault.Model("stage", range.ToString(), $"the model has layers 0 to {family.LayerNames.Count - 1}");
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var layers = new List<Layer>();
        for (var i = range.First; i < range.End; i++)
        {
            layers.Add(family.Build(i, weights));
            loaded?.Invoke((double)layers.Count / range.Count);
        }
        var wanted = editable.ToHashSet();
        var found = new Dictionary<string, EditableLinear>();
        foreach (var linear in layers.SelectMany(layer => layer.Linears).Where(linear => wanted.Contains(linear.Name)))
        {
            linear.IsEditable = true;
            found.Add(linear.Name, linear);
        }
        if (range.Count == family.LayerNames.Count && wanted.FirstOrDefault(name => !found.ContainsKey(name)) is { } unknown)
            throw Fault.Model("editable weights", unknown, $"is no linear map of this {family.Type} model; it has for example "
                + string.Join(", ", layers[^2].Linears.Select(linear => linear.Name)));
        return new(family, range, weights, layers, found, [.. editable.Where(found.ContainsKey)]);
    }

    /// <summary>The whole model as one stage.</summary>
    public static Stage LoadWhole(ModelFamily family, WeightSource weights, IReadOnlyCollection<string>? editable = null) =>
        Load(family, new(0, family.LayerNames.Count), weights, editable ?? family.DefaultEditableWeights);

    /// <summary>Runs the stage's layers.</summary>
    /// <param name="activations">The stage below's result; <see cref="Activations.None"/> for the first.</param>
    /// <param name="pass">A fresh pass.</param>
    public Activations Forward(Activations activations, ForwardContext pass) => ForwardEditable(ForwardFrozen(activations, pass), pass);

    /// <summary>Runs the stage's layers, with a graph no further than it is needed.</summary>
    /// <param name="needsInputGradient">Whether the gradient has to reach <paramref name="activations"/>.</param>
    /// <param name="keepsGraph">Whether it has to reach the editable layers.</param>
    public Activations Forward(Activations activations, ForwardContext pass, bool needsInputGradient, bool keepsGraph)
    {
        Activations frozen;
        using (set_grad_enabled(needsInputGradient))
            frozen = ForwardFrozen(activations, pass);
        using var _ = set_grad_enabled(keepsGraph);
        return ForwardEditable(frozen, pass);
    }

    /// <summary>
    /// The layers below the lowest editable one. Their result does not depend on edits, so one run, without grad, serves every pass over
    /// the same tokens.
    /// </summary>
    public Activations ForwardFrozen(Activations activations, ForwardContext pass) => Run(0, _lowestEditable, activations, pass);

    /// <summary>The lowest editable layer and all above it, over <see cref="ForwardFrozen"/>'s result.</summary>
    public Activations ForwardEditable(Activations activations, ForwardContext pass)
    {
        var result = Run(_lowestEditable, _layers.Count, activations, pass);
        pass.Cache?.Advance((pass.Input.DecoderInputIds ?? pass.Input.InputIds).shape[1]);
        return result;
    }

    /// <summary>Weights of the highest editable layer, in forward order; none where no layer is editable.</summary>
    public IReadOnlyList<string> HighestEditable =>
        [.. _layers.Skip(_highestEditable).Take(1).SelectMany(layer => layer.Linears).Where(linear => linear.IsEditable).Select(linear => linear.Name)];

    /// <summary>The layers below the highest editable one.</summary>
    public Activations ForwardBelowHighest(Activations activations, ForwardContext pass) => Run(0, _highestEditable, activations, pass);

    /// <summary>The highest editable layer and all above it, over <see cref="ForwardBelowHighest"/>'s result.</summary>
    public Activations ForwardFromHighest(Activations activations, ForwardContext pass) =>
        Run(_highestEditable, _layers.Count, activations, pass);

    /// <summary>Logits of some positions; the last stage only.</summary>
    /// <param name="top">What <see cref="ForwardEditable"/> returned.</param>
    /// <param name="rows">[N] int64, on the host, into the flattened [B * T] positions.</param>
    /// <returns>[N, V] float32.</returns>
    public Tensor Logits(Activations top, Tensor rows) =>
        Head!.Logits(top.Hidden!.reshape(-1, top.Hidden!.shape[2]).index_select(0, rows.On(Device)));

    private Activations Run(int first, int end, Activations activations, ForwardContext pass)
    {
        pass.Device = Device;
        foreach (var layer in _layers.Take(first..end).Where(layer => !(layer.IsEncoder && pass.ContinuesGeneration)))
        {
            // what a layer makes on its way goes with it: kept to the pass's end, it outgrows the weights
            using var scope = NewDisposeScope();
            var next = layer.Forward(activations, pass);
            foreach (var made in new[] { next.Hidden, next.Memory })
                if (made is not null && !ReferenceEquals(made, activations.Hidden) && !ReferenceEquals(made, activations.Memory))
                    made.MoveToOuterDisposeScope();
            activations = next;
        }
        return activations;
    }

    public void Dispose()
    {
        foreach (var weight in Weights.Loaded.Values)
            weight.Value.Dispose();
    }
}
