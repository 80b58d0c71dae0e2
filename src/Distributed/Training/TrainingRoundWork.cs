using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Engine;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Training;

/// <summary>All that a shard keeps of one attempt at a step.</summary>
internal sealed class Round(TrainingRound round) : IDisposable
{
    private readonly Dictionary<int, EditWork> _edits = [];

    public long Number => round.Number;

    public long Step => round.Step;

    public bool Trains => round.Kind == RoundKind.Step;

    public RingMail Mail { get; } = new();

    /// <summary>By group: this shard's gradient, then the sum of all owners'.</summary>
    public Dictionary<string, float[]> Sums { get; } = [];

    public EditWork Edit(int number)
    {
        if (!_edits.TryGetValue(number, out var edit))
            _edits[number] = edit = new();
        return edit;
    }

    public bool Forget(int number)
    {
        if (!_edits.Remove(number, out var edit))
            return false;
        edit.Dispose();
        return true;
    }

    public void Dispose()
    {
        foreach (var edit in _edits.Values)
            edit.Dispose();
    }
}

/// <summary>dL/d(uTilde, deltaTilde, alpha) of one edit at one weight.</summary>
/// <param name="uTilde">[R, m].</param>
/// <param name="deltaTilde">[R, n].</param>
/// <param name="alpha">[].</param>
internal sealed record UpdateGradient(Tensor uTilde, Tensor deltaTilde, Tensor alpha);

/// <summary>
/// One edit of a round on one stage: factors, then updates, then their gradients; and the graph of the pass that is under way.
/// </summary>
internal sealed class EditWork : IDisposable
{
    private readonly Dictionary<string, LowRankUpdate> _updates = [];
    private readonly Dictionary<string, UpdateGradient> _gradients = [];
    private readonly List<Tensor> _owned = [];
    private (StageGraph Graph, Recording? Recording)? _pass;

    public IReadOnlyDictionary<string, GradientFactors> Factors { get; private set; } = new Dictionary<string, GradientFactors>();

    /// <summary>The factors by the statistics as they were after this edit.</summary>
    public IReadOnlyDictionary<string, GradientFactors> Normalised { get; private set; } = new Dictionary<string, GradientFactors>();

    public IReadOnlyDictionary<string, LowRankUpdate> Updates => _updates;

    public IReadOnlyDictionary<string, UpdateGradient> Gradients => _gradients;

    /// <summary>uTilde, deltaTilde and alpha of each weight in turn.</summary>
    public IReadOnlyList<Tensor> Leaves =>
        [.. _updates.Values.SelectMany(update => new[] { update.uTilde, update.deltaTilde, update.alpha })];

    public void Keep(StageGraph graph, Recording? recording)
    {
        _pass?.Graph.Dispose();
        _pass = (graph, recording);
    }

    /// <summary>The pass under way, which is the caller's from now on.</summary>
    public (StageGraph Graph, Recording? Recording)? TakeGraph()
    {
        var pass = _pass;
        _pass = null;
        return pass;
    }

    public void Keep(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        Factors = factors;
        Own([.. factors.Values.SelectMany(rows => new[] { rows.u, rows.delta })]);
    }

    public void KeepNormalised(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        Normalised = factors;
        Own([.. factors.Values.SelectMany(rows => new[] { rows.u, rows.delta })]);
    }

    public void Keep(string weight, LowRankUpdate update)
    {
        _updates[weight] = update;
        Own(update.uTilde, update.deltaTilde, update.alpha);
    }

    /// <param name="gradients">Of <see cref="Leaves"/>.</param>
    public void KeepGradients(IReadOnlyList<Tensor> gradients)
    {
        foreach (var (weight, i) in _updates.Keys.Select((weight, i) => (weight, i)))
            _gradients[weight] = new(gradients[3 * i], gradients[3 * i + 1], gradients[3 * i + 2]);
        Own([.. gradients]);
    }

    public void Dispose()
    {
        _pass?.Graph.Dispose();
        foreach (var tensor in _owned)
            tensor.Dispose();
    }

    private void Own(params IReadOnlyList<Tensor> tensors)
    {
        foreach (var tensor in tensors)
            _owned.Add(tensor.DetachFromDisposeScope());
    }
}

/// <summary>The normalised rows of several edits as those of one: weight by weight, edit after edit in their order.</summary>
internal sealed class EditRows(Round round, IReadOnlyList<int> edits, IReadOnlyList<string> weights)
{
    public IReadOnlyDictionary<string, GradientFactors> Factors { get; } =
        weights.ToDictionary(weight => weight, weight => new GradientFactors(
        cat([.. edits.Select(edit => round.Edit(edit).Normalised[weight].u)]),
        cat([.. edits.Select(edit => round.Edit(edit).Normalised[weight].delta)])));

    /// <summary>Of every edit: the gradients at a weight's update.</summary>
    public IReadOnlyList<UpdateGradient> GradientsOf(string weight) => [.. edits.Select(edit => round.Edit(edit).Gradients[weight])];
}
