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
    /// <inheritdoc />
    public IReadOnlyDictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        using var _ = no_grad();
        return ProposeWithGraph(factors);
    }

    /// <summary>As <see cref="Propose"/>, with the graph to phi and alpha. No gradient flows into u, delta or the statistics.</summary>
    public IReadOnlyDictionary<string, LowRankUpdate> ProposeWithGraph(IReadOnlyDictionary<string, GradientFactors> factors) =>
        Transform(Checked(factors).ToDictionary(entry => entry.Name, entry => Normalise(entry.Name, entry.Factors)));

    /// <summary>The updates of a training step, with the graph: the rows first enter the statistics, then are normalised by them.</summary>
    public IReadOnlyDictionary<string, LowRankUpdate> ProposeForTraining(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        var ordered = Checked(factors);
        if (!Options.Reference) // all rows first: the result then depends on no order
            ordered.ForEach(entry => AddToStatistics(entry.Name, entry.Factors));
        var normalised = new Dictionary<string, GradientFactors>();
        foreach (var (name, rows) in ordered)
        {
            if (Options.Reference)
                AddToStatistics(name, rows);
            normalised[name] = Normalise(name, rows);
        }
        return Transform(normalised);
    }

    /// <summary>Section 3.2: each entry by the mean and deviation of its place, over all rows that training saw.</summary>
    private GradientFactors Normalise(string weight, GradientFactors factors) =>
        Options.Norm ? new(_shapes[weight].U.Normalise(factors.u), _shapes[weight].Delta.Normalise(factors.delta)) : factors;

    private void AddToStatistics(string weight, GradientFactors factors)
    {
        _shapes[weight].U.Add(factors.u);
        _shapes[weight].Delta.Add(factors.delta);
    }

    /// <summary>
    /// Equation 3 and the update: the networks over the rows of all weights of a shape in one product, then each weight's own rows and
    /// alpha.
    /// </summary>
    /// <param name="normalised">(u [R, m], delta [R, n]) by weight, in configuration order.</param>
    private Dictionary<string, LowRankUpdate> Transform(Dictionary<string, GradientFactors> normalised)
    {
        var updates = new Dictionary<string, LowRankUpdate>();
        foreach (var (shape, weights) in normalised.Keys.GroupBy(name => _shapes[name]).Select(names => (names.Key, names.ToList())))
        {
            var u = cat(weights.Select(name => normalised[name].u).ToList(), 0);         // [N, m]
            var delta = cat(weights.Select(name => normalised[name].delta).ToList(), 0); // [N, n]
            var modes = cat(weights.Select(name => shape.Group.Modes(name, normalised[name].u.shape[0], u.device)).ToList(), 0); // [N]
            var (uTilde, deltaTilde) = shape.Networks.Forward(u, delta, modes);
            long row = 0;
            foreach (var name in weights)
            {
                var rows = normalised[name].u.shape[0];
                var alpha = Alpha.select(0, IndexOf(name));
                updates[name] = new(uTilde.narrow(0, row, rows), deltaTilde.narrow(0, row, rows),
                    Options.Reference ? -alpha : alpha); // the published code adds the update; the paper subtracts it
                row += rows;
            }
        }
        return updates;
    }

    /// <summary>The factors in configuration order.</summary>
    private List<(string Name, GradientFactors Factors)> Checked(IReadOnlyDictionary<string, GradientFactors> factors) =>
        factors.Keys.FirstOrDefault(name => !_shapes.ContainsKey(name)) is { } unknown
            ? throw Fault.Editor($"this editor was not made for weight '{unknown}'; it edits {string.Join(", ", Weights.Select(w => w.Name))}")
            : [.. Weights.Where(weight => factors.ContainsKey(weight.Name)).Select(weight => (weight.Name, factors[weight.Name]))];

    private readonly IReadOnlyList<SharedEditor> _editors;
    private readonly Dictionary<string, SharedEditor> _shapes;   // by weight
    private readonly Dictionary<string, long> _indices;

    /// <summary>An editor to be trained.</summary>
    /// <param name="weights">In configuration order, which numbers the modes and the entries of alpha.</param>
    /// <param name="seed">Of V.</param>
    /// <param name="wanted">The weights whose networks are needed, for a stage that holds some of them; null: all.</param>
    /// <param name="device">Null: the CPU.</param>
    public Mend(MendOptions options, IReadOnlyList<EditableWeight> weights, long seed, IReadOnlyCollection<string>? wanted = null,
        Device? device = null)
        : this(options, weights, NewTensor.Full([weights.Count], options.EditLr, device: device), wanted, (group, where) =>
        {
            var generator = new Generator((ulong)seed + (ulong)group.Index);
            return new(group, new(group.InFeatures, where), new(group.OutFeatures, where),
                EditorNetworks.Make(options, group, (_, width, modes) => new EditorNetwork(options, width, modes, generator, where)));
        })
    {
    }

    /// <summary>A trained editor.</summary>
    /// <param name="read">A saved tensor by name, as <see cref="State"/> names them. The editor is on the device that they are on.</param>
    /// <param name="wanted">The weights whose networks are needed, for a stage that holds some of them; null: all.</param>
    public Mend(MendOptions options, IReadOnlyList<EditableWeight> weights, Func<string, Tensor> read,
        IReadOnlyCollection<string>? wanted = null)
        : this(options, weights, read("edit_lrs"), wanted, (group, where) =>
        {
            var count = read($"mend.{group.Key}.k").to_type(ScalarType.Float64).Host().item<double>();
            var rows = double.IsNaN(count) ? 0 : (long)count; // the published code marks "no rows yet" by NaN
            RunningStatistics Statistics(string side, long dimensions) => rows == 0
                ? new(dimensions, where)
                : new(rows, read($"mend.{group.Key}.{side}_mean"), read($"mend.{group.Key}.{side}_s"));
            return new(group, Statistics("u", group.InFeatures), Statistics("v", group.OutFeatures),
                EditorNetworks.Make(options, group,
                (part, _, modes) => new EditorNetwork(options, modes, name => read($"mend.{group.Key}.{part}.{name}"))));
        })
    {
    }

    private Mend(MendOptions options, IReadOnlyList<EditableWeight> weights, Tensor alpha, IReadOnlyCollection<string>? wanted,
        Func<WeightGroup, Device, SharedEditor> make)
    {
        Options = options.Validated();
        Weights = weights;
        Alpha = alpha.to_type(ScalarType.Float32).detach().clone().requires_grad_().DetachFromDisposeScope();
        if (weights.Count == 0)
            throw Fault.Setting("an editor needs at least one editable weight");
        if (Alpha.shape[0] != weights.Count)
            throw Fault.Editor($"edit_lrs has {Alpha.shape[0]} entries for {weights.Count} editable weights");
        _editors = [.. WeightGroup.Of(weights, options.Shared).Where(group => wanted is null || group.Weights.Any(wanted.Contains))
            .Select(group => make(group, Alpha.device))];
        _shapes = _editors.SelectMany(editor => editor.Group.Weights.Select(weight => (weight, editor)))
            .ToDictionary(entry => entry.weight, entry => entry.editor);
        _indices = weights.Select((weight, index) => (weight.Name, (long)index)).ToDictionary();
    }

    /// <summary>Bytes of the networks and statistics that a stage with some of the weights holds; nothing is made.</summary>
    /// <param name="weights">Of the whole editor.</param>
    /// <param name="wanted">Names of those in the stage: each brings the network of its shape, once.</param>
    public static long BytesOf(MendOptions options, IReadOnlyList<EditableWeight> weights, IReadOnlyCollection<string> wanted)
    {
        long bytes = 0;
        foreach (var group in WeightGroup.Of(weights, options.Shared).Where(group => group.Weights.Any(wanted.Contains)))
        {
            var (m, n, modes) = (group.InFeatures, group.OutFeatures, options.Shared ? group.Weights.Count : 0);
            long[] widths = options.Sides switch
            {
                EditorSides.Combined => [m + n],
                EditorSides.Separate => [m, n],
                EditorSides.UOnly => [m],
                EditorSides.DeltaOnly => [n],
                _ => [Math.Min(m, n)],
            };
            bytes += widths.Sum(d => sizeof(float) * (options.NHidden + 1) * (2 * d * Math.Min(options.Rank, d) + d + 2 * modes * d));
            bytes += 2 * sizeof(double) * (m + n); // mean and squares
        }
        return bytes;
    }

    public MendOptions Options { get; }

    /// <inheritdoc />
    public EditorAlgorithm Algorithm => EditorAlgorithm.Mend;

    object IStoredEditor.Options => Options;

    /// <summary>In configuration order.</summary>
    public IReadOnlyList<EditableWeight> Weights { get; }

    /// <summary>alpha of every weight, in the order of <see cref="Weights"/>. No positivity constraint. [K] float32.</summary>
    public Tensor Alpha { get; }

    /// <summary>The entry of <see cref="Alpha"/> that is a weight's.</summary>
    public long IndexOf(string weight) => _indices[weight];

    /// <summary>phi: the parameters of all networks, without alpha, by the names of the authors' checkpoints.</summary>
    public IEnumerable<(string Name, Tensor Value)> Parameters => Shapes.SelectMany(shape => shape.Parameters);

    /// <summary>What is shared by all weights of a shape, shape by shape (of one weight each, when nothing is shared).</summary>
    public IReadOnlyList<EditorShape> Shapes =>
    [
        .. _editors.Select(editor =>
            new EditorShape(editor.Group.Key, editor.Group.Weights, editor.U, editor.Delta, [.. editor.Networks.All.SelectMany(
            network => network.Network.Parameters.Select(parameter =>
            ($"mend.{editor.Group.Key}.{network.Name}.{parameter.Name}", parameter.Value)))])),
    ];

    /// <summary>alpha.</summary>
    public IEnumerable<(string Name, Tensor Value)> StepSizes => [("edit_lrs", Alpha)];

    /// <summary>All that makes this editor: alpha, statistics and phi, for a checkpoint.</summary>
    public IEnumerable<(string Name, Tensor Value)> State
    {
        get
        {
            yield return ("edit_lrs", Alpha);
            foreach (var editor in _editors)
            {
                yield return ($"mend.{editor.Group.Key}.k", tensor(new[] { editor.U.Count }, device: CPU));
                yield return ($"mend.{editor.Group.Key}.u_mean", editor.U.Mean);
                yield return ($"mend.{editor.Group.Key}.v_mean", editor.Delta.Mean);
                yield return ($"mend.{editor.Group.Key}.u_s", editor.U.Squares);
                yield return ($"mend.{editor.Group.Key}.v_s", editor.Delta.Squares);
            }
            foreach (var parameter in Parameters)
                yield return parameter;
        }
    }

    public void Dispose()
    {
        Alpha.Dispose();
        foreach (var editor in _editors)
        {
            editor.U.Dispose();
            editor.Delta.Dispose();
            foreach (var (_, network) in editor.Networks.All)
                network.Dispose();
        }
    }

    /// <summary>What the weights of a group share.</summary>
    private sealed record SharedEditor(WeightGroup Group, RunningStatistics U, RunningStatistics Delta, EditorNetworks Networks);

    /// <summary>The networks of one shape: over [u | delta], over u, over delta; what is absent leaves its factor as it is.</summary>
    private sealed record EditorNetworks(EditorNetwork? Combined, EditorNetwork? OverU, EditorNetwork? OverDelta)
    {
        /// <summary>The networks that <see cref="MendOptions.Sides"/> asks for.</summary>
        /// <param name="make">One by its name in the checkpoint, width and number of modes.</param>
        public static EditorNetworks Make(MendOptions options, WeightGroup group, Func<string, long, int, EditorNetwork> make)
        {
            var modes = options.Shared ? group.Weights.Count : 0;
            var (m, n) = (group.InFeatures, group.OutFeatures);
            return options.Sides switch
            {
                EditorSides.Combined => new(make("mlp", m + n, modes), null, null),
                EditorSides.Separate => new(null, make("mlp1", m, modes), make("mlp2", n, modes)),
                EditorSides.UOnly => new(null, make("mlp1", m, modes), null),
                EditorSides.DeltaOnly => new(null, null, make("mlp2", n, modes)),
                EditorSides.Smaller when m > n => new(null, null, make("mlp2", n, modes)),
                _ => new(null, make("mlp1", m, modes), null),
            };
        }

        public IEnumerable<(string Name, EditorNetwork Network)> All
        {
            get
            {
                if (Combined is not null)
                    yield return ("mlp", Combined);
                if (OverU is not null)
                    yield return ("mlp1", OverU);
                if (OverDelta is not null)
                    yield return ("mlp2", OverDelta);
            }
        }

        public (Tensor uTilde, Tensor deltaTilde) Forward(Tensor u, Tensor delta, Tensor modes)
        {
            if (Combined is null)
                return (OverU?.Forward(u, modes) ?? u, OverDelta?.Forward(delta, modes) ?? delta);
            var output = Combined.Forward(cat([u, delta], 1), modes); // [N, m + n]
            return (output.narrow(1, 0, u.shape[1]), output.narrow(1, u.shape[1], delta.shape[1]));
        }
    }
}

/// <summary>What an editor has for the weights of one shape.</summary>
/// <param name="Weights">In configuration order.</param>
/// <param name="U">Statistics of u.</param>
/// <param name="Delta">Statistics of delta.</param>
/// <param name="Parameters">phi, by the names of the authors' checkpoints.</param>
public sealed record EditorShape(
    string Key, IReadOnlyList<string> Weights, RunningStatistics U, RunningStatistics Delta,
    IReadOnlyList<(string Name, Tensor Value)> Parameters);
