using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>
/// One shift S of a weight for many wishes at once (MALMEN, section 4; mend-spec 11.2): for keys K and wished changes D of their outputs
///   S = argmin |K S - D|^2 + lambda |S|^2 = (K^T K + lambda I)^-1 K^T D.
/// In factored form S = Q^T X. With no more keys than in-features the dual: Q = K, X = (K K^T + lambda I)^-1 D. With more keys Q = L^-1 and
/// X = L^-1 K^T D where L L^T = K^T K + lambda I: m rows instead of T, so no factor is larger than the rows that it was made from.
/// T keys, m in-features, n out-features, R = min(T, m). float64 inside: keys of one kind of prompt are nearly alike, and the Gram
/// matrix squares that.
/// With preserved keys lambda I becomes A0 = lambda I + beta T K0^T K0 / T0: as above with K P and Q P in the place of K and Q, where P is
/// that of <see cref="PreservedRidge"/>, for (P K^T K P + lambda I)^-1 = P^-1 (K^T K + A0)^-1 P^-1.
/// </summary>
internal sealed class LeastSquares
{
    private readonly bool _isDual;
    private readonly double _lambda;
    private readonly PreservedRidge? _preserved;
    private readonly Tensor _keys;   // K P [T, m] float64
    private readonly Tensor _factor; // [R, R] float64, Cholesky
    private readonly Tensor _basis;  // Q [R, m] float64

    /// <param name="keys">[T, m].</param>
    /// <param name="lambda">Above 0.</param>
    /// <param name="preserved">Null: none.</param>
    /// <param name="beta">Weight of the preserved keys' second moment beside that of the keys, at least 0.</param>
    public LeastSquares(Tensor keys, double lambda, PreservedKeys? preserved = null, double beta = 1)
    {
        (_isDual, _lambda) = (keys.shape[0] <= keys.shape[1], lambda);
        using var scope = NewDisposeScope();
        _preserved = preserved is null ? null : new(preserved, lambda, beta * keys.shape[0]);
        _keys = Shrunk(keys.to_type(ScalarType.Float64));
        var gram = _isDual ? _keys.mm(_keys.t()) : _keys.t().mm(_keys);
        var one = eye(gram.shape[0], dtype: ScalarType.Float64, device: gram.device);
        _factor = linalg.cholesky(gram.Plus(one.Times(lambda)));
        _basis = _isDual ? _keys : _factor.t().mm(one.cholesky_solve(_factor)); // L^-1 = L^T (L L^T)^-1
        foreach (var kept in Tensors)
            kept.MoveToOuterDisposeScope();
    }

    /// <summary>All that is kept, for whoever keeps it beyond a dispose scope.</summary>
    public IEnumerable<Tensor> Tensors => [_keys, _factor, .. _isDual ? Enumerable.Empty<Tensor>() : [_basis], .. _preserved?.Tensors ?? []];

    /// <summary>
    /// Refuses rows of a weight that is not the editor's, and rows that are not finite: one would spoil all edits through the solve.
    /// </summary>
    /// <exception cref="MendException">Naming the weight.</exception>
    public static void Check(IReadOnlyDictionary<string, GradientFactors> factors, IReadOnlyList<EditableWeight> weights)
    {
        using var scope = NewDisposeScope();
        if (factors.Keys.FirstOrDefault(name => weights.All(weight => weight.Name != name)) is { } unknown)
            throw Fault.Editor($"this editor was not made for weight '{unknown}'; it edits {string.Join(", ", weights.Select(weight => weight.Name))}");
        if (factors.Count == 0)
            return;
        var finite = stack([.. factors.Values.Select(rows => rows.u.isfinite().all().logical_and(rows.delta.isfinite().all()))], 0)
            .Host().data<bool>().ToArray();
        if (finite.Contains(false))
            throw new MendException(MendError.NotFinite,
                $"Gradient rows of '{factors.Keys.ElementAt(Array.IndexOf(finite, false))}' have entries that are not finite; the model or its loss on an edit overflows.",
                "With 16-bit weights try float32.");
    }

    /// <param name="D">[T, n], what each key's output is to lose.</param>
    /// <returns>The update that takes x S from the output, of rank R; float32.</returns>
    public LowRankUpdate Update(Tensor D)
    {
        using var scope = NewDisposeScope();
        var wished = D.to_type(ScalarType.Float64);
        var X = _isDual ? wished.cholesky_solve(_factor) : _basis.mm(_keys.t().mm(wished)); // [R, n]
        return new(Shrunk(_basis).to_type(ScalarType.Float32).MoveToOuterDisposeScope(), X.to_type(ScalarType.Float32).MoveToOuterDisposeScope(),
            ones(Array.Empty<long>(), ScalarType.Float32, D.device).MoveToOuterDisposeScope());
    }

    /// <summary>
    /// Back through <see cref="Update"/> and through lambda = e^rho. With A = K^T K + A0 and M = A^-1 dL/dS: dL/dD = K M, dL/drho =
    /// -lambda sum(M * S).
    /// </summary>
    /// <param name="update">What <see cref="Update"/> gave.</param>
    /// <param name="ofU">dL/duTilde while deltaTilde stays. [R, m].</param>
    /// <param name="ofX">dL/ddeltaTilde while uTilde stays. [R, n].</param>
    /// <returns>dL/dD [T, n] float64, dL/drho.</returns>
    public (Tensor OfD, double OfRho) Backward(LowRankUpdate update, Tensor ofU, Tensor ofX)
    {
        using var scope = NewDisposeScope();
        var (u, x, g) = (update.uTilde.to_type(ScalarType.Float64), update.deltaTilde.to_type(ScalarType.Float64),
            ofX.to_type(ScalarType.Float64));
        if (!_isDual) // V = uTilde = L^-1 P has A^-1 = V^T V, and g = V dL/dS
            return (_keys.mm(_basis.t().mm(g)).MoveToOuterDisposeScope(), -_lambda * Sum(u.t().mm(g), u.t().mm(x)));
        // g = K P^2 dL/dS, and P (P K^T K P + lambda I)^-1 = (K P^2 K^T + lambda I)^-1 K P^2 on that side
        var solved = g.cholesky_solve(_factor);
        var ofRho = -_lambda * Sum(solved, x);
        if (_preserved is not null) // by Woodbury, what lambda does beside the ridge's own part through P: both vanish with I - P^2
            ofRho += Sum(_preserved.Taken(ofU.to_type(ScalarType.Float64)), _preserved.Taken(u))
                - Sum(solved, _preserved.Taken(_keys).mm(_preserved.Taken(_keys).t()).mm(x));
        return (solved.MoveToOuterDisposeScope(), ofRho);
    }

    private static double Sum(Tensor a, Tensor b) => (a * b).sum().Host().item<double>();

    private Tensor Shrunk(Tensor rows) => _preserved?.Shrunk(rows) ?? rows;
}
