using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Tests.Histories;

/// <summary>What a client asked for and was answered. Numbers of events are in the order of time.</summary>
/// <param name="Ended">0: it never heard how the request ended.</param>
internal abstract record Event(long Began, long Ended);

/// <param name="Receipt">Null: not acknowledged.</param>
internal sealed record Edited(long Began, long Ended, string Key, string Prompt, string Target, string? Scope, EditReceipt? Receipt)
    : Event(Began, Ended);

internal sealed record Reverted(long Began, long Ended, EditId Edit, RevertMode Mode, RevertReceipt? Receipt) : Event(Began, Ended);

/// <param name="Receipt">Null: refused, or not acknowledged.</param>
internal sealed record Consolidated(long Began, long Ended, string? Scope, IReadOnlyList<EditId> Without, ConsolidationReceipt? Receipt)
    : Event(Began, Ended);

internal sealed record Asked(long Began, long Ended, string Prompt, string? Scope, Answer Answer) : Event(Began, Ended);

/// <summary>All clients' events, and what they know of each other's edits.</summary>
internal sealed class History
{
    private readonly List<Event> _events = [];
    private readonly Lock _lock = new();
    private long _now;

    public IReadOnlyList<Event> Events => _events;

    public long Now() => Interlocked.Increment(ref _now);

    public void Add(Event happened)
    {
        lock (_lock)
            _events.Add(happened);
    }

    /// <summary>An edit or a consolidation that was acknowledged, to be taken back.</summary>
    public EditId? AnyEdit(Prng rng)
    {
        lock (_lock)
            return _events.Select(happened => (happened as Edited)?.Receipt?.Id ?? (happened as Consolidated)?.Receipt?.Id).OfType<EditId>()
                .ToList() is { Count: > 0 } made ? rng.Pick(made) : null;
    }

    /// <summary>
    /// Every acknowledged edit and revert is in the ledger once, as it was acknowledged; the ledger has nothing that nobody asked for.
    /// </summary>
    public void CheckLedger(IReadOnlyList<LedgerEntry> entries)
    {
        Assert.Equal(Enumerable.Range(1, entries.Count), entries.Select(entry => (int)entry.Version.Value));
        var asked = _events.OfType<Edited>().ToDictionary(edit => edit.Key);
        var made = entries.Where(entry => entry.Kind == LedgerKind.Edit).ToDictionary(entry => entry.IdempotencyKey!); // each key once
        foreach (var (key, entry) in made)
            Assert.Equal((asked[key].Prompt, asked[key].Target, asked[key].Scope), (entry.Prompt, entry.Target, entry.Scope));
        foreach (var edit in asked.Values.Where(edit => edit.Receipt is not null))
            Assert.Equal((edit.Receipt!.Id, edit.Receipt.Version, edit.Receipt.Figures),
                (made[edit.Key].Edit, made[edit.Key].Version, made[edit.Key].Figures!));
        var consolidations = entries.Where(entry => entry.Kind == LedgerKind.Consolidate).ToDictionary(entry => entry.Edit);
        Assert.All(consolidations.Values, entry => Assert.Contains(_events.OfType<Consolidated>(), asked => asked.Scope == entry.Scope));
        foreach (var receipt in _events.OfType<Consolidated>().Select(asked => asked.Receipt).OfType<ConsolidationReceipt>())
            Assert.Equal((receipt.Version, receipt.Consolidated.After, string.Join(' ', receipt.Consolidated.Edits)),
                (consolidations[receipt.Id].Version, consolidations[receipt.Id].Consolidated!.After,
                string.Join(' ', consolidations[receipt.Id].Consolidated!.Edits)));
        var reverts = entries.Where(entry => entry.Kind == LedgerKind.Revert).ToDictionary(entry => entry.Edit); // each edit at most once
        Assert.All(reverts.Values, entry => Assert.True(
            _events.OfType<Reverted>().Any(revert => revert.Edit == entry.Edit && revert.Mode == entry.Mode)
            || entry.Mode == RevertMode.Remove && _events.OfType<Consolidated>().Any(asked => asked.Without.Contains(entry.Edit))));
        foreach (var consolidated in _events.OfType<Consolidated>())
            if (consolidated.Receipt is { } receipt && consolidated.Without is [var gone])
                Assert.Equal(receipt.Version.Value - 1, reverts[gone].Version.Value);
        foreach (var revert in _events.OfType<Reverted>().Where(revert => revert.Receipt is not null))
            Assert.Equal(revert.Receipt,
                new(reverts[revert.Edit].Edit, reverts[revert.Edit].Version, reverts[revert.Edit].Recomputed!.Value));
    }

    /// <summary>What was acknowledged before another request began has the older version.</summary>
    public void CheckOrder()
    {
        List<(Event Event, ModelVersion Version)> versions =
            [.. _events.Select(happened => (happened, Version(happened))).Where(seen => seen.Item2 is not null)
            .Select(seen => (seen.happened, seen.Item2!.Value))];
        foreach (var (later, version) in versions)
            foreach (var (earlier, older) in versions.Where(other => other.Event.Ended < later.Began))
                Assert.True(later is Asked || earlier is Asked ? older <= version : older < version,
                    $"{later} began after {earlier} had ended");

        static ModelVersion? Version(Event happened) => happened switch
        {
            Edited edit => edit.Receipt?.Version,
            Reverted revert => revert.Receipt?.Version,
            Consolidated consolidated => consolidated.Receipt?.Version,
            Asked asked => asked.Answer.Version,
            _ => throw new InvalidOperationException(happened.ToString()),
        };
    }
}
