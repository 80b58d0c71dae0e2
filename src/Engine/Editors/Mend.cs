using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>
/// MEND (Mitchell et al., ICLR 2022, section 3): learned networks turn the factors of a fine-tuning gradient into those of a better
/// update. For a weight with gradient delta^T u: normalise u and delta by running statistics, pass [u | delta] through the network of
/// the weight's shape, split into uTilde and deltaTilde, and take W' = W - alpha deltaTilde^T uTilde.
/// m in-features, n out-features, R kept rows.
/// </summary>
public sealed class Mend : IPreparedEditor
{
    private readonly Dictionary<string, Member> _members = [];
    private readonly List<Group> _groups;

    /// <summary>An editor to be trained.</summary>
    /// <param name="weights">In configuration order, which numbers the modes and the entries of alpha.</param>
    /// <param name="seed">Of V.</param>
    /// <param name="wanted">The weights whose networks are needed, for a stage that holds some of them; null: all.</param>
    /// <param name="device">Null: the CPU.</param>
    public Mend(MendOptions options, IReadOnlyList<EditableWeight> weights, long seed, IReadOnlyCollection<string>? wanted = null, Device? device = null)
        : this(options, weights, NewTensor.Full([weights.Count], options.EditLr, device: device), name => wanted is null || wanted.Contains(name), (group, _, where) =>
        {
            var generator = new Generator((ulong)seed + (ulong)group.Index);
            return (new RunningStatistics(group.InFeatures, where), new RunningStatistics(group.OutFeatures, where),
                group.Networks(options, (_, width, modes) => new EditorNetwork(options, width, modes, generator, where)));
        })
    {
    }

    /// <summary>A trained editor.</summary>
    /// <param name="read">A saved tensor by name, as <see cref="State"/> names them. The editor is on the device that they are on.</param>
    /// <param name="wanted">The weights whose networks are needed, for a stage that holds some of them; null: all.</param>
    public Mend(MendOptions options, IReadOnlyList<EditableWeight> weights, Func<string, Tensor> read, IReadOnlyCollection<string>? wanted = null)
        : this(options, weights, read("edit_lrs"), name => wanted is null || wanted.Contains(name), (group, key, where) =>
        {
            var count = read($"mend.{key}.k").to_type(ScalarType.Float64).Host().item<double>();
            var rows = double.IsNaN(count) ? 0 : (long)count; // the published code marks "no rows yet" by NaN
            RunningStatistics Statistics(string side, long dimensions) => rows == 0
                ? new(dimensions, where)
                : new(rows, read($"mend.{key}.{side}_mean"), read($"mend.{key}.{side}_s"));
            return (Statistics("u", group.InFeatures), Statistics("v", group.OutFeatures),
                group.Networks(options, (part, _, modes) => new EditorNetwork(options, modes, name => read($"mend.{key}.{part}.{name}"))));
        })
    {
    }

    private Mend(MendOptions options, IReadOnlyList<EditableWeight> weights, Tensor alpha, Func<string, bool> isWanted,
        Func<Group, string, Device, (RunningStatistics U, RunningStatistics V, Networks Networks)> fill)
    {
        Options = options.Validated();
        Weights = weights;
        Alpha = alpha.to_type(ScalarType.Float32).detach().clone().requires_grad_().DetachFromDisposeScope();
        if (weights.Count == 0)
            throw new EditorException("an editor needs at least one editable weight");
        if (Alpha.shape[0] != weights.Count)
            throw new EditorException($"edit_lrs has {Alpha.shape[0]} entries for {weights.Count} editable weights");
        _groups = [.. weights.Select((weight, index) => (weight, index))
            .GroupBy(entry => Key(options, entry.weight))
            .Select((entries, index) => (Entries: entries, Index: index)) // of the whole editor: a part of it draws the same numbers
            .Where(shape => shape.Entries.Any(entry => isWanted(entry.weight.Name)))
            .Select(shape => new Group(shape.Index, shape.Entries.Key, shape.Entries.First().weight, shape.Entries.Count()))];
        foreach (var group in _groups)
        {
            (group.U, group.V, group.Parts) = fill(group, group.Key, Alpha.device);
            var mode = 0;
            for (var i = 0; i < weights.Count; i++)
                if (Key(options, weights[i]) == group.Key)
                    _members.Add(weights[i].Name, new(group, mode++, i));
        }
    }

    /// <summary>Bytes of the networks and statistics that a stage with some of the weights holds; nothing is made.</summary>
    /// <param name="weights">Of the whole editor.</param>
    /// <param name="wanted">Names of those in the stage: each brings the network of its shape, once.</param>
    public static long BytesOf(MendOptions options, IReadOnlyList<EditableWeight> weights, IReadOnlyCollection<string> wanted)
    {
        long bytes = 0;
        foreach (var group in weights.GroupBy(weight => Key(options, weight)).Where(group => group.Any(weight => wanted.Contains(weight.Name))))
        {
            var (m, n, modes) = (group.First().InFeatures, group.First().OutFeatures, options.Shared ? group.Count() : 0);
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
    public long IndexOf(string weight) => _members[weight].Index;

    /// <summary>phi: the parameters of all networks, without alpha, by the names of the authors' checkpoints.</summary>
    public IEnumerable<(string Name, Tensor Value)> Parameters => Shapes.SelectMany(shape => shape.Parameters);

    /// <summary>What is shared by all weights of a shape, shape by shape (of one weight each, when nothing is shared).</summary>
    public IReadOnlyList<EditorShape> Shapes =>
    [
        .. _groups.Select(group => new EditorShape(group.Key, [.. Weights.Where(weight => Key(Options, weight) == group.Key).Select(weight => weight.Name)], group.U, group.V,
            [.. group.Parts.All.SelectMany(network => network.Network.Parameters.Select(parameter => ($"mend.{group.Key}.{network.Name}.{parameter.Name}", parameter.Value)))])),
    ];

    /// <summary>alpha.</summary>
    public IEnumerable<(string Name, Tensor Value)> StepSizes => [("edit_lrs", Alpha)];

    /// <summary>All that makes this editor: alpha, statistics and phi, for a checkpoint.</summary>
    public IEnumerable<(string Name, Tensor Value)> State
    {
        get
        {
            yield return ("edit_lrs", Alpha);
            foreach (var group in _groups)
            {
                yield return ($"mend.{group.Key}.k", tensor(new[] { group.U.Count }, device: CPU));
                yield return ($"mend.{group.Key}.u_mean", group.U.Mean);
                yield return ($"mend.{group.Key}.v_mean", group.V.Mean);
                yield return ($"mend.{group.Key}.u_s", group.U.Squares);
                yield return ($"mend.{group.Key}.v_s", group.V.Squares);
            }
            foreach (var parameter in Parameters)
                yield return parameter;
        }
    }

    /// <inheritdoc />
    public IReadOnlyDictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        using var _ = no_grad();
        return Transform(factors, updatesStatistics: false);
    }

    /// <summary>
    /// The updates of a training step: the rows first enter the statistics, then are normalised by them. The result carries the graph to
    /// phi and alpha; no gradient flows into u, delta or the statistics.
    /// </summary>
    public IReadOnlyDictionary<string, LowRankUpdate> ProposeForTraining(IReadOnlyDictionary<string, GradientFactors> factors) =>
        Transform(factors, updatesStatistics: true);

    /// <summary>As <see cref="Propose"/>, with the graph to phi and alpha.</summary>
    public IReadOnlyDictionary<string, LowRankUpdate> ProposeWithGraph(IReadOnlyDictionary<string, GradientFactors> factors) =>
        Transform(factors, updatesStatistics: false);

    private Dictionary<string, LowRankUpdate> Transform(IReadOnlyDictionary<string, GradientFactors> factors, bool updatesStatistics)
    {
        if (factors.Keys.FirstOrDefault(name => !_members.ContainsKey(name)) is { } unknown)
            throw new EditorException($"this editor was not made for weight '{unknown}'; it edits {string.Join(", ", Weights.Select(w => w.Name))}");
        var ordered = Weights.Where(weight => factors.ContainsKey(weight.Name)).Select(weight => weight.Name).ToList();
        var normalised = new Dictionary<string, GradientFactors>();
        if (updatesStatistics && !Options.Reference) // all rows first: the result then depends on no order
            foreach (var name in ordered)
                AddToStatistics(name, factors[name]);
        foreach (var name in ordered)
        {
            if (updatesStatistics && Options.Reference)
                AddToStatistics(name, factors[name]);
            var (group, given) = (_members[name].Group, factors[name]);
            normalised[name] = Options.Norm ? new(group.U.Normalise(given.u), group.V.Normalise(given.delta)) : given;
        }

        var updates = new Dictionary<string, LowRankUpdate>();
        foreach (var names in ordered.GroupBy(name => _members[name].Group)) // rows of all weights of a shape in one product
        {
            var members = names.ToList();
            var u = cat(members.Select(name => normalised[name].u).ToList(), 0);         // [N, m]
            var delta = cat(members.Select(name => normalised[name].delta).ToList(), 0); // [N, n]
            var modes = cat(members.Select(name =>
                NewTensor.Full([normalised[name].u.shape[0]], (long)_members[name].Mode, ScalarType.Int64, u.device)).ToList(), 0); // [N]
            var (uTilde, deltaTilde) = names.Key.Parts.Forward(u, delta, modes);
            long row = 0;
            foreach (var name in members)
            {
                var rows = normalised[name].u.shape[0];
                var alpha = Alpha.select(0, _members[name].Index);
                updates[name] = new(uTilde.narrow(0, row, rows), deltaTilde.narrow(0, row, rows),
                    Options.Reference ? -alpha : alpha); // the published code adds the update; the paper subtracts it
                row += rows;
            }
        }
        return updates;
    }

    private void AddToStatistics(string name, GradientFactors factors)
    {
        _members[name].Group.U.Add(factors.u);
        _members[name].Group.V.Add(factors.delta);
    }

    public void Dispose()
    {
        Alpha.Dispose();
        foreach (var group in _groups)
        {
            group.U.Dispose();
            group.V.Dispose();
            foreach (var (_, network) in group.Parts.All)
                network.Dispose();
        }
    }

    /// <summary>What the authors' checkpoints call a transform: the shape when shared, the weight's name otherwise.</summary>
    private static string Key(MendOptions options, EditableWeight weight) =>
        options.Shared ? $"({weight.InFeatures}, {weight.OutFeatures})" : weight.Name.Replace('.', '#');

    private sealed record Member(Group Group, int Mode, int Index);

    /// <summary>The weights that share statistics and networks.</summary>
    private sealed class Group(int index, string key, EditableWeight first, int size)
    {
        public int Index { get; } = index;

        public string Key { get; } = key;

        public long InFeatures { get; } = first.InFeatures;

        public long OutFeatures { get; } = first.OutFeatures;

        public RunningStatistics U { get; set; } = null!;

        public RunningStatistics V { get; set; } = null!;

        public Networks Parts { get; set; } = null!;

        /// <summary>The networks that <see cref="MendOptions.Sides"/> asks for, made by <paramref name="make"/>(name, width, modes).</summary>
        public Networks Networks(MendOptions options, Func<string, long, int, EditorNetwork> make)
        {
            var modes = options.Shared ? size : 0;
            var (m, n) = (InFeatures, OutFeatures);
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
    }

    /// <summary>The networks of one shape: over [u | delta], over u, over delta; what is absent leaves its factor as it is.</summary>
    private sealed record Networks(EditorNetwork? Combined, EditorNetwork? OverU, EditorNetwork? OverDelta)
    {
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
    string Key, IReadOnlyList<string> Weights, RunningStatistics U, RunningStatistics Delta, IReadOnlyList<(string Name, Tensor Value)> Parameters);
