using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// Some edits in their order, for each weight as an update whose cost does not grow with their number. R rows of factors cost a token
/// 2 R (m + n) operations, and the matrix that they stand for 2 m n: rows that have come to half as much as that are added up into one
/// [n, m] matrix, and only the rows since then stay beside it. The edit on top of them, a candidate or the newest, is in rows always: so
/// what was tried is to the last bit what is committed, and the matrix is made when an edit is in force, not when it is proposed.
///
/// It depends on the list of edits alone: the sum is made block by block from the first edit on, and where a block ends the rows say. It is
/// a cache: the edits keep their factors, and a list without one of them is added up anew. The matrix is float32 whatever the weight is.
/// </summary>
/// <param name="weights">Sums are owned, and on the device; rows are the edits', on the host.</param>
internal sealed class FoldedEdits(
    Device device, IReadOnlyDictionary<string, (Tensor? Sum, IReadOnlyList<LowRankUpdate> Rows)> weights) : IDisposable
{
    public static FoldedEdits None(Device device) => new(device, new Dictionary<string, (Tensor?, IReadOnlyList<LowRankUpdate>)>());

    /// <summary>The same for whoever owns it anew; no number is copied.</summary>
    public FoldedEdits Share() => new(device, weights.ToDictionary(entry => entry.Key, entry => (Alias(entry.Value.Sum), entry.Value.Rows)));

    public FoldedEdits Plus(ActiveEdit edit)
    {
        using var _ = no_grad();
        var more = weights.ToDictionary();
        foreach (var (weight, update) in edit.Updates)
        {
            var (sum, rows) = more.GetValueOrDefault(weight, (null, []));
            more[weight] = (sum, [.. rows, update]);
        }
        return new(device, more.ToDictionary(entry => entry.Key, entry => Fold(entry.Value.Sum, entry.Value.Rows)));
    }

    /// <summary>All of them, and an edit on top.</summary>
    public IReadOnlyDictionary<string, FoldedUpdate> With(IReadOnlyDictionary<string, LowRankUpdate> top)
    {
        using var _ = no_grad();
        return weights.Keys.Union(top.Keys).ToDictionary(weight => weight, weight =>
        {
            var (sum, below) = weights.GetValueOrDefault(weight, (null, []));
            List<LowRankUpdate> rows = [.. below, .. top.GetValueOrDefault(weight) is { } own ? [own] : Array.Empty<LowRankUpdate>()];
            return new FoldedUpdate(sum is null ? [] : [sum], rows.Count == 0 ? null : Stack(rows));
        });
    }

    public void Dispose()
    {
        foreach (var (sum, _) in weights.Values)
            sum?.Dispose();
    }

    private (Tensor? Sum, IReadOnlyList<LowRankUpdate> Rows) Fold(Tensor? sum, IReadOnlyList<LowRankUpdate> rows)
    {
        if (rows.Sum(update => update.Rank) < MostRows(rows))
            return (Alias(sum), rows);
        using var scope = NewDisposeScope();
        var block = Stack(rows);
        var (n, m) = (block.deltaTilde.t(), block.uTilde * block.alpha);
        return ((sum is null ? n.mm(m) : sum.addmm(n, m)).DetachFromDisposeScope(), []);
    }

    private LowRankUpdate Stack(IEnumerable<LowRankUpdate> rows) => LowRankUpdate.Stack(
        [.. rows.Select(row => new LowRankUpdate(row.uTilde.On(device), row.deltaTilde.On(device), row.alpha.On(device)))]);

    /// <summary>Of one weight in a stack: half of what costs as much as the matrix.</summary>
    private static double MostRows(IReadOnlyList<LowRankUpdate> rows) => rows is [var any, ..]
        ? any.uTilde.shape[1] * any.deltaTilde.shape[1] / (2.0 * (any.uTilde.shape[1] + any.deltaTilde.shape[1])) : double.PositiveInfinity;

    private static Tensor? Alias(Tensor? sum) => sum?.detach().DetachFromDisposeScope();
}

/// <summary>
/// The edits of one version or branch, and what each scope that was asked for sees of them: the edits for everybody, then its own. It owns
/// the sums and stacks, not the edits.
/// </summary>
internal sealed class UpdatesAtVersion(EditsInForce<ActiveEdit> inForce, Device device) : IDisposable
{
    /// <summary>In the place of a scope's name, which is never empty.</summary>
    private const string Everybody = "";

    /// <summary>Of scopes and routed edits, that are kept.</summary>
    private const int MaxViews = 256;

    private readonly ILookup<string, ActiveEdit> _edits = inForce.Updates.Where(edit => edit.Route is null)
        .ToLookup(edit => edit.Scope ?? Everybody);
    private readonly Dictionary<EditId, ActiveEdit> _routed = inForce.Updates.Where(edit => edit.Route is not null)
        .ToDictionary(edit => edit.Route!.Value);
    private readonly Dictionary<string, Part> _parts = [];
    private readonly Dictionary<(string Scope, EditId? Route), View> _views = [];

    /// <param name="known">Others, from which what is alike is taken.</param>
    public UpdatesAtVersion(EditsInForce<ActiveEdit> inForce, Device device, IReadOnlyCollection<UpdatesAtVersion> known) : this(inForce, device)
    {
        foreach (var scope in known.SelectMany(other => other._parts.Keys).Distinct().Where(_edits.Contains).ToList())
            _parts[scope] = Part.Of(device, [.. _edits[scope]], known.Select(other => other._parts.GetValueOrDefault(scope)).OfType<Part>());
    }

    public EditsInForce<ActiveEdit> InForce => inForce;

    /// <summary>What is computed with.</summary>
    public IReadOnlyList<ActiveEdit> Active => inForce.Updates;

    /// <summary>Sessions that may ask for it again.</summary>
    public int Readers { get; set; }

    /// <summary>What a scope sees; null: everybody.</summary>
    /// <param name="route">The routed edit on top of that; null: none.</param>
    public WeightUpdates For(string? scope, EditId? route = null)
    {
        var name = NameOf(scope);
        if (!_views.TryGetValue((name, route), out var view))
            _views[(name, route)] = view = new(Seen(name, route is null ? PartOf(name).View : PartOf(name).All.With(Routed(route.Value))));
        return view.Updates;
    }

    /// <summary>The same with a candidate of the scope on top: the bits that the next version will have with it.</summary>
    public WeightUpdates OnTop(string? scope, IReadOnlyDictionary<string, LowRankUpdate> candidate) =>
        new(Seen(scope ?? Everybody, PartOf(scope ?? Everybody).All.With(candidate))
            .ToDictionary(entry => entry.Key, entry => (WeightUpdate)entry.Value));

    /// <summary>Lets go of what is kept of routed edits, once it is much. Nobody may be computing with it.</summary>
    public void TrimRoutes()
    {
        if (_views.Count <= MaxViews)
            return;
        foreach (var key in _views.Keys.Where(key => key.Route is not null).ToList())
        {
            _views[key].Dispose();
            _views.Remove(key);
        }
    }

    public void Dispose()
    {
        foreach (var part in _parts.Values)
            part.Dispose();
        foreach (var view in _views.Values)
            view.Dispose();
    }

    private IReadOnlyDictionary<string, LowRankUpdate> Routed(EditId route) => _routed.TryGetValue(route, out var edit) ? edit.Updates
        : throw new MendException(MendError.UnknownEdit, $"No routed edit {route} is in force.", "Ask again at the newest version.");

    /// <summary>A scope without edits costs nothing.</summary>
    private string NameOf(string? scope) => scope is null || !_edits.Contains(scope) ? Everybody : scope;

    private Part PartOf(string scope)
    {
        if (!_parts.TryGetValue(scope, out var part))
            _parts[scope] = part = Part.Of(device, [.. _edits[scope]], []);
        return part;
    }

    private IReadOnlyDictionary<string, FoldedUpdate> Seen(string scope, IReadOnlyDictionary<string, FoldedUpdate> own)
    {
        if (scope == Everybody)
            return own;
        using var _ = no_grad();
        var seen = For(null).Updates.ToDictionary(entry => entry.Key, entry => (FoldedUpdate)entry.Value);
        foreach (var (weight, update) in own)
            seen[weight] = seen.TryGetValue(weight, out var below) ? below.Plus(update) : update;
        return seen;
    }

    /// <summary>
    /// What somebody sees, with aliases: rows of one edit are that edit's tensors, and what was stacked goes with the caller's scope.
    /// </summary>
    private sealed class View : IDisposable
    {
        private readonly List<Tensor> _owned = [];

        public View(IReadOnlyDictionary<string, FoldedUpdate> seen) =>
            Updates = new(seen.ToDictionary(entry => entry.Key, entry => (WeightUpdate)(entry.Value with
            {
                Sums = [.. entry.Value.Sums.Select(Own)],
                Rows = entry.Value.Rows is { } rows ? new(Own(rows.uTilde), Own(rows.deltaTilde), Own(rows.alpha)) : null,
            })));

        public WeightUpdates Updates { get; }

        public void Dispose() => _owned.ForEach(tensor => tensor.Dispose());

        private Tensor Own(Tensor tensor)
        {
            var alias = tensor.detach().DetachFromDisposeScope();
            _owned.Add(alias);
            return alias;
        }
    }

    /// <summary>The edits of one scope, or those for everybody.</summary>
    /// <param name="Below">All but the last.</param>
    private sealed record Part(IReadOnlyList<ActiveEdit> Edits, FoldedEdits Below, FoldedEdits All) : IDisposable
    {
        public IReadOnlyDictionary<string, FoldedUpdate> View => Edits is [.., var last] ? Below.With(last.Updates) : All.With(
            new Dictionary<string, LowRankUpdate>());

        public static Part Of(Device device, IReadOnlyList<ActiveEdit> edits, IEnumerable<Part> known)
        {
            var begun = known.Where(part => part.Edits.SequenceEqual(edits.Take(part.Edits.Count))).MaxBy(part => part.Edits.Count);
            if (begun is not null && begun.Edits.Count == edits.Count)
                return new(edits, begun.Below.Share(), begun.All.Share());
            var below = begun?.All.Share() ?? FoldedEdits.None(device);
            foreach (var edit in edits.Skip(begun?.Edits.Count ?? 0).SkipLast(1))
                using (var before = below)
                    below = before.Plus(edit);
            return new(edits, below, edits is [.., var last] ? below.Plus(last) : below.Share());
        }

        public void Dispose()
        {
            Below.Dispose();
            All.Dispose();
        }
    }
}
