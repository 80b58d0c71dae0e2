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

    /// <summary>An edit that was acknowledged, to be taken back.</summary>
    public EditId? AnyEdit(Prng rng)
    {
        lock (_lock)
            return _events.OfType<Edited>().Where(edit => edit.Receipt is not null).ToList() is { Count: > 0 } made
                ? rng.Pick(made).Receipt!.Id : null;
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
        var reverts = entries.Where(entry => entry.Kind == LedgerKind.Revert).ToDictionary(entry => entry.Edit); // each edit at most once
        Assert.All(reverts.Values,
            entry => Assert.Contains(_events.OfType<Reverted>(), revert => revert.Edit == entry.Edit && revert.Mode == entry.Mode));
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
            Asked asked => asked.Answer.Version,
            _ => throw new InvalidOperationException(happened.ToString()),
        };
    }
}
