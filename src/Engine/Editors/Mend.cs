using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>
/// MEND (Mitchell et al., ICLR 2022, section 3): learned networks turn the factors of a fine-tuning gradient into those of a better
/// update. For a weight with gradient delta^T u: normalise u and delta by running statistics, pass [u | delta] through the network of
/// the weight's shape, split into uTilde and deltaTilde, and take W' = W - alpha deltaTilde^T uTilde.
/// m in-features, n out-features, R kept rows of a weight, N rows of all weights of a shape.
/// </summary>
public sealed class Mend : IPreparedEditor
{
    private readonly IReadOnlyDictionary<string, EditorShape> _shapes; // by weight
    private readonly Dictionary<string, long> _indices;

    /// <inheritdoc />
    public IReadOnlyDictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        using var _ = no_grad();
        return Transform(Normalise(factors));
    }

    /// <summary>The networks take row by row: the rows of all edits go through them in one product.</summary>
    public IReadOnlyList<IReadOnlyDictionary<string, LowRankUpdate>> ProposeEach(
        IReadOnlyList<IReadOnlyDictionary<string, GradientFactors>> edits)
    {
        var together = Propose(edits[0].Keys.ToDictionary(weight => weight, weight =>
            new GradientFactors(cat([.. edits.Select(edit => edit[weight].u)], 0), cat([.. edits.Select(edit => edit[weight].delta)], 0))));
        var next = together.ToDictionary(update => update.Key, _ => 0L);
        return [.. edits.Select(edit => together.ToDictionary(update => update.Key, update =>
        {
            var (first, rows) = (next[update.Key], edit[update.Key].u.shape[0]);
            next[update.Key] += rows;
            return update.Value with
            {
                uTilde = update.Value.uTilde.narrow(0, first, rows),
                deltaTilde = update.Value.deltaTilde.narrow(0, first, rows),
            };
        }))];
    }

    /// <summary>
    /// The updates of a training step, with the graph to phi and alpha: the rows first enter the statistics, then are normalised by them.
    /// No gradient flows into u, delta or the statistics.
    /// </summary>
    public IReadOnlyDictionary<string, LowRankUpdate> ProposeForTraining(IReadOnlyDictionary<string, GradientFactors> factors) =>
        Transform(NormaliseForTraining(factors));

    /// <summary>Section 3.2: each entry by the mean and deviation of its place, over all rows that training saw.</summary>
    /// <returns>(u [R, m], delta [R, n]) by weight, in configuration order.</returns>
    public IReadOnlyDictionary<string, GradientFactors> Normalise(IReadOnlyDictionary<string, GradientFactors> factors) =>
        InOrder(factors).ToDictionary(entry => entry.Name, entry => Normalise(entry.Name, entry.Factors));

    /// <summary>The same of a training step's rows, by statistics that have them.</summary>
    private Dictionary<string, GradientFactors> NormaliseForTraining(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        var ordered = InOrder(factors);
        if (!Options.Reference) // all rows first: the result then depends on no order
            ordered.ForEach(entry => AddToStatistics(entry.Name, entry.Factors));
        var normalised = new Dictionary<string, GradientFactors>();
        foreach (var (name, rows) in ordered)
        {
            if (Options.Reference)
                AddToStatistics(name, rows);
            normalised[name] = Normalise(name, rows);
        }
        return normalised;
    }

    private GradientFactors Normalise(string weight, GradientFactors factors) =>
        Options.Norm ? new(_shapes[weight].U.Normalise(factors.u), _shapes[weight].Delta.Normalise(factors.delta)) : factors;

    private void AddToStatistics(string weight, GradientFactors factors)
    {
        _shapes[weight].U.Add(factors.u);
        _shapes[weight].Delta.Add(factors.delta);
    }

    /// <summary>
    /// Equation 3 and the update, with the graph to phi and alpha: the networks over the rows of all weights of a shape in one product,
    /// then each weight's own rows and alpha.
    /// </summary>
    /// <param name="normalised">As <see cref="Normalise(IReadOnlyDictionary{string, GradientFactors})"/> gives them.</param>
    public IReadOnlyDictionary<string, LowRankUpdate> Transform(IReadOnlyDictionary<string, GradientFactors> normalised)
    {
        var updates = new Dictionary<string, LowRankUpdate>();
        foreach (var (shape, weights) in normalised.GroupBy(entry => _shapes[entry.Key]).Select(group => (group.Key, group.ToList())))
        {
            var u = cat([.. weights.Select(weight => weight.Value.u)], 0);         // [N, m]
            var delta = cat([.. weights.Select(weight => weight.Value.delta)], 0); // [N, n]
            var (uTilde, deltaTilde) = shape.Forward(u, delta, weights.Select(weight => (weight.Key, weight.Value.u.shape[0])));
            long row = 0;
            foreach (var (name, (own, _)) in weights)
            {
                var alpha = Alpha.select(0, IndexOf(name));
                updates[name] = new(uTilde.narrow(0, row, own.shape[0]), deltaTilde.narrow(0, row, own.shape[0]),
                    Options.Reference ? -alpha : alpha); // the published code adds the update; the paper subtracts it
                row += own.shape[0];
            }
        }
        return updates;
    }

    /// <summary>The factors in configuration order.</summary>
    private List<(string Name, GradientFactors Factors)> InOrder(IReadOnlyDictionary<string, GradientFactors> factors) =>
        factors.Keys.FirstOrDefault(name => !_shapes.ContainsKey(name)) is { } unknown
            ? throw Fault.Editor($"this editor was not made for weight '{unknown}'; it edits {string.Join(", ", Weights.Select(w => w.Name))}")
            : [.. Weights.Where(weight => factors.ContainsKey(weight.Name)).Select(weight => (weight.Name, factors[weight.Name]))];

    /// <summary>An editor to be trained.</summary>
    /// <param name="weights">In configuration order, which numbers the modes and the entries of alpha.</param>
    /// <param name="seed">Of V.</param>
    /// <param name="wanted">The weights whose networks are needed, for a stage that holds some of them; null: all.</param>
    /// <param name="device">Null: the CPU.</param>
    public Mend(MendOptions options, IReadOnlyList<EditableWeight> weights, long seed, IReadOnlyCollection<string>? wanted = null,
        Device? device = null)
        : this(options, weights, NewTensor.Full([weights.Count], options.EditLr, device: device),
            WeightGroup.Of(weights, options.Shared, wanted).Select(group => new EditorShape(options, group, seed, device ?? CPU)))
    {
    }

    /// <summary>A trained editor.</summary>
    /// <param name="read">A saved tensor by name, as <see cref="State"/> names them. The editor is on the device that they are on.</param>
    /// <param name="wanted">The weights whose networks are needed, for a stage that holds some of them; null: all.</param>
    public Mend(MendOptions options, IReadOnlyList<EditableWeight> weights, Func<string, Tensor> read,
        IReadOnlyCollection<string>? wanted = null)
        : this(options, weights, read("edit_lrs"),
            WeightGroup.Of(weights, options.Shared, wanted).Select(group => new EditorShape(options, group, read)))
    {
    }

    /// <param name="shapes">Made one by one, after everything else was found to be right.</param>
    private Mend(MendOptions options, IReadOnlyList<EditableWeight> weights, Tensor alpha, IEnumerable<EditorShape> shapes)
    {
        Options = options.Validated();
        Weights = weights;
        Alpha = alpha.KeptCopy(ScalarType.Float32).requires_grad_();
        if (weights.Count == 0)
            throw Fault.Setting("an editor needs at least one editable weight");
        if (Alpha.shape[0] != weights.Count)
            throw Fault.Editor($"edit_lrs has {Alpha.shape[0]} entries for {weights.Count} editable weights");
        Shapes = [.. shapes];
        _shapes = WeightGroup.ByWeight(Shapes, shape => shape.Weights);
        _indices = weights.Select((weight, index) => (weight.Name, (long)index)).ToDictionary();
    }

    /// <summary>Bytes of the networks and statistics that a stage with some of the weights holds; nothing is made.</summary>
    /// <param name="weights">Of the whole editor.</param>
    /// <param name="wanted">Names of those in the stage: each brings the network of its shape, once.</param>
    public static long BytesOf(MendOptions options, IReadOnlyList<EditableWeight> weights, IReadOnlyCollection<string> wanted) =>
        WeightGroup.Of(weights, options.Shared, wanted).Sum(group => EditorShape.BytesOf(options, group));

    /// <summary>How many numbers the networks for these weights have; nothing is made.</summary>
    internal static long ParametersOf(MendOptions options, IReadOnlyList<EditableWeight> weights) =>
        WeightGroup.Of(weights, options.Shared).Sum(group => EditorShape.ParametersOf(options, group));

    public MendOptions Options { get; }

    /// <inheritdoc />
    public EditorAlgorithm Algorithm => EditorAlgorithm.Mend;

    object IStoredEditor.Options => Options;

    /// <summary>In configuration order.</summary>
    public IReadOnlyList<EditableWeight> Weights { get; }

    /// <summary>What is shared by all weights of a shape, shape by shape (of one weight each, when nothing is shared).</summary>
    public IReadOnlyList<EditorShape> Shapes { get; }

    /// <summary>alpha of every weight, in the order of <see cref="Weights"/>. No positivity constraint. [K] float32.</summary>
    public Tensor Alpha { get; }

    /// <summary>The entry of <see cref="Alpha"/> that is a weight's.</summary>
    public long IndexOf(string weight) => _indices[weight];

    /// <summary>phi: the parameters of all networks, without alpha, by the names of the authors' checkpoints.</summary>
    public IEnumerable<(string Name, Tensor Value)> Parameters => Shapes.SelectMany(shape => shape.Parameters);

    /// <summary>alpha.</summary>
    public IEnumerable<(string Name, Tensor Value)> StepSizes => [("edit_lrs", Alpha)];

    /// <summary>All that makes this editor: alpha, statistics and phi, for a checkpoint.</summary>
    public IEnumerable<(string Name, Tensor Value)> State =>
        StepSizes.Concat(Shapes.SelectMany(shape => shape.Statistics)).Concat(Parameters);

    public void Dispose()
    {
        Alpha.Dispose();
        foreach (var shape in Shapes)
            shape.Dispose();
    }
}
