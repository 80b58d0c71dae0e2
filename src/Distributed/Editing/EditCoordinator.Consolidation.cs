using MendCluster.Contracts;
using MendCluster.Distributed.Telemetry;

namespace MendCluster.Distributed.Editing;

/// <summary>Consolidations: looked for beside edits and answers, committed in a turn among the edits.</summary>
public sealed partial class EditCoordinator
{
    /// <summary>One at a time.</summary>
    private readonly SemaphoreSlim _consolidation = new(1);

    private ConsolidationSchedule? _schedule;

    /// <summary>Asked for in a turn only.</summary>
    private ConsolidationSchedule Schedule => _schedule ??= new(consolidateEvery, ConsolidateAsync, _logger);

    public async Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options = null, CancellationToken cancellation = default)
    {
        options ??= new();
        Check(options);
        using var span = MendTracing.Start("consolidate");
        var start = time.GetTimestamp();
        await _consolidation.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            var (facts, changes, steps) = await FitAsync(options, cancellation).ConfigureAwait(false);
            var (id, version, consolidated) = await SwapAsync(options, facts, changes, cancellation).ConfigureAwait(false);
            _logger.Consolidated(id, consolidated.Edits.Count, consolidated.Before.Success, consolidated.After.Success);
            return new(id, version, consolidated, steps, time.GetElapsedTime(start));
        }
        catch (Exception e)
        {
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
        var version = Version;
        List<LedgerEntry> inForce = InForce(), facts = [.. inForce.Where(entry => entry.Scope == options.Scope)];
        if (facts.Count == 0)
            throw new MendException(MendError.NothingToConsolidate,
                $"No edit {(options.Scope is { } scope ? $"of the scope '{scope}'" : "for everybody")} is in force.", "Make some first.");
        List<EditId> others = [.. inForce.Except(facts).Select(entry => entry.Edit)];
        return await WithFailoverAsync(async (replica, session) =>
        {
            var search = new Consolidation(replica, session, version, facts, others, text, options, time);
            var changes = await search.RunAsync(cancellation).ConfigureAwait(false);
            return search.Steps > 0 ? (facts, changes, search.Steps) : throw new MendException(MendError.NothingToConsolidate,
                $"The {facts.Count} edit(s) are consolidated, and all are answered as they should be.", "Nothing is left to do.");
        }).ConfigureAwait(false);
    }

    /// <summary>In a turn among the edits: tries what was found with the edits that were made meanwhile, and commits it.</summary>
    private async Task<(EditId Id, ModelVersion Version, Consolidated Consolidated)> SwapAsync(ConsolidateOptions options,
        IReadOnlyList<LedgerEntry> facts, IReadOnlyList<WeightChange> changes, CancellationToken cancellation)
    {
        await TurnAsync(cancellation).ConfigureAwait(false);
        try
        {
            var (before, now) = (Version, InForce());
            if (facts.FirstOrDefault(fact => now.All(entry => entry.Edit != fact.Edit)) is { } gone)
                throw new MendException(MendError.ConsolidationRefused, $"Edit {gone.Edit} was taken back meanwhile.",
                    "Nothing was changed. Consolidate again.");
            var version = before.Next();
            var unmeasured = new ConsolidationFigures(0, 0, null, null);
            var consolidated = new Consolidated([.. facts.Select(fact => fact.Edit)], unmeasured, unmeasured,
                changes.Max(change => change.UTilde.Shape[0]),
                changes.Sum(change => (long)change.UTilde.Bytes.Length + change.DeltaTilde.Bytes.Length));
            var record = new LedgerRecord(new(version, time.GetUtcNow(), LedgerKind.Consolidate, new(version.Value), Author: options.Author,
                Scope: options.Scope, Consolidated: consolidated), changes);
            var trial = await WithFailoverAsync((replica, session) => new ConsolidationTrial(replica, session, before,
                [.. now.Where(other => other.Scope == options.Scope)], [.. now.Select(other => other.Edit)], record, text, probes,
                () => Interlocked.Increment(ref _sessions)).RunAsync(cancellation)).ConfigureAwait(false);
            if (trial.Refusal(_budget) is { } refusal)
                throw refusal;
            consolidated = consolidated with { Before = trial.Before, After = trial.After };
            cancellation.ThrowIfCancellationRequested();
            await CommitAsync([record with { Entry = record.Entry with { Consolidated = consolidated } }]).ConfigureAwait(false);
            if (trial.Probes is { } tried)
                trial.Replica.Keep(tried, version);
            return (record.Entry.Edit, version, consolidated);
        }
        finally
        {
            _turn.Release();
        }
    }

    private static void Check(ConsolidateOptions options)
    {
        if (options.MaxTime <= TimeSpan.Zero || options.MaxTime > TimeSpan.FromHours(1))
            throw new MendException(MendError.InvalidOption, $"MaxTime is {options.MaxTime}.", "It is more than 0 and at most an hour.");
        if (options.Share is not (> 0 and <= 1))
            throw new MendException(MendError.InvalidOption, $"Share is {options.Share}.", "It is more than 0 and at most 1.");
        if (options.MaxRank < 1)
            throw new MendException(MendError.InvalidOption, $"MaxRank is {options.MaxRank}.", "It is at least 1.");
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
