using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>
/// What a weight reads when the model answers questions that no edit is to change: keys K0 [T0, m], kept as the largest directions of
/// their second moment, K0^T K0 / T0 = Q^T diag(values) Q (exact while K0 has at most <see cref="MaxRank"/> of them). Least squares that
/// are charged for moving the outputs of these keys go round them. m in-features, r kept directions.
/// </summary>
/// <param name="Q">[r, m] float32, orthonormal rows.</param>
/// <param name="Values">[r] float32, above 0, falling.</param>
public sealed record PreservedKeys(Tensor Q, Tensor Values)
{
    /// <summary>Directions that are kept at most.</summary>
    public const int MaxRank = 1024;
}

/// <summary>Preserved keys of one weight as they are read, a portion at a time: no [m, m] matrix is formed, nor ever more rows held.</summary>
public sealed class KeySketch : IDisposable
{
    /// <summary>Directions below this share of the largest are rounding.</summary>
    private const double Smallest = 1e-7;

    private Tensor? _rows; // [at most r, m] float64; rows^T rows = K0^T K0 of the portions so far
    private long _count;

    /// <param name="keys">[any number, m] float32.</param>
    public void Add(Tensor keys)
    {
        using var scope = NewDisposeScope();
        _count += keys.shape[0];
        var all = keys.to_type(ScalarType.Float64);
        var (_, sizes, right) = linalg.svd(_rows is null ? all : cat([_rows, all], 0), fullMatrices: false);
        var kept = Math.Min(PreservedKeys.MaxRank, sizes.Ge(sizes.max().Host().item<double>() * Smallest).sum().Host().item<long>());
        var next = right.narrow(0, 0, kept) * sizes.narrow(0, 0, kept).unsqueeze(1);
        _rows?.Dispose();
        _rows = next.DetachFromDisposeScope();
    }

    /// <summary>Of all portions so far, at least one.</summary>
    public PreservedKeys Keys()
    {
        var rows = _rows ?? throw new InvalidOperationException("there are no keys to preserve");
        var squares = (rows * rows).sum([1], keepdim: true); // [r, 1]
        return new((rows / squares.sqrt()).to_type(ScalarType.Float32), squares.Over(_count).squeeze(1).to_type(ScalarType.Float32));
    }

    public void Dispose() => _rows?.Dispose();
}

/// <summary>
/// A0 = lambda I + weight Q^T diag(values) Q of the least squares, which is never formed: with P = (lambda A0^-1)^(1/2) they are those
/// of keys K P with the ridge alone, and P only shrinks the kept directions. float64.
/// </summary>
internal sealed class PreservedRidge
{
    private readonly Tensor _q;        // [r, m]
    private readonly Tensor _taken;    // [r], what I - P takes of each direction: 1 - (lambda / (lambda + weight values))^(1/2)
    private readonly Tensor _takenOf2; // [r], the root of what I - P^2 takes: (weight values / (lambda + weight values))^(1/2)

    /// <param name="weight">beta T, so that preserved keys count as much as T more keys would, times beta.</param>
    public PreservedRidge(PreservedKeys keys, double lambda, double weight)
    {
        using var scope = NewDisposeScope();
        _q = keys.Q.to_type(ScalarType.Float64).MoveToOuterDisposeScope();
        var values = keys.Values.to_type(ScalarType.Float64).Times(weight);
        var share = values / values.Plus(lambda);
        _taken = share.Minus(1).Times(-1).sqrt().Minus(1).Times(-1).MoveToOuterDisposeScope();
        _takenOf2 = share.sqrt().MoveToOuterDisposeScope();
    }

    /// <summary>For whoever keeps it beyond a dispose scope.</summary>
    public IEnumerable<Tensor> Tensors => [_q, _taken, _takenOf2];

    /// <summary>rows P.</summary>
    /// <param name="rows">[any number, m] float64.</param>
    public Tensor Shrunk(Tensor rows) => rows.Plus((rows.mm(_q.t()) * _taken).mm(_q).Times(-1));

    /// <summary>rows (I - P^2)^(1/2) in the coordinates of the kept directions: Taken(a) Taken(b)^T = a (I - P^2) b^T.</summary>
    /// <param name="rows">[any number, m] float64.</param>
    /// <returns>[any number, r].</returns>
    public Tensor Taken(Tensor rows) => rows.mm(_q.t()) * _takenOf2;
}
