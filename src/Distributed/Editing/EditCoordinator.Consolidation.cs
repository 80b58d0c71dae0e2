using MendCluster.Contracts;
using MendCluster.Distributed.Telemetry;

namespace MendCluster.Distributed.Editing;

/// <summary>Consolidations: looked for beside edits and answers, committed in a turn among the edits.</summary>
public sealed partial class EditCoordinator
{
    /// <summary>One at a time.</summary>
    private readonly SemaphoreSlim _consolidation = new(1);

    private readonly ReplaySet _replay = replay ?? ReplaySet.None;
    private ConsolidationSchedule? _schedule;

    /// <summary>Asked for in a turn only.</summary>
    private ConsolidationSchedule Schedule => _schedule ??= new(_triggers, ConsolidateAsync, _logger);

    public async Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options = null, CancellationToken cancellation = default)
    {
        options ??= new();
        Check(options);
        if (routes is not null)
            throw new MendException(MendError.ConsolidationRefused, "The model routes its edits.",
                "Each is computed and seen by itself; together they cost no more, so there is nothing to consolidate.");
        using var span = MendTracing.Start("consolidate");
        var start = time.GetTimestamp();
        await _consolidation.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            var (facts, changes, steps) = await FitAsync(options, cancellation).ConfigureAwait(false);
            var (entry, consolidated) = await SwapAsync(options, facts, changes, cancellation).ConfigureAwait(false);
            _logger.Consolidated(entry.Edit, consolidated.Edits.Count, consolidated.Before.Success, consolidated.After.Success);
            MendMetrics.Consolidated(time.GetElapsedTime(start), null);
            return new(entry.Edit, entry.Version, consolidated, steps, time.GetElapsedTime(start));
        }
        catch (Exception e)
        {
            MendMetrics.Consolidated(time.GetElapsedTime(start), e);
            MendTracing.Failed(span, e);
            throw;
        }
        finally
        {
            _consolidation.Release();
        }
    }

    /// <summary>Looks for one update, while edits and answers go on.</summary>
    private async Task<(IReadOnlyList<LedgerEntry> Facts, IReadOnlyList<WeightChange> Changes, int Steps)> FitAsync(
        ConsolidateOptions options, CancellationToken cancellation)
    {
        var entries = ledger.Entries; // edits go on
        var version = VersionOf(entries);
        List<LedgerEntry> inForce = InForce(entries), ofScope = [.. inForce.Where(entry => entry.Scope == options.Scope)];
        foreach (var edit in options.Without)
            CheckIn(options.Scope, edit, entries);
        List<LedgerEntry> facts = [.. ofScope.Where(entry => !options.Without.Contains(entry.Edit))];
        if (facts.Count == 0)
            throw new MendException(MendError.NothingToConsolidate,
                $"No {(options.Without.Count > 0 ? "other " : "")}edit {Whose(options.Scope)} is in force.",
                options.Without.Count > 0 ? "Take them back with a revert." : "Make some first.");
        List<EditId> others = [.. inForce.Except(ofScope).Select(entry => entry.Edit)];
        return await WithFailoverAsync(async (replica, session) =>
        {
            var search = new Consolidation(replica, session, version, facts, others, _replay, text, options, time);
            var changes = await search.RunAsync(cancellation).ConfigureAwait(false);
            return search.Steps > 0 ? (facts, changes, search.Steps) : throw new MendException(MendError.NothingToConsolidate,
                $"The {facts.Count} edit(s) are consolidated, and all are answered as they should be.", "Nothing is left to do.");
        }).ConfigureAwait(false);
    }

    /// <summary>
    /// Tries what was found, and commits it in a turn among the edits. How many edits it keeps is asked before the turn; if some were made in
    /// between, once more in it.
    /// </summary>
    private async Task<(LedgerEntry Entry, Consolidated Consolidated)> SwapAsync(ConsolidateOptions options, IReadOnlyList<LedgerEntry> facts,
        IReadOnlyList<WeightChange> changes, CancellationToken cancellation)
    {
        var candidate = Candidate(options, facts, changes);
        var kept = await KeptAsync(candidate).ConfigureAwait(false);
        await TurnAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (candidate[0].Entry.Version != Version.Next())
            {
                candidate = Candidate(options, facts, changes);
                kept = await KeptAsync(candidate).ConfigureAwait(false);
            }
            var outcome = await TrialAsync(candidate, trial => trial.RunAsync(kept, cancellation)).ConfigureAwait(false);
            if (outcome.Refusal(_budget) is { } refusal)
                throw refusal;
            var found = candidate[^1].Entry;
            var consolidated = found.Consolidated! with { Before = outcome.Before, After = outcome.After };
            var entry = found with { Consolidated = consolidated };
            cancellation.ThrowIfCancellationRequested();
            await CommitAsync([.. candidate[..^1], candidate[^1] with { Entry = entry }]).ConfigureAwait(false);
            foreach (var (revert, _) in candidate[..^1])
                _logger.EditReverted(revert.Edit, revert.Version, 0);
            if (outcome.Probes?.Candidate is { } tried)
                outcome.Replica.Keep(tried, entry.Version);
            return (entry, consolidated);
        }
        finally
        {
            _turn.Release();
        }

        Task<KeptEdits> KeptAsync(List<LedgerRecord> records) => TrialAsync(records, trial => trial.KeptAsync(cancellation));
    }

    /// <summary>
    /// As the next version, the last after those that take edits back; what its record says of it is not measured yet.
    /// </summary>
    private List<LedgerRecord> Candidate(ConsolidateOptions options, IReadOnlyList<LedgerEntry> facts, IReadOnlyList<WeightChange> changes)
    {
        var entries = ledger.Entries;
        var (version, now, at) = (VersionOf(entries).Next(), InForce(entries), time.GetUtcNow());
        List<EditId> without = [.. options.Without.Distinct()];
        foreach (var edit in facts.Select(fact => fact.Edit).Concat(without))
            if (now.All(entry => entry.Edit != edit))
                throw new MendException(MendError.ConsolidationRefused, $"Edit {edit} was taken back meanwhile.",
                    "Nothing was changed. Consolidate again.");
        var records = new List<LedgerRecord>();
        foreach (var edit in without)
        {
            records.Add(new(new(version, at, LedgerKind.Revert, edit, Author: options.Author, Mode: RevertMode.Remove, Recomputed: 0), []));
            version = version.Next();
        }
        var unmeasured = new ConsolidationFigures(0, 0, null, null);
        records.Add(new(new(version, at, LedgerKind.Consolidate, new(version.Value), Author: options.Author,
            Scope: options.Scope, Consolidated: new([.. facts.Select(fact => fact.Edit)], unmeasured, unmeasured,
            changes.Max(change => change.UTilde.Shape[0]),
            changes.Sum(change => change.CountBytes()))), changes));
        return records;
    }

    /// <summary>On the version before the first record's.</summary>
    private Task<T> TrialAsync<T>(IReadOnlyList<LedgerRecord> records, Func<ConsolidationTrial, Task<T>> run)
    {
        var before = new ModelVersion(records[0].Entry.Version.Value - 1);
        var inForce = InForce([.. ledger.Entries.TakeWhile(entry => entry.Version <= before)]);
        return WithFailoverAsync((replica, session) => run(new(replica, session, before, inForce, records, _replay, text, probes,
            () => Interlocked.Increment(ref _sessions))));
    }

    /// <summary>Of other scopes nothing is told.</summary>
    private static void CheckIn(string? scope, EditId edit, IReadOnlyList<LedgerEntry> entries)
    {
        var made = entries.FirstOrDefault(entry => entry.Kind == LedgerKind.Edit && entry.Edit == edit)
            ?? throw new MendException(MendError.UnknownEdit, $"There is no edit {edit}.", "The ledger lists the edits.");
        if (made.Scope != scope)
            throw new MendException(MendError.InvalidOption, $"Edit {edit} is none {Whose(scope)}.", "Name its scope, or leave it out.");
        if (entries.FirstOrDefault(entry => entry.Kind == LedgerKind.Revert && entry.Edit == edit) is { } revert)
            throw new MendException(MendError.AlreadyReverted, $"Edit {edit} was taken back by version {revert.Version}.",
                "Leave it out.");
    }

    private static string Whose(string? scope) => scope is null ? "for everybody" : $"of the scope '{scope}'";

    private static void Check(ConsolidateOptions options)
    {
        if (options.MaxTime <= TimeSpan.Zero || options.MaxTime > TimeSpan.FromHours(1))
            throw new MendException(MendError.InvalidOption, $"MaxTime is {options.MaxTime}.", "It is more than 0 and at most an hour.");
        if (options.Share is not (> 0 and <= 1))
            throw new MendException(MendError.InvalidOption, $"Share is {options.Share}.", "It is more than 0 and at most 1.");
        if (options.MaxRank < 1)
            throw new MendException(MendError.InvalidOption, $"MaxRank is {options.MaxRank}.", "It is at least 1.");
        if (options.Without is null)
            throw new MendException(MendError.InvalidOption, "Without is null.", "It is a list of edits, which may be empty.");
        ModelText.CheckUnicode(options.Author, "author");
        CheckScope(options.Scope);
    }

    /// <summary>Whether no edit of a consolidation was taken back or computed anew since.</summary>
    private async Task<bool> StandsAsync(LedgerEntry consolidation) =>
        ledger.Entries.TakeWhile(entry => entry.Version <= consolidation.Version).Select(entry => new LedgerRecord(entry, []))
            .Concat(await ledger.ReadAfterAsync(consolidation.Version).ConfigureAwait(false))
            .Aggregate(EditsInForce<LedgerEntry>.None, (history, record) => history.Plus(record, (_, _) => record.Entry))
            .Consolidations.Exists(kept => kept.Id == consolidation.Edit);
}
