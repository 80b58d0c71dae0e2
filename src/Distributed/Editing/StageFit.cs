using MendCluster.Engine;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// One update for many edits, as far as it concerns this stage: for each weight W' = W - X^T Q, where the rows of Q [R, m] are an orthonormal
/// basis of what the updates in their place react to, and X [R, n] is learned. It starts as nothing, or as an earlier
/// consolidation; the sum of many edits is a worse place to start from, for what they cost other answers stays. By
/// dL/dX = -(u Q^T)^T delta no gradient of a weight's size is formed. R rows, m in-features, n out-features.
/// </summary>
internal sealed class StageFit : IDisposable
{
    private readonly Dictionary<string, Fitted> _weights = [];
    private readonly Adam _adam;
    private readonly Tensor _alpha;

    /// <param name="edits">Of one scope.</param>
    /// <param name="fresh">Those of them that <paramref name="begun"/> has not.</param>
    /// <param name="begun">What it starts as, if not as nothing: consolidations of the others.</param>
    /// <param name="maxRank">R, at most.</param>
    public StageFit(IReadOnlyList<ActiveEdit> edits, IReadOnlyList<ActiveEdit> fresh, IReadOnlyList<ActiveEdit> begun, int maxRank,
        Device device)
    {
        using var _ = no_grad();
        var groups = new List<ParameterGroup>();
        foreach (var weight in edits.SelectMany(edit => edit.Updates.Keys).Distinct())
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
            var fitted = _weights[weight] = new(basis.DetachFromDisposeScope(), x.DetachFromDisposeScope(), zeros_like(x).DetachFromDisposeScope());
            groups.Add(new([(weight, fitted.X)], size));
        }
        _adam = new(groups);
        _alpha = ones(Array.Empty<long>(), ScalarType.Float32, device).DetachFromDisposeScope();

        List<LowRankUpdate> Of(IReadOnlyList<ActiveEdit> some, string weight) =>
            [.. some.Where(edit => edit.Updates.ContainsKey(weight)).Select(edit => edit.Updates[weight])
            .Select(update => new LowRankUpdate(update.uTilde.On(device), update.deltaTilde.On(device), update.alpha.On(device)))];
    }

    /// <summary>Steps taken.</summary>
    public int Steps { get; private set; }

    /// <summary>What the update is now: the tensors that the next step changes.</summary>
    public IReadOnlyDictionary<string, LowRankUpdate> Candidate => _weights.ToDictionary(weight => weight.Key, weight =>
        new LowRankUpdate(weight.Value.Basis, weight.Value.X, _alpha));

    /// <param name="factors">Of dL/dW = delta^T u with the candidate in force, by weight.</param>
    public void Gather(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        using var _ = no_grad();
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
        foreach (var tensor in _weights.Values.SelectMany(weight => new[] { weight.Basis, weight.X, weight.Gradient }))
            tensor.Dispose();
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

    /// <param name="Basis">Q [R, m], orthonormal rows.</param>
    /// <param name="X">[R, n].</param>
    /// <param name="Gradient">dL/dX since the last step.</param>
    private sealed record Fitted(Tensor Basis, Tensor X, Tensor Gradient);
}
