using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>
/// Mean and variance of every coordinate over all rows seen. Rows are merged a batch at a time by the exact parallel formula (Chan et
/// al.), so the result depends neither on the batches nor on their order. float64 sums and an integer count: a float32 count stops at
/// 2^24 rows, which training reaches in a day.
/// </summary>
public sealed class RunningStatistics : IDisposable
{
    /// <summary>Added to the standard deviation, not to the variance, as published.</summary>
    private const double Epsilon = 1e-7;

    private Tensor _mean, _squares; // [d] float64: mean, and sum of squared deviations from it

    /// <param name="device">That of the rows; null: the CPU.</param>
    public RunningStatistics(long dimensions, Device? device = null)
        : this(0, zeros([dimensions], ScalarType.Float64, device), zeros([dimensions], ScalarType.Float64, device))
    {
    }

    /// <param name="count">Rows seen.</param>
    /// <param name="mean">[d].</param>
    /// <param name="squares">[d], sum of squared deviations from the mean.</param>
    public RunningStatistics(long count, Tensor mean, Tensor squares)
    {
        Count = count;
        _mean = mean.KeptCopy(ScalarType.Float64);
        _squares = squares.KeptCopy(ScalarType.Float64);
    }

    public long Count { get; private set; }

    /// <summary>[d] float64.</summary>
    public Tensor Mean => _mean;

    /// <summary>[d] float64, sum of squared deviations from the mean.</summary>
    public Tensor Squares => _squares;

    /// <summary>Unbiased standard deviation. [d] float64.</summary>
    public Tensor Std() => _squares.Over(Count - 1).sqrt();

    /// <summary>Takes the rows in. [R, d]; R may be 0.</summary>
    public void Add(Tensor rows)
    {
        if (rows.shape[0] == 0)
            return;
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var x = rows.to_type(ScalarType.Float64);
        var mean = x.mean([0]);
        var deviation = x - mean;
        Merge(rows.shape[0], mean, (deviation * deviation).sum([0]));
    }

    /// <summary>Takes other statistics in, exactly: those of another replica or stage.</summary>
    public void Merge(long count, Tensor mean, Tensor squares)
    {
        if (count == 0)
            return;
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var total = Count + count;
        var difference = mean - _mean;
        var share = (double)count / total;
        var newSquares = _squares.Plus(squares).Plus((difference * difference).Times(Count * share));
        var newMean = Count == 0 ? mean.clone() : _mean.Plus(difference.Times(share));
        _mean.Dispose();
        _squares.Dispose();
        (Count, _mean, _squares) = (total, newMean.DetachFromDisposeScope(), newSquares.DetachFromDisposeScope());
    }

    /// <summary>Becomes a copy of other statistics.</summary>
    public void Set(long count, Tensor mean, Tensor squares)
    {
        using var _ = no_grad();
        _mean.copy_(mean);
        _squares.copy_(squares);
        Count = count;
    }

    /// <summary>(x - mean) / (std + eps).</summary>
    /// <param name="rows">[R, d] float32.</param>
    /// <returns>[R, d] float32.</returns>
    /// <exception cref="MendException">Fewer than two rows were ever seen.</exception>
    public Tensor Normalise(Tensor rows) => Count >= 2
        ? ((rows - _mean) / Std().Plus(Epsilon)).to_type(ScalarType.Float32) // float64 inside: a dead coordinate divides by 1e-7
        : throw Fault.Editor($"the editor's statistics have seen {Count} gradient rows and need at least 2; "
            + "train the editor, or load one that was trained");

    public void Dispose()
    {
        _mean.Dispose();
        _squares.Dispose();
    }
}
