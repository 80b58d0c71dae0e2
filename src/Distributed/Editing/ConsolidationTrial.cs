using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Editing;

/// <summary>What a consolidation would do.</summary>
/// <param name="Replica">Has the probes' answers.</param>
/// <param name="Probes">Null where there are none.</param>
internal sealed record ConsolidationOutcome(ConsolidationFigures Before, ConsolidationFigures After, Pipeline Replica,
    Pipeline.ProbeTrial? Probes)
{
    /// <summary>Why it is not to be made; null: it may be.</summary>
    /// <param name="budget">Of the model; null: it has none.</param>
    public MendException? Refusal(DriftBudget? budget)
    {
        var worse = After.Success < Before.Success ? $"answer {After.Success:P1} of the edits' prompts, and {Before.Success:P1} without it"
            : After.Rewordings < Before.Rewordings ? $"answer {After.Rewordings:P1} of their rewordings, and {Before.Rewordings:P1} without it"
            : After.TotalDrawdown > Before.TotalDrawdown
                ? $"lose {After.TotalDrawdown:P1} of the probes that the base model answers, and {Before.TotalDrawdown:P1} without it"
            : After.TotalKl > budget?.MaxTotalKl
                ? $"be {After.TotalKl:0.#####} nats a token from the base model, and the model's budget allows {budget?.MaxTotalKl:0.#####}"
            : null;
        return worse is null ? null : new(MendError.ConsolidationRefused, $"With the consolidation the model would {worse}.",
            "Nothing was changed. Allow it more time.");
    }
}

/// <summary>How many of the edits' prompts, and of their rewordings, are answered with the targets. Fractions.</summary>
internal sealed record KeptEdits((double Success, double? Rewordings) Before, (double Success, double? Rewordings) After);

/// <summary>
/// A consolidation tried on a branch that has its records as the ledger will, with the edits that were made meanwhile on top of it: it is
/// made only if it keeps no fewer edits, no fewer of their rewordings and no fewer of the base model's right answers than the edits do as
/// they are.
/// </summary>
/// <param name="inForce">All edits that are in force at the version.</param>
/// <param name="records">The last is the consolidation; those before it take edits back, which do not count.</param>
/// <param name="number">Gives numbers for passes, each once.</param>
internal sealed class ConsolidationTrial(Pipeline replica, long session, ModelVersion version, IReadOnlyList<LedgerEntry> inForce,
    IReadOnlyList<LedgerRecord> records, ReplaySet replay, ModelText text, ProbeSet probes, Func<long> number)
{
    private readonly IReadOnlyList<TokenRow> _said = Consolidation.Said(Facts(inForce, records), text),
        _reworded = Consolidation.Reworded(Facts(inForce, records), replay, text);
    private int _branchLength;

    /// <summary>Of the prompts and rewordings alone, which concerns no other request: edits may go on meanwhile.</summary>
    public async Task<KeptEdits> KeptAsync(CancellationToken cancellation)
    {
        var before = await MeasureAsync([]).ConfigureAwait(false);
        return new(before, await MeasureAsync(records).ConfigureAwait(false));

        async Task<(double, double?)> MeasureAsync(IReadOnlyList<LedgerRecord> added)
        {
            await BranchAsync(added, cancellation).ConfigureAwait(false);
            return (await RightAsync(_said, cancellation).ConfigureAwait(false),
                _reworded.Count == 0 ? null : await RightAsync(_reworded, cancellation).ConfigureAwait(false));
        }
    }

    /// <summary>The rest, in a turn: what shards keep of the probes is for one edit at a time.</summary>
    public async Task<ConsolidationOutcome> RunAsync(KeptEdits kept, CancellationToken cancellation)
    {
        var (before, _) = await ProbeAsync(kept.Before, []).ConfigureAwait(false);
        var (after, tried) = await ProbeAsync(kept.After, records).ConfigureAwait(false);
        return new(before, after, replica, tried);

        async Task<(ConsolidationFigures, Pipeline.ProbeTrial?)> ProbeAsync((double Success, double? Rewordings) right,
            IReadOnlyList<LedgerRecord> added)
        {
            if (probes.Tokens is not { } tokens)
                return (new(right.Success, right.Rewordings, null, null), null);
            await BranchAsync(added, cancellation).ConfigureAwait(false);
            var tried = await replica.ProbeAsync(Trip(tokens), null, null, withBase: true, number, cancellation).ConfigureAwait(false);
            return (new(right.Success, right.Rewordings, DriftBudget.Drawdown(tried.Base!, tried.After), tried.TotalKl), tried);
        }
    }

    /// <param name="added">On top of the version.</param>
    private Task BranchAsync(IReadOnlyList<LedgerRecord> added, CancellationToken cancellation)
    {
        _branchLength = inForce.Count - added.Count(record => record.Entry.Kind == LedgerKind.Revert);
        return replica.BranchAsync(new(session, version, true, [.. inForce.Select(entry => entry.Edit)], added), cancellation);
    }

    private async Task<double> RightAsync(IReadOnlyList<TokenRow> examples, CancellationToken cancellation)
    {
        var right = 0;
        foreach (var batch in examples.Chunk(Consolidation.Batch))
        {
            var scores = await replica.ScoreAsync(Trip(text.Batch(batch)), cancellation).ConfigureAwait(false);
            right += scores.Count(score => double.IsFinite(score.LogProbability) ? score.Exact
                : throw new MendException(MendError.NotFinite, "The model with the consolidation gives NaN or infinite probabilities.",
                    "Nothing was changed. With 16-bit weights try float32."));
        }
        return (double)right / examples.Count;
    }

    private StageTrip Trip(TokenBatch tokens) => new(session, version, tokens, Boundary.None, records[^1].Entry.Scope, _branchLength);

    private static IEnumerable<LedgerEntry> Facts(IReadOnlyList<LedgerEntry> inForce, IReadOnlyList<LedgerRecord> records) =>
        inForce.Where(entry => entry.Scope == records[^1].Entry.Scope && records.All(record => record.Entry.Edit != entry.Edit));
}
