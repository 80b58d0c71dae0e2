using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>
/// What one weight read in the edits before: their keys K_s, which an edit made after them goes round as it goes round preserved ones. Kept
/// as rows Z with Z^T Z = sum K_s^T K_s; when these have come to more than they need be, as their largest directions (exact while there are
/// at most <see cref="PreservedKeys.MaxRank"/>). Nothing of [m, m] is formed, and what one more edit costs does not grow with those before. m in-features, r rows.
/// </summary>
public sealed class EarlierKeys : IDisposable
{
    /// <summary>Rows that are added before they are compressed again.</summary>
    private const int Block = 256;

    private readonly Tensor? _values; // [r0] float64, of the preserved keys
    private readonly long _preserved; // r0
    private Tensor? _rows;            // [r0 + r, m] float32: Q of the preserved keys, then Z
    private Tensor? _gram;            // [r0 + r, r0 + r] float64: rows rows^T

    /// <summary>None yet.</summary>
    /// <param name="preserved">What the editor goes round beside them; null: nothing.</param>
    public EarlierKeys(PreservedKeys? preserved)
    {
        if (preserved is null)
            return;
        using var scope = NewDisposeScope();
        (_values, _preserved) = (preserved.Values.to_type(ScalarType.Float64).DetachFromDisposeScope(), preserved.Q.shape[0]);
        Keep(preserved.Q.to_type(ScalarType.Float32), Gram(preserved.Q));
    }

    /// <summary>Rows of all the edits before.</summary>
    public long Count { get; private set; }

    /// <param name="keys">Of the next edit, on the device of the preserved ones. [T, m].</param>
    public void Add(Tensor keys)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        Count += keys.shape[0];
        var more = keys.to_type(ScalarType.Float32);
        if (_rows is null)
            Keep(more, Gram(more));
        else
        {
            var beside = Double(_rows).mm(Double(more).t()); // [r0 + r, T]
            Keep(cat([_rows, more], 0), cat([cat([_gram!, beside], 1), cat([beside.t(), Gram(more)], 1)], 0));
        }
        var most = Math.Min(PreservedKeys.MaxRank, keys.shape[1]);
        if (_rows!.shape[0] - _preserved <= most + Block)
            return;
        var (_, sizes, right) = linalg.svd(Double(_rows.narrow(0, _preserved, _rows.shape[0] - _preserved)), fullMatrices: false);
        var largest = (right.narrow(0, 0, most) * sizes.narrow(0, 0, most).unsqueeze(1)).to_type(ScalarType.Float32);
        var rows = _preserved == 0 ? largest : cat([_rows.narrow(0, 0, _preserved), largest], 0);
        Keep(rows, Gram(rows));
    }

    /// <summary>
    /// lambda K A^-1 with A = lambda I + beta (T_all / T0) K0^T K0 + Z^T Z by Woodbury's identity, T_all the rows of all the edits before and
    /// of this one: preserved keys count beta times as much as all edits together.
    /// </summary>
    /// <param name="keys">K of this edit. [T, m] float64.</param>
    /// <param name="lambda">Above 0.</param>
    /// <param name="beta">At least 0.</param>
    /// <returns>[T, m] float64.</returns>
    internal Tensor Around(Tensor keys, double lambda, double beta)
    {
        if (_rows is null)
            return keys;
        using var scope = NewDisposeScope();
        var rows = Double(_rows);
        var sizes = ones([rows.shape[0]], ScalarType.Float64, rows.device);
        if (_values is not null)
            sizes.narrow(0, 0, _preserved).copy_(_values.Times(beta * (Count + keys.shape[0])).sqrt());
        var scaled = rows * sizes.unsqueeze(1); // B, with A = lambda I + B^T B
        var inner = _gram! * sizes.unsqueeze(1) * sizes; // B B^T
        var factor = linalg.cholesky(inner.Plus(eye(rows.shape[0], dtype: ScalarType.Float64, device: rows.device).Times(lambda)));
        var taken = scaled.mm(keys.t()).cholesky_solve(factor); // (lambda I + B B^T)^-1 B K^T
        return (keys - taken.t().mm(scaled)).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        _values?.Dispose();
        _rows?.Dispose();
        _gram?.Dispose();
    }

    private static Tensor Double(Tensor rows) => rows.to_type(ScalarType.Float64);

    private static Tensor Gram(Tensor rows) => Double(rows).mm(Double(rows).t());

    private void Keep(Tensor rows, Tensor gram)
    {
        rows = rows.KeptCopy(ScalarType.Float32);
        _rows?.Dispose();
        _gram?.Dispose();
        (_rows, _gram) = (rows, gram.DetachFromDisposeScope());
    }
}
