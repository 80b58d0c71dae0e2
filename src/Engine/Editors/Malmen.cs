using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>MALMEN's hyper-parameters (mend-spec 11.4).</summary>
public sealed record MalmenOptions
{
    /// <summary>r, the width of each block's bottleneck, cut to the network's input width.</summary>
    /// <value>1920.</value>
    public int Rank { get; init; } = 1920;

    /// <summary>Blocks of the network.</summary>
    /// <value>2.</value>
    public int NBlocks { get; init; } = 2;

    /// <summary>Initial eta, the learned step size of every weight.</summary>
    /// <value>1e-6.</value>
    public double EditLr { get; init; } = 1e-6;

    /// <summary>Initial lambda, the learned ridge of every weight's least squares.</summary>
    /// <value>1.</value>
    public double Lambda { get; init; } = 1;

    /// <summary>Rows that pass through the network at once.</summary>
    /// <value>1024.</value>
    public int EditorBatch { get; init; } = 1024;

    /// <summary>Examples that pass through the model at once while training.</summary>
    /// <value>32.</value>
    public int ModelBatch { get; init; } = 32;

    /// <summary>The network in the words of MEND's options: the same blocks, but for the place of scale and shift.</summary>
    internal MendOptions Network => new() { Rank = Rank, NHidden = NBlocks - 1, EditLr = EditLr };

    /// <exception cref="EditorException">Naming the setting and its range.</exception>
    public MalmenOptions Validated()
    {
        if (Rank < 1 || NBlocks < 1 || EditorBatch < 1 || ModelBatch < 1)
            throw new EditorException($"rank {Rank}, n_blocks {NBlocks}, editor_batch {EditorBatch} and model_batch {ModelBatch} must be at least 1");
        if (!double.IsFinite(EditLr) || EditLr == 0)
            throw new EditorException($"edit_lr is {EditLr}; it must be a finite number other than 0");
        if (!double.IsFinite(Lambda) || Lambda <= 0)
            throw new EditorException($"lambda is {Lambda}; it must be a finite number above 0");
        return this;
    }
}

/// <summary>
/// MALMEN (Tan, Zhang, Fu, ICLR 2024): many edits at once. A network like MEND's says what each token's output should change by; least
/// squares find the one shift of the weight that comes closest to all those wishes, where MEND's sum lets them add up and cancel.
/// For token i with key k and gradient v: (kTilde, vTilde) = network(k, v), d_i = eta (k . kTilde) vTilde, taken from the output: what
/// MEND's update of this token alone would take. m in-features, n out-features, T rows of all edits.
/// </summary>
public sealed class Malmen : IPreparedEditor
{
    private readonly Dictionary<string, Member> _members = [];
    private readonly List<Group> _groups;

    /// <summary>An editor to be trained.</summary>
    /// <param name="weights">In configuration order.</param>
    /// <param name="seed">Of the networks.</param>
    /// <param name="device">Null: the CPU.</param>
    public Malmen(MalmenOptions options, IReadOnlyList<EditableWeight> weights, long seed, Device? device = null)
        : this(options, weights, NewTensor.Full([weights.Count], options.EditLr, device: device), NewTensor.Full([weights.Count], Math.Log(options.Lambda), device: device), _ => true, (group, index, width, modes, where) =>
        {
            var generator = new Generator((ulong)seed + (ulong)index);
            return new(group, new RunningStatistics(width, where), new EditorNetwork(options.Network, width, modes, generator, where, clampsFirst: true));
        })
    {
    }

    /// <summary>A trained editor.</summary>
    /// <param name="read">A saved tensor by name, as <see cref="State"/> names them. The editor is on the device that they are on.</param>
    /// <param name="wanted">The weights whose networks are needed; null: all.</param>
    public Malmen(MalmenOptions options, IReadOnlyList<EditableWeight> weights, Func<string, Tensor> read, IReadOnlyCollection<string>? wanted = null)
        : this(options, weights, read("eta"), read("rho"), name => wanted is null || wanted.Contains(name), (group, _, _, modes, _) =>
            new(group, new RunningStatistics(read($"malmen.{group}.k").Host().item<long>(), read($"malmen.{group}.mean"), read($"malmen.{group}.s")),
                new EditorNetwork(options.Network, modes, name => read($"malmen.{group}.mlp.{name}"), clampsFirst: true)))
    {
    }

    private Malmen(MalmenOptions options, IReadOnlyList<EditableWeight> weights, Tensor eta, Tensor rho, Func<string, bool> isWanted,
        Func<string, int, long, int, Device, Group> make)
    {
        if (weights.Count == 0)
            throw new EditorException("an editor needs at least one editable weight");
        if (eta.shape[0] != weights.Count || rho.shape[0] != weights.Count)
            throw new EditorException($"eta has {eta.shape[0]} entries and rho {rho.shape[0]} for {weights.Count} editable weights");
        (Options, Weights) = (options.Validated(), weights);
        (Eta, Rho) = (Own(eta), Own(rho));
        _groups = [.. weights.GroupBy(weight => Shape(weight))
            .Where(group => group.Any(weight => isWanted(weight.Name)))
            .Select((group, index) => make(group.Key, index, group.First().InFeatures + group.First().OutFeatures, group.Count(), Eta.device))];
        foreach (var group in _groups)
        {
            var mode = 0;
            for (var i = 0; i < weights.Count; i++)
                if (Shape(weights[i]) == group.Key)
                    _members.Add(weights[i].Name, new(group, mode++, i));
        }

        static Tensor Own(Tensor value) => value.to_type(ScalarType.Float32).detach().clone().requires_grad_().DetachFromDisposeScope();
    }

    public MalmenOptions Options { get; }

    /// <inheritdoc />
    public EditorAlgorithm Algorithm => EditorAlgorithm.Malmen;

    object IStoredEditor.Options => Options;

    /// <inheritdoc />
    public IReadOnlyList<EditableWeight> Weights { get; }

    /// <summary>Step size of every weight, in the order of <see cref="Weights"/>. [K] float32.</summary>
    public Tensor Eta { get; }

    /// <summary>lambda = e^rho is the ridge of every weight. [K] float32.</summary>
    public Tensor Rho { get; }

    /// <inheritdoc />
    public IEnumerable<(string Name, Tensor Value)> Parameters => _groups.SelectMany(group => group.Parameters);

    /// <summary>eta and rho.</summary>
    public IEnumerable<(string Name, Tensor Value)> StepSizes => [("eta", Eta), ("rho", Rho)];

    /// <inheritdoc />
    public IEnumerable<(string Name, Tensor Value)> State
    {
        get
        {
            foreach (var size in StepSizes)
                yield return size;
            foreach (var group in _groups)
            {
                yield return ($"malmen.{group.Key}.k", tensor(group.Statistics.Count, device: CPU));
                yield return ($"malmen.{group.Key}.mean", group.Statistics.Mean);
                yield return ($"malmen.{group.Key}.s", group.Statistics.Squares);
            }
            foreach (var parameter in Parameters)
                yield return parameter;
        }
    }

    /// <inheritdoc />
    public IReadOnlyDictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope(); // the equations, which a training step keeps, go at once
        var updates = Solve(factors).ToDictionary(solved => solved.Key, solved => solved.Value.Update);
        foreach (var tensor in updates.Values.SelectMany(update => update.Tensors))
            tensor.MoveToOuterDisposeScope();
        return updates;
    }

    /// <summary>Takes the rows of a training step into the statistics.</summary>
    public void AddToStatistics(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        LeastSquares.Check(factors, Weights);
        using var scope = NewDisposeScope();
        foreach (var (name, rows) in factors)
            _members[name].Group.Statistics.Add(cat([rows.u, rows.delta], 1));
    }

    /// <summary>The updates, and what is needed to go back through them. Computes no graph.</summary>
    internal IReadOnlyDictionary<string, (LeastSquares Equations, LowRankUpdate Update)> Solve(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        LeastSquares.Check(factors, Weights);
        using var _ = no_grad();
        var solved = new Dictionary<string, (LeastSquares, LowRankUpdate)>();
        var rho = Devices.Numbers(Rho);
        foreach (var (name, rows) in factors)
        {
            var equations = new LeastSquares(rows.u, Math.Exp(rho[_members[name].Index]));
            solved.Add(name, (equations, equations.Update(AllShifts(name, rows))));
        }
        return solved;
    }

    /// <summary>Rows in the portions that pass through the network at once; at least one.</summary>
    internal IEnumerable<(GradientFactors Rows, long First)> Portions(GradientFactors rows)
    {
        var T = rows.u.shape[0];
        for (long first = 0; first == 0 || first < T; first += Options.EditorBatch)
        {
            var count = Math.Min(Options.EditorBatch, T - first);
            yield return (new(rows.u.narrow(0, first, count), rows.delta.narrow(0, first, count)), first);
        }
    }

    /// <summary>d, what each row's output is to lose. Carries the graph to phi and eta where grad is on.</summary>
    /// <returns>[T, n] float32.</returns>
    internal Tensor Shifts(string weight, GradientFactors rows)
    {
        var (group, mode, index) = _members[weight];
        var (T, m, n) = (rows.u.shape[0], rows.u.shape[1], rows.delta.shape[1]);
        var output = group.Network.Forward(group.Statistics.Normalise(cat([rows.u, rows.delta], 1)), NewTensor.Full([T], (long)mode, ScalarType.Int64, rows.u.device)); // [T, m + n]
        var size = (rows.u * output.narrow(1, 0, m)).sum([1], keepdim: true) * Eta.select(0, index); // [T, 1]
        return size * output.narrow(1, m, n);
    }

    /// <summary>The parameters of phi that <see cref="Shifts"/> of a weight depends on.</summary>
    internal IEnumerable<(string Name, Tensor Value)> ParametersOf(string weight) => _members[weight].Group.Parameters;

    /// <summary>The weight's place in <see cref="Weights"/>.</summary>
    internal int IndexOf(string weight) => _members[weight].Index;

    public void Dispose()
    {
        Eta.Dispose();
        Rho.Dispose();
        foreach (var group in _groups)
        {
            group.Statistics.Dispose();
            group.Network.Dispose();
        }
    }

    private static string Shape(EditableWeight weight) => $"({weight.InFeatures}, {weight.OutFeatures})";

    private Tensor AllShifts(string weight, GradientFactors rows) => cat([.. Portions(rows).Select(portion =>
    {
        using var scope = NewDisposeScope();
        return Shifts(weight, portion.Rows).MoveToOuterDisposeScope();
    })], 0);

    /// <summary>The weights of a shape, which share statistics and a network.</summary>
    private sealed record Group(string Key, RunningStatistics Statistics, EditorNetwork Network)
    {
        public IEnumerable<(string Name, Tensor Value)> Parameters =>
            Network.Parameters.Select(parameter => ($"malmen.{Key}.mlp.{parameter.Name}", parameter.Value));
    }

    private sealed record Member(Group Group, int Mode, int Index);
}
