using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>
/// MALMEN (Tan, Zhang, Fu, ICLR 2024): many edits at once. A network like MEND's says what each token's output should change by; least
/// squares find the one shift of the weight that comes closest to all those wishes, where MEND's sum lets them add up and cancel.
/// For token i with key k and gradient v: (kTilde, vTilde) = network(k, v), d_i = eta (k . kTilde) vTilde, taken from the output: what
/// MEND's update of this token alone would take. m in-features, n out-features, T rows of all edits.
///
/// Three things that the paper does not have, all off unless they are asked for. Rounds: one linear step leaves many of the wishes open, so
/// the same is done again on the model as edited so far; then d_i is multiplied by min(1, |v_i| / tau) in every round, tau the median |v|
/// of the first, since the normalised gradient of an edit that is answered is no smaller. Preserved keys, which the shifts go round. And
/// sequences: an edit goes round the keys of the edits in force before it too (<see cref="EarlierKeys"/>).
/// </summary>
public sealed class Malmen : ISequentialEditor
{
    private readonly IReadOnlyList<SharedEditor> _editors;
    private readonly IReadOnlyDictionary<string, PreservedKeys> _preserved; // by weight; none, or of every weight that is needed
    private readonly IReadOnlyDictionary<string, SharedEditor> _shapes; // by weight
    private readonly List<string> _names;

    /// <summary>Of the names of preserved keys in <see cref="State"/>.</summary>
    internal const string PreservedPrefix = "malmen.preserved.";

    /// <summary>An editor to be trained.</summary>
    /// <param name="weights">In configuration order.</param>
    /// <param name="seed">Of the networks.</param>
    /// <param name="device">Null: the CPU.</param>
    /// <param name="preserved">By weight; null: no keys are preserved. The editor takes them over.</param>
    public Malmen(MalmenOptions options, IReadOnlyList<EditableWeight> weights, long seed, Device? device = null,
        IReadOnlyDictionary<string, PreservedKeys>? preserved = null)
        : this(options, weights, NewTensor.Full([weights.Count], options.EditLr, device: device),
            NewTensor.Full([weights.Count], Math.Log(options.Lambda), device: device),
            WeightGroup.Of(weights, isShared: true).Select(group => new SharedEditor(options, group, seed, device ?? CPU)), preserved)
    {
    }

    /// <summary>A trained editor.</summary>
    /// <param name="read">A saved tensor by name, as <see cref="State"/> names them. The editor is on the device that they are on.</param>
    /// <param name="wanted">The weights whose networks are needed; null: all.</param>
    /// <param name="preserved">The keys that it goes round, by weight; null: none.</param>
    public Malmen(MalmenOptions options, IReadOnlyList<EditableWeight> weights, Func<string, Tensor> read,
        IReadOnlyCollection<string>? wanted = null, Func<string, PreservedKeys>? preserved = null)
        : this(options, weights, read("eta"), read("rho"),
            WeightGroup.Of(weights, isShared: true, wanted).Select(group => new SharedEditor(options, group, read)),
            preserved is null ? null : weights.Where(weight => wanted?.Contains(weight.Name) != false)
                .ToDictionary(weight => weight.Name, weight => preserved(weight.Name)))
    {
    }

    /// <summary>The keys that were saved with an editor.</summary>
    /// <param name="read">A saved tensor by name.</param>
    public static PreservedKeys ReadPreserved(string weight, Func<string, Tensor> read) =>
        new(read(PreservedName(weight, "q")), read(PreservedName(weight, "values")));

    /// <param name="editors">Made one by one, after everything else was found to be right.</param>
    private Malmen(MalmenOptions options, IReadOnlyList<EditableWeight> weights, Tensor eta, Tensor rho, IEnumerable<SharedEditor> editors,
        IReadOnlyDictionary<string, PreservedKeys>? preserved)
    {
        if (weights.Count == 0)
            throw Fault.Setting("an editor needs at least one editable weight");
        if (eta.shape[0] != weights.Count || rho.shape[0] != weights.Count)
            throw Fault.Editor($"eta has {eta.shape[0]} entries and rho {rho.shape[0]} for {weights.Count} editable weights");
        (Options, Weights) = (options.Validated(), weights);
        foreach (var (name, keys) in preserved ?? new Dictionary<string, PreservedKeys>())
            if (keys.Q.shape is not [var r, var m] || keys.Values.shape is not [var values] || r != values
                || weights.All(weight => weight.Name != name || weight.InFeatures != m))
                throw Fault.Editor($"the preserved keys of '{name}' are [{string.Join(", ", keys.Q.shape)}] with values "
                    + $"[{string.Join(", ", keys.Values.shape)}]; expected [r, m] and [r] for a weight with m in-features");
        (Eta, Rho) = (Own(eta), Own(rho));
        _preserved = (preserved ?? new Dictionary<string, PreservedKeys>()).ToDictionary(entry => entry.Key,
            entry => new PreservedKeys(Kept(entry.Value.Q), Kept(entry.Value.Values)));
        _editors = [.. editors];
        _shapes = WeightGroup.ByWeight(_editors, editor => editor.Group.Weights);
        _names = [.. weights.Select(weight => weight.Name)];

        static Tensor Kept(Tensor value) => value.KeptCopy(ScalarType.Float32);
        static Tensor Own(Tensor value) => value.KeptCopy(ScalarType.Float32).requires_grad_();
    }

    public MalmenOptions Options { get; }

    /// <inheritdoc />
    public int Rounds => Options.Rounds;

    /// <inheritdoc />
    public bool IsSequential => Options.Sequential;

    /// <summary>Whether it goes round keys that it keeps.</summary>
    public bool Preserves => _preserved.Count > 0;

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
    public IEnumerable<(string Name, Tensor Value)> Parameters => _editors.SelectMany(editor => editor.Parameters);

    /// <summary>eta and rho.</summary>
    public IEnumerable<(string Name, Tensor Value)> StepSizes => [("eta", Eta), ("rho", Rho)];

    /// <inheritdoc />
    public IEnumerable<(string Name, Tensor Value)> State
    {
        get
        {
            foreach (var size in StepSizes)
                yield return size;
            foreach (var (group, statistics, _) in _editors)
            {
                yield return ($"malmen.{group.Key}.k", tensor(statistics.Count, device: CPU));
                yield return ($"malmen.{group.Key}.mean", statistics.Mean);
                yield return ($"malmen.{group.Key}.s", statistics.Squares);
            }
            foreach (var (weight, keys) in _preserved)
            {
                yield return (PreservedName(weight, "q"), keys.Q);
                yield return (PreservedName(weight, "values"), keys.Values);
            }
            foreach (var parameter in Parameters)
                yield return parameter;
        }
    }

    /// <inheritdoc />
    public IReadOnlyDictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors) =>
        Propose(factors, Typical(factors));

    /// <inheritdoc />
    public IReadOnlyDictionary<string, LowRankUpdate> ProposeAgain(IReadOnlyDictionary<string, GradientFactors> factors,
        IReadOnlyDictionary<string, double> typical) => Propose(factors, typical);

    /// <inheritdoc />
    public EarlierKeys NoEarlier(string weight) => new(_preserved.GetValueOrDefault(weight));

    /// <inheritdoc />
    public IReadOnlyDictionary<string, LowRankUpdate> ProposeAfter(IReadOnlyDictionary<string, GradientFactors> factors,
        IReadOnlyDictionary<string, double>? typical, IReadOnlyDictionary<string, EarlierKeys> earlier) =>
        Propose(factors, typical ?? Typical(factors), earlier);

    private Dictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors,
        IReadOnlyDictionary<string, double>? typical, IReadOnlyDictionary<string, EarlierKeys>? earlier = null)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope(); // the equations, which a training step keeps, go at once
        var updates = earlier is null ? Solve(factors, typical).ToDictionary(solved => solved.Key, solved => solved.Value.Update)
            : SolveAfter(factors, typical, earlier);
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
            _shapes[name].Statistics.Add(cat([rows.u, rows.delta], 1));
    }

    /// <summary>tau by weight; null: there is one round, in which nothing fades.</summary>
    /// <param name="first">Of the first round.</param>
    internal IReadOnlyDictionary<string, double>? Typical(IReadOnlyDictionary<string, GradientFactors> first) => Rounds == 1 ? null
        : first.ToDictionary(entry => entry.Key, entry => entry.Value.TypicalGradient());

    /// <summary>The updates, and what is needed to go back through them. Computes no graph.</summary>
    /// <param name="typical">tau by weight; null: nothing fades.</param>
    internal IReadOnlyDictionary<string, (LeastSquares Equations, LowRankUpdate Update)> Solve(
        IReadOnlyDictionary<string, GradientFactors> factors, IReadOnlyDictionary<string, double>? typical = null)
    {
        LeastSquares.Check(factors, Weights);
        using var _ = no_grad();
        var solved = new Dictionary<string, (LeastSquares, LowRankUpdate)>();
        var rho = Devices.Numbers(Rho);
        foreach (var (name, rows) in factors)
        {
            var equations = new LeastSquares(rows.u, Math.Exp(rho[IndexOf(name)]), _preserved.GetValueOrDefault(name), Options.Beta);
            solved.Add(name, (equations, equations.Update(AllShifts(name, rows, typical?[name]))));
        }
        return solved;
    }

    /// <summary>S = (K^T K + A)^-1 K^T D with A of <see cref="EarlierKeys.Around"/>, in the dual form, whose rows are those of the edit.</summary>
    private Dictionary<string, LowRankUpdate> SolveAfter(IReadOnlyDictionary<string, GradientFactors> factors,
        IReadOnlyDictionary<string, double>? typical, IReadOnlyDictionary<string, EarlierKeys> earlier)
    {
        LeastSquares.Check(factors, Weights);
        var rho = Devices.Numbers(Rho);
        return factors.ToDictionary(entry => entry.Key, entry =>
        {
            var (name, rows) = entry;
            var (lambda, keys) = (Math.Exp(rho[IndexOf(name)]), rows.u.to_type(ScalarType.Float64));
            var basis = earlier[name].Around(keys, lambda, Options.Beta); // [T, m]
            var gram = basis.mm(keys.t());
            var factor = linalg.cholesky(gram.Plus(eye(gram.shape[0], dtype: ScalarType.Float64, device: gram.device).Times(lambda)));
            var X = AllShifts(name, rows, typical?[name]).to_type(ScalarType.Float64).cholesky_solve(factor); // [T, n]
            return new LowRankUpdate(basis.to_type(ScalarType.Float32), X.to_type(ScalarType.Float32),
                ones(Array.Empty<long>(), ScalarType.Float32, X.device));
        });
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
    /// <param name="typical">tau; null: nothing fades.</param>
    /// <returns>[T, n] float32.</returns>
    internal Tensor Shifts(string weight, GradientFactors rows, double? typical = null)
    {
        var (group, statistics, network) = _shapes[weight];
        var (T, m, n) = (rows.u.shape[0], rows.u.shape[1], rows.delta.shape[1]);
        // [T, m + n]
        var output = network.Forward(statistics.Normalise(cat([rows.u, rows.delta], 1)), group.Modes(weight, T, rows.u.device));
        var size = (rows.u * output.narrow(1, 0, m)).sum([1], keepdim: true) * Eta.select(0, IndexOf(weight)); // [T, 1]
        if (typical is { } tau)
            size = size * rows.Fading(tau);
        return size * output.narrow(1, m, n);
    }

    /// <summary>The parameters of phi that <see cref="Shifts"/> of a weight depends on.</summary>
    internal IEnumerable<(string Name, Tensor Value)> ParametersOf(string weight) => _shapes[weight].Parameters;

    /// <summary>The weight's place in <see cref="Weights"/>.</summary>
    internal int IndexOf(string weight) => _names.IndexOf(weight);

    public void Dispose()
    {
        Eta.Dispose();
        Rho.Dispose();
        foreach (var keys in _preserved.Values)
        {
            keys.Q.Dispose();
            keys.Values.Dispose();
        }
        foreach (var editor in _editors)
        {
            editor.Statistics.Dispose();
            editor.Network.Dispose();
        }
    }

    private static string PreservedName(string weight, string part) => $"{PreservedPrefix}{weight}.{part}";

    private Tensor AllShifts(string weight, GradientFactors rows, double? typical) => cat([.. Portions(rows).Select(portion =>
    {
        using var scope = NewDisposeScope();
        return Shifts(weight, portion.Rows, typical).MoveToOuterDisposeScope();
    })], 0);

    /// <summary>What the weights of a shape share.</summary>
    private sealed record SharedEditor(WeightGroup Group, RunningStatistics Statistics, EditorNetwork Network)
    {
        /// <summary>To be trained.</summary>
        public SharedEditor(MalmenOptions options, WeightGroup group, long seed, Device device)
            : this(group, new(group.InFeatures + group.OutFeatures, device), new(options.Network(), group.InFeatures + group.OutFeatures,
                group.Weights.Count, new Generator((ulong)seed + (ulong)group.Index), device, clampsFirst: true))
        {
        }

        /// <summary>Trained.</summary>
        /// <param name="read">A saved tensor by name.</param>
        public SharedEditor(MalmenOptions options, WeightGroup group, Func<string, Tensor> read)
            : this(group, new(read($"malmen.{group.Key}.k").Host().item<long>(), read($"malmen.{group.Key}.mean"),
                read($"malmen.{group.Key}.s")),
                new(options.Network(), group.Weights.Count, name => read($"malmen.{group.Key}.mlp.{name}"), clampsFirst: true))
        {
        }

        public IEnumerable<(string Name, Tensor Value)> Parameters =>
            Network.Parameters.Select(parameter => ($"malmen.{Group.Key}.mlp.{parameter.Name}", parameter.Value));
    }
}
