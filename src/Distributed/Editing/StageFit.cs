using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// One update for many edits, of weights of this stage: for each W' = W - X^T Q, where the rows of Q [R, m] are an orthonormal
/// basis of what the updates in their place react to, and X [R, n] is learned. It starts as nothing, or as an earlier
/// consolidation; the sum of many edits is a worse place to start from, for what they cost other answers stays. By
/// dL/dX = -(u Q^T)^T delta no gradient of a weight's size is formed. R rows, m in-features, n out-features.
///
/// Where it has seen what it is to leave as it is, its steps go round that: with C [R, R] the covariance there of u Q^T, X = S Y with
/// S = (C / mean eigenvalue + λ)^(-1/2), and it is Y that is learned. So what the layer reacts to in those inputs is changed least by a step
/// (as preserved keys do in MEMIT, Meng et al., 2023, and as preconditioning by the inputs' covariance does in K-FAC, Martens and Grosse, 2015).
/// </summary>
internal sealed class StageFit : IDisposable
{
    /// <summary>λ: the least that a direction counts as used, of the mean.</summary>
    private const double MinUse = 0.3;

    private readonly Dictionary<string, Fitted> _weights = [];
    private readonly Adam _adam;
    private readonly Tensor _alpha;

    /// <param name="weights">To be changed, as far as edits changed them.</param>
    /// <param name="edits">Of one scope.</param>
    /// <param name="fresh">Those of them that <paramref name="begun"/> has not.</param>
    /// <param name="begun">What it starts as, if not as nothing: consolidations of the others.</param>
    /// <param name="maxRank">R, at most.</param>
    /// <exception cref="MendException">The edits changed none of the weights.</exception>
    public StageFit(IReadOnlyList<string> weights, IReadOnlyList<ActiveEdit> edits, IReadOnlyList<ActiveEdit> fresh,
        IReadOnlyList<ActiveEdit> begun, int maxRank, Device device)
    {
        using var _ = no_grad();
        var groups = new List<ParameterGroup>();
        foreach (var weight in weights.Where(weight => edits.Any(edit => edit.Updates.ContainsKey(weight))))
        {
            using var scope = NewDisposeScope();
            List<double> sizes = [.. Of(edits, weight).Select(Size).Order()];
            var size = sizes[sizes.Count / 2];
            var earlierOnes = Of(begun, weight);
            var basis = Basis([.. Of(fresh, weight).Select(update => Rows(update, Size(update))), .. earlierOnes.Select(update => Rows(update, size))],
                maxRank);
            var x = zeros([basis.shape[0], Of(edits, weight)[0].deltaTilde.shape[1]], device: device);
            foreach (var earlier in earlierOnes)
                x = x.Plus((basis.mm(earlier.uTilde.t()) * earlier.alpha).mm(earlier.deltaTilde));
            var fitted = _weights[weight] = new(basis.DetachFromDisposeScope(), x.DetachFromDisposeScope(), zeros_like(x).DetachFromDisposeScope(),
                zeros([basis.shape[0], basis.shape[0]], device: device).DetachFromDisposeScope());
            groups.Add(new([(weight, fitted.X)], size));
        }
        if (groups.Count == 0)
            throw new MendException(MendError.ConsolidationRefused, $"The edits changed none of {string.Join(", ", weights)}.",
                "Nothing was changed. Open the model with the editor that made them.");
        _adam = new(groups);
        _alpha = ones(Array.Empty<long>(), ScalarType.Float32, device).DetachFromDisposeScope();

        List<LowRankUpdate> Of(IReadOnlyList<ActiveEdit> some, string weight) =>
            [.. some.Where(edit => edit.Updates.ContainsKey(weight)).Select(edit => edit.Updates[weight])
            .Select(update => new LowRankUpdate(update.uTilde.On(device), update.deltaTilde.On(device), update.alpha.On(device)))];
    }

    /// <summary>Whether it has met its first gradient.</summary>
    public bool IsBegun { get; private set; }

    /// <summary>Steps taken.</summary>
    public int Steps { get; private set; }

    /// <summary>What the update is now: the tensors that the next step changes.</summary>
    public IReadOnlyDictionary<string, LowRankUpdate> Candidate => _weights.ToDictionary(weight => weight.Key, weight =>
        new LowRankUpdate(weight.Value.Basis, weight.Value.X, _alpha));

    /// <summary>Takes note of inputs that it is to leave as they are. Only what is seen before the first gradient counts.</summary>
    /// <param name="recorded">u [N, m] by weight; others' are passed over.</param>
    public void See(IEnumerable<(string Weight, Tensor u)> recorded)
    {
        if (IsBegun)
            return;
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        foreach (var (name, u) in recorded)
            if (_weights.TryGetValue(name, out var weight))
            {
                var seen = u.mm(weight.Basis.t()); // [N, R]
                weight.Seen.Add_(seen.t().mm(seen));
            }
    }

    /// <param name="factors">Of dL/dW = delta^T u with the candidate in force, by weight.</param>
    public void Gather(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        using var _ = no_grad();
        Begin();
        foreach (var (name, (u, delta)) in factors)
            if (_weights.TryGetValue(name, out var weight))
                weight.Gradient.sub_(u.mm(weight.Basis.t()).t().mm(delta));
    }

    /// <summary>X shrinks, and takes a step of Adam against what was gathered.</summary>
    /// <param name="rate">Times the size of the edits: the median over them of the root mean square of X's entries for one alone.</param>
    /// <param name="decay">What X shrinks by, a fraction.</param>
    public void Step(double rate, double decay)
    {
        using var _ = no_grad();
        Steps++;
        foreach (var weight in _weights.Values)
            weight.X.Mul_(1 - decay);
        _adam.Step([.. _weights.Values.Select(weight => weight.Gradient)], rate);
        foreach (var weight in _weights.Values)
            weight.Gradient.zero_();
    }

    public void Dispose()
    {
        _adam.Dispose();
        _alpha.Dispose();
        foreach (var tensor in _weights.Values.SelectMany(weight => new[] { weight.Basis, weight.X, weight.Gradient, weight.Seen }))
            tensor.Dispose();
    }

    /// <summary>Goes over to Y: the basis becomes S Q, in place, and the update stays what it is.</summary>
    private void Begin()
    {
        if (IsBegun)
            return;
        IsBegun = true;
        using var scope = NewDisposeScope();
        foreach (var (basis, x, _, seen) in _weights.Values)
        {
            var (uses, directions) = linalg.eigh(seen);
            uses = uses.Clamp(0);
            var mean = uses.mean();
            if (mean.Host().item<float>() == 0)
                continue; // nothing was seen
            var s = (uses / mean).Plus(MinUse).rsqrt();
            s = s / (s * s).mean().sqrt(); // a step is as large as without
            basis.copy_((directions * s).mm(directions.t()).mm(basis));
            x.copy_((directions / s).mm(directions.t()).mm(x));
        }
    }

    /// <summary>What an update reacts to, each row as large as what it does then; edits alike. An earlier fit is as large as it has become.</summary>
    private static Tensor Rows(LowRankUpdate update, double size) => update.uTilde * update.alpha
        * (update.deltaTilde * update.deltaTilde).sum([1], keepdim: true).sqrt().Over(size);

    /// <summary>Root mean square of X's entries for an edit alone: its norm / sqrt(R n).</summary>
    private static double Size(LowRankUpdate update) =>
        Math.Max(update.Norm(), 1e-15) / Math.Sqrt(update.Rank * update.deltaTilde.shape[1]);

    /// <summary>
    /// The span of some rows, or where it has too many dimensions, most of it: one power iteration from random directions (Halko, Martinsson
    /// and Tropp, 2011), always the same.
    /// </summary>
    /// <param name="rows">Of each update [., m].</param>
    /// <returns>[R, m], orthonormal rows.</returns>
    private static Tensor Basis(IReadOnlyList<Tensor> rows, int maxRank)
    {
        var all = cat([.. rows], 0); // [T, m]
        var (count, m) = (all.shape[0], all.shape[1]);
        if (m <= Math.Min(count, maxRank))
            return eye(m, device: all.device);
        if (count <= maxRank)
            return linalg.qr(all.t()).Q.t().contiguous();
        using var generator = new Generator(0);
        var sketch = all.t().mm(NewTensor.Normal([count, maxRank], generator).On(all.device)); // [m, R]
        return linalg.qr(all.t().mm(all.mm(linalg.qr(sketch).Q))).Q.t().contiguous();
    }

    /// <param name="Basis">Q [R, m], orthonormal rows; S Q once it is begun.</param>
    /// <param name="X">[R, n]; Y once it is begun.</param>
    /// <param name="Gradient">dL/dX since the last step.</param>
    /// <param name="Seen">C, not divided by the number of inputs. [R, R].</param>
    private sealed record Fitted(Tensor Basis, Tensor X, Tensor Gradient, Tensor Seen);
}
