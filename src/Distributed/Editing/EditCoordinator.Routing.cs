using System.Collections.Concurrent;
using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// Routed edits: each is computed on the unedited model and seen by the questions that match it alone, so that many behave as each does by
/// itself. A question is matched by the state in which the unedited model would begin its answer; where none matches, that answer goes on.
/// </summary>
public sealed partial class EditCoordinator
{
    private readonly ConcurrentDictionary<string, float[]> _probeKeys = [];
    private readonly ConcurrentDictionary<(string Question, EditId Edit), Pipeline.RoutedScore> _routedProbes = [];

    /// <summary>The keys of an edit: of its prompt, and of rewordings that the model can be asked.</summary>
    private async Task<IReadOnlyList<float[]>> KeysAsync(Pipeline replica, TokenRow row, ModelVersion version,
        CancellationToken cancellation)
    {
        var rewordings = _replay.Rewordings(row.Prompt).Where(wording => Consolidation.RowIfItFits(wording, row.Target, text) is not null);
        return await Task.WhenAll(rewordings.Prepend(row.Prompt).Select(wording => KeyAsync(replica, wording, version, cancellation)))
            .ConfigureAwait(false);
    }

    private async Task<float[]> KeyAsync(Pipeline replica, string question, ModelVersion version, CancellationToken cancellation)
    {
        var session = Interlocked.Increment(ref _sessions);
        try
        {
            var options = new AskOptions();
            var trip = new StageTrip(session, version, ModelText.Next(text.Generation(question, options)), Boundary.None);
            return routes!.Key((await replica.BeginAsync(trip, options, cancellation).ConfigureAwait(false)).State);
        }
        finally
        {
            await replica.EndAsync(session).ConfigureAwait(false);
        }
    }

    /// <summary>What the probes say of a candidate: those that match it are asked, and for all others nothing changes.</summary>
    /// <param name="trip">Of the edit, in whose session the candidate is.</param>
    private async Task<Pipeline.ProbeTrial?> ProbeRoutedAsync(Pipeline replica, StageTrip trip, WantedEdit wanted, double strength,
        IReadOnlyList<float[]> keys, CancellationToken cancellation)
    {
        if (probes.Count == 0)
            return null;
        var (entries, withBase) = (ledger.Entries, wanted.Budget is not null);
        List<TokenRow> asked = [.. probes.FixedRows, .. wanted.Near?.Rows ?? []];
        var questions = await Task.WhenAll(asked.Select(async row => _probeKeys.TryGetValue(row.Prompt, out var known) ? known
            : _probeKeys[row.Prompt] = await KeyAsync(replica, row.Prompt, trip.Version, cancellation).ConfigureAwait(false)))
            .ConfigureAwait(false);
        var same = new ExampleScore(true, 0); // stands for that of a probe that nothing changes
        var scores = Enumerable.Repeat(new Pipeline.RoutedScore(same, same, same, 0, 0), asked.Count).ToArray();
        var (tokens, kl, totalKl) = (0L, 0.0, 0.0);
        foreach (var (i, row) in asked.Index())
        {
            var seen = routes!.Match(questions[i], entries, trip.Version, trip.Scope);
            var isChanged = routes.WouldMatch(questions[i], keys, entries, trip.Version, trip.Scope);
            if (isChanged || (withBase && seen is not null))
                scores[i] = await ScoreAsync(row, seen, isChanged).ConfigureAwait(false);
            if (i >= probes.Fixed.Count)
                continue;
            var own = (row.DecoderIds ?? row.Ids).Length;
            (tokens, kl, totalKl) = (tokens + own, kl + scores[i].Kl * own, totalKl + scores[i].TotalKl * own);
        }
        return new([.. scores.Select(score => score.Before)], [.. scores.Select(score => score.After)], kl / tokens, null,
            withBase ? [.. scores.Select(score => score.Base)] : null, withBase ? totalKl / tokens : null);

        async Task<Pipeline.RoutedScore> ScoreAsync(TokenRow row, EditId? seen, bool isChanged)
        {
            if (!isChanged && _routedProbes.TryGetValue((row.Prompt, seen!.Value), out var known))
                return known;
            var score = await replica.ScoreRoutedAsync(trip with { Tokens = text.Batch([row]), Route = seen }, isChanged ? strength : null,
                () => Interlocked.Increment(ref _sessions), cancellation).ConfigureAwait(false);
            return isChanged ? score : _routedProbes[(row.Prompt, seen!.Value)] = score;
        }
    }

    /// <summary>The answer that a prompt would have, were the session's candidate made.</summary>
    private async Task<string> RoutedAnswerAsync(Pipeline replica, long session, string prompt, AskOptions asked, ModelVersion version,
        double strength, IReadOnlyList<float[]>? keys, CancellationToken cancellation) =>
        keys is null || routes!.WouldMatch(await KeyAsync(replica, prompt, version, cancellation).ConfigureAwait(false), keys,
            ledger.Entries, version, asked.Scope)
            ? await AnswerAsync(replica, session, prompt, asked, version, strength, cancellation).ConfigureAwait(false)
            : await AnswerAsync(replica, prompt, asked, version, cancellation).ConfigureAwait(false);
}
