using System.Collections.Immutable;

namespace MendCluster.Contracts;

/// <summary>
/// What is in force after the records of a ledger: the edits that no revert took back, in their order, and the consolidations whose edits
/// are all still there as they were. What a model computes with is <see cref="Updates"/>. It depends on the records alone.
/// </summary>
/// <typeparam name="T">What an edit's factors are made into.</typeparam>
/// <param name="Edits">Oldest first.</param>
/// <param name="Consolidations">Oldest first.</param>
public sealed record EditsInForce<T>(
    ImmutableList<EditsInForce<T>.Edit> Edits, ImmutableList<EditsInForce<T>.Consolidation> Consolidations)
{
    public static readonly EditsInForce<T> None = new([], []);

    /// <summary>A consolidation stands in the place of the first of its edits; where two have an edit in common, the newer stands.</summary>
    public IReadOnlyList<T> Updates
    {
        get
        {
            var standing = new Dictionary<EditId, Consolidation>();
            foreach (var consolidation in Enumerable.Reverse(Consolidations))
                if (!consolidation.Of.Any(standing.ContainsKey))
                    foreach (var member in consolidation.Of)
                        standing[member] = consolidation;
            var updates = new List<T>();
            var told = new HashSet<EditId>();
            foreach (var edit in Edits)
                if (!standing.TryGetValue(edit.Id, out var consolidation))
                    updates.Add(edit.Update);
                else if (told.Add(consolidation.Id))
                    updates.Add(consolidation.Update);
            return updates;
        }
    }

    /// <summary>Everything that is kept, whether a model computes with it now or may again.</summary>
    public IEnumerable<T> All => [.. Edits.Select(edit => edit.Update), .. Consolidations.Select(consolidation => consolidation.Update)];

    /// <param name="make">What becomes of changes of the record, which are for those who see this scope.</param>
    /// <exception cref="MendException">The record does not fit what is in force.</exception>
    public EditsInForce<T> Plus(LedgerRecord record, Func<string?, IEnumerable<WeightChange>, T> make)
    {
        var (entry, changes) = record;
        switch (entry.Kind)
        {
            case LedgerKind.Edit:
                return this with { Edits = Edits.Add(new(entry.Edit, entry.Scope, make(entry.Scope, changes))) };
            case LedgerKind.Consolidate:
                var of = entry.Consolidated?.Edits ?? [];
                if (of.Count == 0 || of.Any(id => Edits.FirstOrDefault(edit => edit.Id == id) is not { } edit || edit.Scope != entry.Scope))
                    throw Unusable(entry, $"consolidates edits [{string.Join(", ", of)}], of which not all are in force");
                return this with { Consolidations = Consolidations.Add(new(entry.Edit, of, make(entry.Scope, changes))) };
            case LedgerKind.Revert when Consolidations.Any(consolidation => consolidation.Id == entry.Edit):
                return this with { Consolidations = Consolidations.RemoveAll(consolidation => consolidation.Id == entry.Edit) };
            case LedgerKind.Revert when Edits.Any(edit => edit.Id == entry.Edit):
                var recomputed = changes.Where(change => change.Replaces is not null).ToLookup(change => change.Replaces!.Value);
                return new(
                    [.. Edits.Where(edit => edit.Id != entry.Edit).Select(edit => !recomputed.Contains(edit.Id) ? edit
                        : edit with { Update = make(edit.Scope, recomputed[edit.Id]) })],
                    [.. Consolidations.Where(consolidation =>
                        !consolidation.Of.Any(id => id == entry.Edit || recomputed.Contains(id)))]);
            default:
                throw Unusable(entry, $"takes back edit {entry.Edit}, which is not in force");
        }
    }

    /// <summary>These, then some edits of another history, with its consolidations of edits that are all here as they are there.</summary>
    public EditsInForce<T> Then(EditsInForce<T> other, IReadOnlyCollection<EditId> some)
    {
        ImmutableList<Edit> edits = [.. Edits, .. other.Edits.Where(edit => some.Contains(edit.Id))];
        var known = other.Edits.Intersect(edits).Select(edit => edit.Id).ToHashSet();
        return new(edits, [.. Consolidations.Union(other.Consolidations.Where(consolidation => consolidation.Of.All(known.Contains)))]);
    }

    private static MendException Unusable(LedgerEntry entry, string why) =>
        new(MendError.LedgerUnusable, $"Version {entry.Version} of the ledger {why}.", "Restore the ledger from a copy.");

    /// <param name="Update">Recomputed, where a revert did that.</param>
    public sealed record Edit(EditId Id, string? Scope, T Update);

    /// <param name="Of">The edits in whose place it stands.</param>
    public sealed record Consolidation(EditId Id, IReadOnlyList<EditId> Of, T Update);
}
