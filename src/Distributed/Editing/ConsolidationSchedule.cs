using MendCluster.Contracts;
using MendCluster.Distributed.Telemetry;
using Microsoft.Extensions.Logging;

namespace MendCluster.Distributed.Editing;

/// <summary>Consolidates the edits of a scope in the background whenever it is time to.</summary>
internal sealed class ConsolidationSchedule(ConsolidationTriggers triggers, Func<ConsolidateOptions, CancellationToken, Task> consolidate, ILogger logger)
    : IDisposable
{
    private readonly CancellationTokenSource _ending = new();
    private readonly Lock _lock = new();
    private readonly Dictionary<string, ModelVersion> _tried = []; // by scope; "" is everybody
    private readonly HashSet<string> _underWay = [];

    /// <param name="ledger">All of it.</param>
    /// <param name="records">Its newest.</param>
    public void Committed(IReadOnlyList<LedgerEntry> ledger, IReadOnlyList<LedgerRecord> records)
    {
        if (triggers is { Every: 0, AtRank: 0, AtDrawdown: null })
            return;
        lock (_lock)
            foreach (var scope in records.Where(record => record.Entry.Kind == LedgerKind.Edit).Select(record => record.Entry.Scope ?? "").Distinct())
                if (IsTime(ledger, scope) && _underWay.Add(scope))
                {
                    _tried[scope] = ledger[^1].Version;
                    _ = RunAsync(scope);
                }
    }

    public void Dispose()
    {
        _ending.Cancel();
        _ending.Dispose();
    }

    private bool IsTime(IReadOnlyList<LedgerEntry> ledger, string scope)
    {
        var isFirst = !_tried.ContainsKey(scope)
            && !ledger.Any(entry => entry.Kind == LedgerKind.Consolidate && (entry.Scope ?? "") == scope);
        var since = Since(ledger, scope).ToList();
        return triggers.Every > 0 && since.Count >= triggers.Every
            || (isFirst || since.Count >= ConsolidationTriggers.MinEdits)
                && (triggers.AtRank > 0 && since.Sum(entry => entry.Figures!.Rank) >= triggers.AtRank
                    || since is [{ Figures.TotalDrawdown: { } lost }, ..] && lost > triggers.AtDrawdown);
    }

    /// <summary>Edits of a scope after its last consolidation, or the last attempt at one, the newest first.</summary>
    private IEnumerable<LedgerEntry> Since(IReadOnlyList<LedgerEntry> ledger, string scope) => ledger.Reverse()
        .TakeWhile(entry => entry.Version > _tried.GetValueOrDefault(scope)
            && !(entry.Kind == LedgerKind.Consolidate && (entry.Scope ?? "") == scope))
        .Where(entry => entry.Kind == LedgerKind.Edit && (entry.Scope ?? "") == scope);

    private async Task RunAsync(string scope)
    {
        try
        {
            // not in the caller's trace, nor in its turn
            await Task.Run(() => consolidate(new() { Scope = scope.Length == 0 ? null : scope }, _ending.Token)).ConfigureAwait(false);
        }
        catch (Exception e) when (!_ending.IsCancellationRequested)
        {
            logger.ConsolidationFailed(e.Message, e);
        }
        finally
        {
            lock (_lock)
                _underWay.Remove(scope);
        }
    }
}
