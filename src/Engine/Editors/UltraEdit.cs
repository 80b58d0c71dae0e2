using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>UltraEdit's settings (mend-spec 11.7).</summary>
public sealed record UltraEditOptions
{
    /// <summary>eta, the step size of all weights.</summary>
    /// <value>1e-6.</value>
    public double EditLr { get; init; } = 1e-6;

    /// <summary>The ridge of the least squares.</summary>
    /// <value>1.</value>
    public double Lambda { get; init; } = 1;

    /// <exception cref="MendException">Naming the setting and its range.</exception>
    public UltraEditOptions Validated()
    {
        if (!double.IsFinite(EditLr) || EditLr == 0)
            throw Fault.Setting($"edit_lr is {EditLr}; it must be a finite number other than 0");
        if (!double.IsFinite(Lambda) || Lambda <= 0)
            throw Fault.Setting($"lambda is {Lambda}; it must be a finite number above 0");
        return this;
    }
}

/// <summary>
/// UltraEdit: many edits at once with nothing to train. Like <see cref="Malmen"/> without the network: with k^ and v^ the normalised key
/// and gradient of a token, d = eta |k^|^2 v^ is taken from its output, by least squares over the raw keys. The statistics go on for the
/// editor's whole life: <see cref="AddToStatistics"/> before each batch of edits.
/// </summary>
public sealed class UltraEdit : IPreparedEditor
{
    private readonly Dictionary<string, RunningStatistics> _statistics;

    /// <summary>An editor that has seen nothing yet.</summary>
    /// <param name="device">That of the rows; null: the CPU.</param>
    public UltraEdit(UltraEditOptions options, IReadOnlyList<EditableWeight> weights, Device? device = null)
        : this(options, weights, weight => new RunningStatistics(weight.InFeatures + weight.OutFeatures, device))
    {
    }

    /// <summary>An editor that was kept.</summary>
    /// <param name="read">A saved tensor by name, as <see cref="State"/> names them. The editor is on the device that they are on.</param>
    /// <param name="wanted">The weights that are needed; null: all.</param>
    public UltraEdit(UltraEditOptions options, IReadOnlyList<EditableWeight> weights, Func<string, Tensor> read,
        IReadOnlyCollection<string>? wanted = null)
        : this(options, [.. weights.Where(weight => wanted is null || wanted.Contains(weight.Name))], weight => new RunningStatistics(
            read($"ultraedit.{weight.Name}.k").Host().item<long>(), read($"ultraedit.{weight.Name}.mean"),
            read($"ultraedit.{weight.Name}.s")))
    {
        Weights = weights;
    }

    private UltraEdit(UltraEditOptions options, IReadOnlyList<EditableWeight> weights, Func<EditableWeight, RunningStatistics> statistics)
    {
        (Options, Weights) = (options.Validated(), weights);
        _statistics = weights.ToDictionary(weight => weight.Name, statistics);
    }

    public UltraEditOptions Options { get; }

    /// <inheritdoc />
    public EditorAlgorithm Algorithm => EditorAlgorithm.UltraEdit;

    object IStoredEditor.Options => Options;

    /// <inheritdoc />
    public IReadOnlyList<EditableWeight> Weights { get; }

    /// <summary>None.</summary>
    public IEnumerable<(string Name, Tensor Value)> Parameters => [];

    /// <summary>None that is learned.</summary>
    public IEnumerable<(string Name, Tensor Value)> StepSizes => [];

    /// <inheritdoc />
    public IEnumerable<(string Name, Tensor Value)> State => _statistics.SelectMany(entry => new (string, Tensor)[]
    {
        ($"ultraedit.{entry.Key}.k", tensor(entry.Value.Count, device: CPU)),
        ($"ultraedit.{entry.Key}.mean", entry.Value.Mean),
        ($"ultraedit.{entry.Key}.s", entry.Value.Squares),
    });

    /// <summary>Takes the rows of a batch of edits into the statistics.</summary>
    public void AddToStatistics(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        LeastSquares.Check(factors, Weights);
        using var scope = NewDisposeScope();
        foreach (var (name, rows) in factors)
            _statistics[name].Add(cat([rows.u, rows.delta], 1));
    }

    /// <inheritdoc />
    public IReadOnlyDictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        LeastSquares.Check(factors, Weights);
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        var updates = factors.ToDictionary(entry => entry.Key,
            entry => new LeastSquares(entry.Value.u, Options.Lambda).Update(Shifts(entry.Key, entry.Value)));
        foreach (var tensor in updates.Values.SelectMany(update => update.Tensors))
            tensor.MoveToOuterDisposeScope();
        return updates;
    }

    public void Dispose()
    {
        foreach (var statistics in _statistics.Values)
            statistics.Dispose();
    }

    private Tensor Shifts(string weight, GradientFactors rows)
    {
        var normalised = _statistics[weight].Normalise(cat([rows.u, rows.delta], 1)); // [T, m + n]
        var (k, v) = (normalised.narrow(1, 0, rows.u.shape[1]), normalised.narrow(1, rows.u.shape[1], rows.delta.shape[1]));
        return ((k * k).sum([1], keepdim: true) * v).Times(Options.EditLr);
    }
}
