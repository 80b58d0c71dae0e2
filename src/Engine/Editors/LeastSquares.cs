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
/// </summary>
internal sealed class LeastSquares
{
    private readonly bool _isDual;
    private readonly double _lambda;
    private readonly Tensor _keys;   // [T, m] float64
    private readonly Tensor _factor; // [R, R] float64, Cholesky
    private readonly Tensor _basis;  // Q [R, m] float64

    /// <param name="keys">[T, m].</param>
    /// <param name="lambda">Above 0.</param>
    public LeastSquares(Tensor keys, double lambda)
    {
        (_isDual, _lambda) = (keys.shape[0] <= keys.shape[1], lambda);
        using var scope = NewDisposeScope();
        _keys = keys.to_type(ScalarType.Float64);
        var gram = _isDual ? _keys.mm(_keys.t()) : _keys.t().mm(_keys);
        var one = eye(gram.shape[0], dtype: ScalarType.Float64, device: gram.device);
        _factor = linalg.cholesky(gram.Plus(one.Times(lambda)));
        _basis = _isDual ? _keys : _factor.t().mm(one.cholesky_solve(_factor)); // L^-1 = L^T (L L^T)^-1
        foreach (var kept in Tensors)
            kept.MoveToOuterDisposeScope();
    }

    /// <summary>All that is kept, for whoever keeps it beyond a dispose scope.</summary>
    public IEnumerable<Tensor> Tensors => _isDual ? [_keys, _factor] : [_keys, _factor, _basis];

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
            throw new MendException(MendError.ModelUnusable,
                $"gradient rows of '{factors.Keys.ElementAt(Array.IndexOf(finite, false))}' have entries that are not finite; the model or its loss on an edit overflows",
                "With 16-bit weights try float32.");
    }

    /// <param name="D">[T, n], what each key's output is to lose.</param>
    /// <returns>The update that takes x S from the output, of rank R; float32.</returns>
    public LowRankUpdate Update(Tensor D)
    {
        using var scope = NewDisposeScope();
        var wished = D.to_type(ScalarType.Float64);
        var X = _isDual ? wished.cholesky_solve(_factor) : _basis.mm(_keys.t().mm(wished)); // [R, n]
        return new(_basis.to_type(ScalarType.Float32).MoveToOuterDisposeScope(), X.to_type(ScalarType.Float32).MoveToOuterDisposeScope(),
            ones(Array.Empty<long>(), ScalarType.Float32, D.device).MoveToOuterDisposeScope());
    }

    /// <summary>
    /// Back through <see cref="Update"/> and through lambda = e^rho. With M = (K^T K + lambda I)^-1 dL/dS: dL/dD = K M, dL/drho = -lambda
    /// sum(M * S).
    /// </summary>
    /// <param name="X">The update's deltaTilde.</param>
    /// <param name="ofX">dL/dX while uTilde stays. [R, n].</param>
    /// <returns>dL/dD [T, n] float64, dL/drho.</returns>
    public (Tensor OfD, double OfRho) Backward(Tensor X, Tensor ofX)
    {
        using var scope = NewDisposeScope();
        var (x, g) = (X.to_type(ScalarType.Float64), ofX.to_type(ScalarType.Float64));
        if (_isDual) // g = K dL/dS, and K (K^T K + lambda I)^-1 = (K K^T + lambda I)^-1 K
        {
            var solved = g.cholesky_solve(_factor);
            return (solved.MoveToOuterDisposeScope(), -_lambda * (solved * x).sum().Host().item<double>());
        }
        var M = _basis.t().mm(g); // g = L^-1 dL/dS
        return (_keys.mm(M).MoveToOuterDisposeScope(), -_lambda * (M * _basis.t().mm(x)).sum().Host().item<double>());
    }
}
