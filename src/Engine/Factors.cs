using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine;

/// <summary>
/// The fine-tuning gradient of one linear map in factored form: dL/dW = delta^T u (MEND, section 3.1).
/// R kept token rows, m in-features, n out-features. A row is kept when it has a non-zero entry in both factors.
/// </summary>
/// <param name="u">[R, m] float32, the map's input.</param>
/// <param name="delta">[R, n] float32, dL/dz at the map's output z, bias included.</param>
public sealed record GradientFactors(Tensor u, Tensor delta)
{
    /// <summary>Drops the rows that carry no gradient: padding, and positions that no label depends on (exact zeros).</summary>
    /// <param name="u">[..., m], any dtype.</param>
    /// <param name="delta">[..., n], same leading shape.</param>
    public static GradientFactors FromRows(Tensor u, Tensor delta) => FromRows([(u, delta)])[0];

    /// <summary>Median length of delta's rows: what a later round's gradients are held against, which fade as edits are answered.</summary>
    public double TypicalGradient() => Lengths().median().Host().item<float>();

    /// <summary>min(1, |delta_i| / typical) of each row. [R, 1] float32.</summary>
    public Tensor Fading(double typical) => minimum(Lengths().Over(typical), ones(1, device: delta.device)).unsqueeze(1);

    private Tensor Lengths() => (delta * delta).sum([1]).sqrt(); // [R]

    /// <summary>The same for several maps. How many rows are kept is asked once for all: a device has to stop for it.</summary>
    public static IReadOnlyList<GradientFactors> FromRows(IReadOnlyList<(Tensor u, Tensor delta)> maps)
    {
        if (maps.Count == 0)
            return [];
        List<(Tensor u, Tensor delta)> rows = [.. maps.Select(map => (Rows(map.u), Rows(map.delta)))];
        var kept = cat([.. rows.Select(map => map.u.Ne(0).any(1).logical_and(map.delta.Ne(0).any(1)))], 0).Host();
        var (first, factors) = (0L, new List<GradientFactors>());
        foreach (var (u, delta) in rows)
        {
            var places = kept.narrow(0, first, u.shape[0]).nonzero().squeeze(1).On(u.device); // [R]
            factors.Add(new(u.index_select(0, places), delta.index_select(0, places)));
            first += u.shape[0];
        }
        return factors;

        static Tensor Rows(Tensor x) => x.detach().to_type(ScalarType.Float32).reshape(-1, x.shape[^1]);
    }
}

/// <summary>What an edit changes about one weight W [n, m].</summary>
public abstract record WeightUpdate
{
    /// <summary>What the update takes from z = x W^T.</summary>
    /// <param name="x">[..., m] float32.</param>
    /// <returns>[..., n] float32.</returns>
    public abstract Tensor Of(Tensor x);
}

/// <summary>Many edits of one weight: in part added up, in part as factors.</summary>
/// <param name="Sums">Of alpha deltaTilde^T uTilde; each [n, m] float32.</param>
/// <param name="Rows">Of the edits that are in no sum; null: there is none.</param>
public sealed record FoldedUpdate(IReadOnlyList<Tensor> Sums, LowRankUpdate? Rows) : WeightUpdate
{
    public override Tensor Of(Tensor x)
    {
        var parts = Sums.Select(sum => nn.functional.linear(x, sum));
        return (Rows is null ? parts : parts.Prepend(Rows.Of(x))).Aggregate((taken, part) => taken.Plus(part));
    }

    /// <summary>Other edits after these.</summary>
    public FoldedUpdate Plus(FoldedUpdate later) =>
        new([.. Sums, .. later.Sums], (Rows, later.Rows) is ({ } below, { } top) ? LowRankUpdate.Stack([below, top]) : Rows ?? later.Rows);
}

/// <summary>Another edit of one weight for each example of a batch, on top of what is in force for all of them.</summary>
/// <param name="Below">In force; null: nothing is.</param>
/// <param name="uTilde">[B, R, m] float32, times alpha; rows that an edit has less than another are zeros.</param>
/// <param name="deltaTilde">[B, R, n] float32.</param>
public sealed record UpdateOfEach(WeightUpdate? Below, Tensor uTilde, Tensor deltaTilde) : WeightUpdate
{
    /// <param name="each">An edit for each example.</param>
    public static UpdateOfEach Of(WeightUpdate? below, IReadOnlyList<LowRankUpdate> each)
    {
        var rank = each.Max(update => update.Rank);
        Tensor Padded(Tensor factor) => factor.shape[0] == rank ? factor
            : cat([factor, zeros([rank - factor.shape[0], factor.shape[1]], factor.dtype, factor.device)], 0);
        return new(below, stack([.. each.Select(update => Padded(update.uTilde * update.alpha))], 0),
            stack([.. each.Select(update => Padded(update.deltaTilde))], 0));
    }

    /// <param name="x">[B, T, m] float32.</param>
    /// <returns>[B, T, n] float32.</returns>
    public override Tensor Of(Tensor x)
    {
        var own = x.bmm(uTilde.transpose(1, 2)).bmm(deltaTilde); // [B, T, R] -> [B, T, n]
        return Below is null ? own : Below.Of(x).Plus(own);
    }
}

/// <summary>One edit of one weight in factored form: W' = W - alpha deltaTilde^T uTilde (MEND, section 3.1).</summary>
/// <param name="uTilde">[R, m] float32.</param>
/// <param name="deltaTilde">[R, n] float32.</param>
/// <param name="alpha">[] float32, the learned edit learning rate of this weight.</param>
public sealed record LowRankUpdate(Tensor uTilde, Tensor deltaTilde, Tensor alpha) : WeightUpdate
{
    /// <summary>Of its squared Frobenius norm, when an update is kept in fewer rows.</summary>
    public const double DefaultKept = 0.999;

    /// <summary>R, an upper bound of the update's rank.</summary>
    public long Rank => uTilde.shape[0];

    /// <summary>For whoever keeps the update beyond a dispose scope.</summary>
    public IEnumerable<Tensor> Tensors => [uTilde, deltaTilde, alpha];

    /// <summary>What the update takes from z = x W^T. Cost 2 N R (m + n) operations; no [n, m] matrix is formed.</summary>
    /// <param name="x">[..., m] float32.</param>
    /// <returns>[..., n] float32.</returns>
    public override Tensor Of(Tensor x)
    {
        var rows = x.reshape(-1, x.shape[^1]);                        // [N, m]
        var taken = (rows.mm(uTilde.t()) * alpha).mm(deltaTilde);     // [N, R] -> [N, n]
        var shape = x.shape.ToArray();
        shape[^1] = deltaTilde.shape[1];
        return taken.reshape(shape);
    }

    /// <summary>The same update with a larger or smaller step.</summary>
    public LowRankUpdate Times(double strength) => this with { alpha = alpha.Times(strength) };

    /// <summary>
    /// The same update, nearly, in fewer rows: the fewest singular vectors of deltaTilde^T uTilde that have <paramref name="kept"/> of its
    /// squared Frobenius norm, found from the factors alone (QR of each, singular values of the R x R product of their triangles, on the
    /// host). Cost O(R^2 (m + n) + R^3) operations; no [n, m] matrix is formed.
    /// </summary>
    /// <param name="kept">From 0 to 1; 1: no row is spared, the update is left as it is.</param>
    /// <returns>This very update when no row can be spared.</returns>
    public LowRankUpdate Compress(double kept)
    {
        if (kept >= 1 || Rank < 2)
            return this;
        var (qU, rU) = linalg.qr(uTilde.t());          // [m, R], [R, R]
        var (qDelta, rDelta) = linalg.qr(deltaTilde.t()); // [n, R], [R, R]
        var (left, sizes, right) = linalg.svd(rDelta.mm(rU.t()).Host(), fullMatrices: false);
        var squares = sizes.data<float>().ToArray().Select(size => (double)size * size).ToArray();
        var (total, sum, rank) = (squares.Sum(), 0.0, 0);
        while (rank < squares.Length && sum < kept * total)
            sum += squares[rank++];
        if (rank == 0 || rank >= Rank)
            return this;
        var roots = sizes.narrow(0, 0, rank).sqrt(); // shared by both sides, so that neither grows
        return this with
        {
            uTilde = qU.mm((right.narrow(0, 0, rank) * roots.unsqueeze(1)).t().On(qU.device)).t().contiguous(),
            deltaTilde = qDelta.mm((left.narrow(1, 0, rank) * roots).On(qDelta.device)).t().contiguous(),
        };
    }

    /// <summary>Several updates of one weight as one, in the given order; alpha is folded into uTilde.</summary>
    public static LowRankUpdate Stack(IReadOnlyList<LowRankUpdate> updates)
    {
        if (updates.Count == 1)
            return updates[0];
        var u = cat(updates.Select(update => update.uTilde * update.alpha).ToList(), 0);
        var delta = cat(updates.Select(update => update.deltaTilde).ToList(), 0);
        return new(u, delta, ones(Array.Empty<long>(), ScalarType.Float32, u.device));
    }

    /// <summary>
    /// ||alpha deltaTilde^T uTilde||, Frobenius, from the factors and in their type: its square is the sum of
    /// (uTilde uTilde^T) * (deltaTilde deltaTilde^T).
    /// </summary>
    public double Norm()
    {
        var u = uTilde * alpha;
        return Math.Sqrt(Math.Max(0, (u.mm(u.t()) * deltaTilde.mm(deltaTilde.t())).sum().to_type(ScalarType.Float64).Host().item<double>()));
    }

    /// <summary>
    /// The dense [n, m] difference that <c>W' - W</c> would be. For export, measuring many edits and tests: never on an edit's path.
    /// </summary>
    public Tensor ToDense() => -(deltaTilde * alpha).t().mm(uTilde);
}
