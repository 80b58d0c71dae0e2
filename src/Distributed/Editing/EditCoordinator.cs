using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using MendCluster.Distributed.Telemetry;
using MendCluster.Engine;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// Orders the edits of one model and carries each out as a transaction over the shards of its stages.
///
/// Propose. The prompt goes up the stages of one replica, stage by stage (hub and spokes: every boundary passes through here, no stage
/// waits inside another's call). The last stage has the labels and the loss. The gradient comes down to the lowest editable layer and no
/// further; each stage turns its factors (u, delta) into its part of the candidate and keeps it. An editor that takes several rounds does
/// so again with its candidate on top, until the target has the wanted probability or they are used up; then as many of them are taken as bring it nearest.
/// Try. The candidate is tried before it is real. How large its step has to be is found out on the prompt (<see cref="EditScaleSearch"/>);
/// then the edited model answers the probes, beside the unedited one, whose answers stay known from the edit before. No pass is below the
/// lowest editable layer a second time: what is there is kept (<see cref="ShardSession"/>, <see cref="KeptProbes"/>).
/// Refuse, here and without a trace, what is not finite or costs more than the caller or the model's budget allows.
/// Commit. The record, with the factors, is appended to the ledger. That append is the commit, and nothing else is.
/// Broadcast. Every shard of every replica takes the record in; version v becomes v + 1, and reads are sent to it.
///
/// What holds when something fails:
/// - before the append: nothing happened. Candidates live under the edit's session on the shards, which is ended in any case. Where there
///   is another replica, it begins anew there.
/// - in the append: the ledger says whether the record is whole. If not, nothing happened.
/// - after the append: the edit happened. A shard that did not hear of it says so at the next request that names the version
///   (<see cref="MendError.VersionBehind"/>) and is given what it lacks; one that was restarted is at version 0 and rebuilt the same way.
/// A caller that lost the answer sends the request again with the same idempotency key and gets the receipt of the edit that was made.
///
/// Edits and reverts take turns. Reads do not wait for them: each pins the newest version when it starts and keeps to it on all stages of
/// one replica. Isolation and order are those of a single-writer log, as in Raft-based stores; here one process owns the log, and the
/// ledger fences off whoever owned it before. Shards need no fence of their own: they hear of a record only after it is durable, so a
/// coordinator that was superseded has nothing to tell them that is not true.
/// </summary>
/// <param name="replicas">For each replica one shard for each stage, in order; loaded.</param>
/// <param name="probes">Asked before and after every edit; may be empty.</param>
/// <param name="logger">Null: nothing is logged.</param>
/// <param name="budget">What every edit is held to, whatever its caller allows; null: nothing. A revert is held to none.</param>
/// <param name="maxGroup">Edits that wait at once and are made together, at most (<see cref="GroupTrial"/>); 1: each is made alone.</param>
/// <param name="consolidate">When the edits of a scope are consolidated in the background; null: they are not.</param>
/// <param name="replay">What consolidations leave as it is; null: they learn their edits alone.</param>
/// <param name="routes">
/// Each edit is seen by the questions that it matches alone; the coordinator owns it. The ledger is one of routed edits
/// (<see cref="RouteTable.LedgerFingerprint"/>). Null: every question sees every edit.
/// </param>
public sealed partial class EditCoordinator(
    IReadOnlyList<IReadOnlyList<IModelShard>> replicas, IEditLedger ledger, ModelText text, ProbeSet probes, TimeProvider time,
    ILogger? logger = null, DriftBudget? budget = null, int maxGroup = EditCoordinator.DefaultMaxGroup, ConsolidationTriggers? consolidate = null,
    ReplaySet? replay = null, RouteTable? routes = null)
    : IEditCoordinator, IDisposable
{
    public const int DefaultMaxGroup = 32;

    private const int MaxReadAttempts = 5;

    private readonly IReadOnlyList<Pipeline> _replicas = Pipelines(replicas, ledger, time, logger ?? NullLogger.Instance);
    private readonly ILogger _logger = logger ?? NullLogger.Instance;
    private readonly DriftBudget? _budget = budget?.Checked(probes.Count);
    private readonly ConsolidationTriggers _triggers = Checked((consolidate ?? new()).Checked(probes.Count), routes is not null);
    private readonly SemaphoreSlim _turn = new(1);
    private readonly EditQueue _edits = new(Checked(maxGroup));

    /// <summary>
    /// Starts at the clock: shards may still hold sessions of a coordinator that died, and its numbers must not come again.
    /// </summary>
    private long _sessions = Begun(time);
    private long _reads;

    public void Dispose()
    {
        _schedule?.Dispose();
        _schedule = null;
        _turn.Dispose();
        _consolidation.Dispose();
        routes?.Dispose();
    }

    /// <summary>The newest version: the ledger's, which may have found out later than its append that a record is durable.</summary>
    public ModelVersion Version => VersionOf(ledger.Entries);

    private static ModelVersion VersionOf(IReadOnlyList<LedgerEntry> entries) => entries is [.., var last] ? last.Version : ModelVersion.Base;

    public Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default) => Task.FromResult(ledger.Entries);

    public Task<IReadOnlyList<LedgerEntry>> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default) =>
        Task.FromResult(query.Of(ledger.Entries));

    public async Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default)
    {
        using var span = MendTracing.Start("edit");
        options ??= new();
        Check(options);
        if (options.Paraphrases.Count > 0)
            throw new MendException(MendError.InvalidOption, "An edit was given paraphrases.",
                "They are for a preview, which shows the answers to them.");
        var row = text.Row(TextBatch.WithoutEnds(prompt), TextBatch.WithoutEnds(target));
        using var edit = new PendingEdit(row, options, BudgetOf(options), time.GetTimestamp(), cancellation);
        try
        {
            cancellation.ThrowIfCancellationRequested();
            _edits.Add(edit);
            edit.Watch();
            _ = TakeTurnAsync(edit);
            var (receipt, isNew) = await edit.End.ConfigureAwait(false);
            if (isNew)
            {
                MendMetrics.Made(receipt);
                _logger.EditMade(receipt.Id, receipt.Figures.Rank, receipt.Figures.Bytes, receipt.Figures.Drawdown);
            }
            return receipt;
        }
        catch (Exception e)
        {
            MendMetrics.NotMade(e);
            MendTracing.Failed(span, e);
            if (e is MendException known)
                _logger.EditNotMade(known.Error);
            else if (e is not OperationCanceledException)
                _logger.EditFailed(e);
            throw;
        }
    }

    /// <summary>
    /// Every edit brings a turn, in which those are made that have waited longest: as many as can be made together. So an edit may be made
    /// in the turn of one that came before it, and a turn may find none.
    /// </summary>
    private async Task TakeTurnAsync(PendingEdit edit)
    {
        IReadOnlyList<PendingEdit> group = [edit];
        try
        {
            await _turn.WaitAsync(CancellationToken.None).ConfigureAwait(false);
            try
            {
                group = _edits.Take();
                foreach (var taken in group)
                {
                    taken.EndWaiting();
                    MendMetrics.Waited(time.GetElapsedTime(taken.Since));
                }
                List<PendingEdit> unmade = [.. group.Where(IsUnmade)];
                if (unmade.Count > 1 && routes is null)
                    await MakeTogetherAsync(unmade).ConfigureAwait(false);
                else
                    await MakeEachAsync(unmade).ConfigureAwait(false);
            }
            finally
            {
                _turn.Release();
            }
        }
        catch (Exception e)
        {
            foreach (var failed in group)
                failed.Fail(e); // of those that have not ended
        }
    }

    /// <summary>An earlier request with the same key may have made it.</summary>
    private bool IsUnmade(PendingEdit edit)
    {
        try
        {
            if (Earlier(edit.Prompt, edit.Target, edit.Options) is not { } done)
                return true;
            edit.Done(new(done.Edit, done.Version, done.Figures!, EditTimes.Zero), isNew: false);
        }
        catch (MendException e)
        {
            edit.Fail(e);
        }
        return false;
    }

    private async Task MakeEachAsync(IReadOnlyList<PendingEdit> edits)
    {
        foreach (var edit in edits)
            try
            {
                await MakeAsync(edit).ConfigureAwait(false);
            }
            catch (Exception e)
            {
                edit.Fail(e);
            }
    }

    private async Task MakeAsync(PendingEdit edit)
    {
        Activity.Current = edit.Span;
        edit.Cancellation.ThrowIfCancellationRequested();
        var (before, options) = (Version, edit.Options);
        var wanted = Wanted(edit.Row, options.Scope, options.Confidence) with { Budget = edit.Budget };
        var proposal = await WithFailoverAsync((replica, session) => ProposeAsync(replica, session, before, wanted, null, edit.Cancellation))
            .ConfigureAwait(false);
        if (Refusal(proposal.Figures, options) is { } refusal)
            throw refusal;

        var version = before.Next();
        var entry = new LedgerEntry(version, time.GetUtcNow(), LedgerKind.Edit, new(version.Value), edit.Prompt, edit.Target, options.Author,
            options.IdempotencyKey, proposal.Figures, options.Scope, options.Confidence,
            Route: proposal.Keys is { } keys ? RouteTable.Route(keys) : null);
        edit.Cancellation.ThrowIfCancellationRequested();
        var (append, broadcast) = await CommitAsync([new(entry, proposal.Changes)]).ConfigureAwait(false);
        if (proposal.Probes?.Candidate is { } tried)
            proposal.Replica.Keep(tried, version);
        edit.Done(new(entry.Edit, version, proposal.Figures, proposal.Times with { Append = append, Broadcast = broadcast }), isNew: true);
    }

    private async Task MakeTogetherAsync(IReadOnlyList<PendingEdit> edits)
    {
        Activity.Current = edits[0].Span;
        GroupOutcome? outcome;
        try
        {
            var (before, inForce) = (Version, InForce().Select(entry => entry.Edit).ToList());
            var (tokens, near) = (text.Batch([.. edits.Select(edit => edit.Row)]), Near([.. edits.Select(edit => edit.Prompt)]));
            outcome = await WithFailoverAsync((replica, session) => new GroupTrial(replica, session, before, edits, inForce, probes, near, time,
                (figures, edit) => Refusal(figures, edit.Options), (probability, edit) => Unsuccessful(probability, edit.Options),
                () => Interlocked.Increment(ref _sessions)).RunAsync(tokens)).ConfigureAwait(false);
        }
        catch (MendException e) when (e.Error is MendError.NotFinite or MendError.TooLong)
        {
            outcome = null; // of one of them, or of all together
        }
        if (outcome is null)
        {
            await MakeEachAsync(edits).ConfigureAwait(false);
            return;
        }
        foreach (var (edit, why) in outcome.Refused)
            edit.Fail(why);
        _edits.PutBack(outcome.Later);
        if (outcome.Made.Count == 0)
            return;
        List<LedgerRecord> records = [.. GroupTrial.Records(Version, outcome.Made, time.GetUtcNow())];
        var (append, broadcast) = await CommitAsync(records).ConfigureAwait(false);
        if (outcome.Probes?.Candidate is { } tried)
            outcome.Replica.Keep(tried, Version);
        foreach (var (member, record) in outcome.Made.Zip(records))
            member.Edit.Done(new(record.Entry.Edit, record.Entry.Version, member.Figures!,
                outcome.Times with { Append = append, Broadcast = broadcast }), isNew: true);
    }

    public async Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default)
    {
        options ??= new();
        Check(options);
        (prompt, target) = (TextBatch.WithoutEnds(prompt), TextBatch.WithoutEnds(target));
        var wanted = Wanted(text.Row(prompt, target), options.Scope, options.Confidence) with { Budget = BudgetOf(options) };
        var asked = new AskOptions(Scope: options.Scope);
        await TurnAsync(cancellation).ConfigureAwait(false);
        try
        {
            var version = Version;
            var inForce = InForce().LastOrDefault(entry =>
                (entry.Prompt, entry.Target, entry.Scope) == (prompt, target, options.Scope))?.Edit;
            return await WithFailoverAsync(async (replica, session) =>
            {
                var (_, changes, figures, times, tried, keys) = await ProposeAsync(replica, session, version, wanted, null, cancellation)
                    .ConfigureAwait(false);
                var answer = await AnswerAsync(replica, prompt, asked, version, cancellation).ConfigureAwait(false);
                var edited = await AnswerAsync(replica, session, prompt, asked, version, figures.Strength ?? 1, cancellation)
                    .ConfigureAwait(false);
                List<ProbeChange> changed =
                    [.. tried is null ? [] : probes.Fixed.Concat(wanted.Near?.Probes ?? []).Zip(tried.Before, tried.After).Select(probe => new ProbeChange(
                        probe.First.Question, probe.First.Answer, probe.Second.Exact, probe.Third.Exact,
                        Math.Exp(probe.Second.LogProbability), Math.Exp(probe.Third.LogProbability)))
                        .Where(probe => probe.RightBefore != probe.RightAfter)];
                List<ParaphrasePreview> paraphrases = [];
                foreach (var other in options.Paraphrases)
                    paraphrases.Add(new(other, await AnswerAsync(replica, other, asked, version, cancellation).ConfigureAwait(false),
                        await RoutedAnswerAsync(replica, session, other, asked, version, figures.Strength ?? 1, keys, cancellation)
                        .ConfigureAwait(false)));
                return new EditPreview(version, figures, Refusal(figures, options)?.Message, answer, edited, changed,
                    [.. changes.Select(Preview)], times, inForce)
                {
                    Paraphrases = paraphrases,
                };
            }).ConfigureAwait(false);
        }
        finally
        {
            _turn.Release();
        }
    }

    public async Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode = RevertMode.Remove, string? author = null,
        CancellationToken cancellation = default)
    {
        ModelText.CheckUnicode(author, "author");
        if (!Enum.IsDefined(mode))
            throw new MendException(MendError.InvalidOption, $"The revert mode is {mode}.",
                $"It is one of {string.Join(", ", Enum.GetNames<RevertMode>())}.");
        await TurnAsync(cancellation).ConfigureAwait(false);
        try
        {
            var entries = ledger.Entries;
            if (!entries.Any(entry => entry.Kind != LedgerKind.Revert && entry.Edit == edit))
                throw new MendException(MendError.UnknownEdit, $"There is no edit {edit}.", "The ledger lists the edits.");
            if (entries.FirstOrDefault(entry => entry.Kind == LedgerKind.Revert && entry.Edit == edit) is { } revert)
                throw new MendException(MendError.AlreadyReverted, $"Edit {edit} was taken back by version {revert.Version}.",
                    "Nothing is left to do.");
            var consolidation = entries.FirstOrDefault(entry => entry.Kind == LedgerKind.Consolidate && entry.Edit == edit);
            if (consolidation is not null && !await StandsAsync(consolidation).ConfigureAwait(false))
                throw new MendException(MendError.AlreadyReverted, $"Consolidation {edit} ended when one of its edits was taken back.",
                    "Nothing is left to do.");
            var before = Version;
            IReadOnlyList<WeightChange> changes = mode == RevertMode.Remove || consolidation is not null || routes is not null ? []
                : await WithFailoverAsync((replica, session) => RecomputeAsync(replica, session, before, edit, cancellation))
                    .ConfigureAwait(false);
            var version = before.Next();
            var recomputed = changes.Select(change => change.Replaces).Distinct().Count();
            cancellation.ThrowIfCancellationRequested();
            await CommitAsync([new(new(version, time.GetUtcNow(), LedgerKind.Revert, edit, Author: author, Mode: mode,
                Recomputed: recomputed), changes)]).ConfigureAwait(false);
            _logger.EditReverted(edit, version, recomputed);
            return new(edit, version, recomputed);
        }
        finally
        {
            _turn.Release();
        }
    }

    public Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default) =>
        AskAsync(prompt, options ?? new(), null, cancellation);

    public async IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        using var left = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        var parts = Channel.CreateUnbounded<AnswerPart>();
        var answer = AskAsync(prompt, options ?? new(), part => parts.Writer.TryWrite(part), left.Token);
        _ = answer.ContinueWith(_ => parts.Writer.Complete(), TaskScheduler.Default);
        try
        {
            while (await parts.Reader.WaitToReadAsync(CancellationToken.None).ConfigureAwait(false))
                while (parts.Reader.TryRead(out var part))
                    yield return part;
            await answer.ConfigureAwait(false); // how it ended
        }
        finally
        {
            await left.CancelAsync().ConfigureAwait(false); // whoever listened may have gone
        }
    }

    /// <param name="told">Of every piece of the answer; null: nobody.</param>
    private async Task<Answer> AskAsync(string prompt, AskOptions options, Action<AnswerPart>? told, CancellationToken cancellation)
    {
        CheckScope(options.Scope);
        var turn = (int)(Interlocked.Increment(ref _reads) % _replicas.Count);
        for (var attempt = 1; ; attempt++)
        {
            var version = Version;
            var inTurn = _replicas[(turn + attempt) % _replicas.Count];
            var replica = inTurn.IsTrusted ? inTurn : _replicas.FirstOrDefault(other => other.IsTrusted) ?? inTurn;
            try
            {
                var parts = told is null ? null : new AnswerParts(text, version, told, restarts: attempt > 1);
                return new(await AnswerAsync(replica, prompt, options, version, cancellation, parts).ConfigureAwait(false), version);
            }
            catch (MendException e) when (attempt < (e.Error == MendError.LedgerUnreachable ? _replicas.Count : MaxReadAttempts)
                && (e.Error == MendError.VersionGone || Pipeline.IsLost(e)))
            {
                // Several edits landed while the answer was under way, or a shard came back without its keys and values, or cannot be given
                // what it lacks: begin again at the newest version, on another replica if there is one.
                _logger.ReadBeginsAnew(e.Error);
            }
        }
    }

    private async Task<string> AnswerAsync(
        Pipeline replica, string prompt, AskOptions options, ModelVersion version, CancellationToken cancellation,
        AnswerParts? parts = null)
    {
        var session = Interlocked.Increment(ref _sessions);
        try
        {
            return await AnswerAsync(replica, session, prompt, options, version, null, cancellation, parts).ConfigureAwait(false);
        }
        finally
        {
            await replica.EndAsync(session).ConfigureAwait(false);
        }
    }

    /// <param name="candidate">Strength of the session's candidate; null: without it.</param>
    private async Task<string> AnswerAsync(
        Pipeline replica, long session, string prompt, AskOptions options, ModelVersion version, double? candidate,
        CancellationToken cancellation,
        AnswerParts? parts = null)
    {
        var generation = text.Generation(prompt, options);
        long position = 0;
        EditId? route = null;
        while (!generation.IsDone)
        {
            var tokens = ModelText.Next(generation);
            var trip = new StageTrip(session, version, tokens, Boundary.None, options.Scope, Route: route);
            if (routes is not null && candidate is null && route is null && position == 0)
            {
                var (token, state) = await replica.BeginAsync(trip, options, cancellation).ConfigureAwait(false);
                route = routes.Match(routes.Key(state), ledger.Entries, version, options.Scope);
                if (route is not null)
                {
                    MendMetrics.Routed();
                    continue; // it begins anew, with the edit
                }
                generation.Take(token);
            }
            else
                generation.Take(await replica.GenerateAsync(trip, position, options, candidate, cancellation).ConfigureAwait(false));
            MendMetrics.Answered(position == 0 ? tokens.InputIds.Shape[1] : 0, 1);
            position += (tokens.DecoderInputIds ?? tokens.InputIds).Shape[1];
            parts?.Tell(generation.Tokens, generation.IsDone);
        }
        return text.Decode(generation.Tokens);
    }

    private static List<Pipeline> Pipelines(IReadOnlyList<IReadOnlyList<IModelShard>> replicas, IEditLedger ledger, TimeProvider time,
        ILogger logger)
    {
        var stageOf = new ConcurrentDictionary<string, int>(); // all replicas are cut alike
        return [.. replicas.Select((stages, replica) => new Pipeline(replica, stages, ledger, stageOf, time, logger))];
    }

    /// <summary>Computes something under a session of its own. A replica that loses a shard over it is followed by the next.</summary>
    private async Task<T> WithFailoverAsync<T>(Func<Pipeline, long, Task<T>> compute)
    {
        var untried = new Queue<Pipeline>(_replicas.OrderByDescending(replica => replica.IsTrusted));
        while (true)
        {
            var (replica, session) = (untried.Dequeue(), Interlocked.Increment(ref _sessions));
            try
            {
                return await compute(replica, session).ConfigureAwait(false);
            }
            catch (MendException e) when (Pipeline.IsLost(e) && untried.Count > 0)
            {
                // Nothing was changed, and another has the same weights.
            }
            finally
            {
                await replica.EndAsync(session).ConfigureAwait(false);
            }
        }
    }

    /// <summary>Computes a candidate and measures it.</summary>
    /// <param name="branch">Edits on the session's branch, on which it is computed; null: on the version.</param>
    private async Task<Proposal> ProposeAsync(Pipeline replica, long session, ModelVersion version, WantedEdit wanted, int? branch,
        CancellationToken cancellation)
    {
        using var clock = new PhaseClock(time, "forward");
        var trip = new StageTrip(session, version, wanted.Edit, Boundary.None, wanted.Scope, branch);
        var (most, forward, backward, editor) = (int.MaxValue, TimeSpan.Zero, TimeSpan.Zero, TimeSpan.Zero);
        var (score, changes, best) = await RoundsAsync().ConfigureAwait(false);
        clock.Lap("try"); // here: a span that another method begins is not the current one of this
        var (strength, after) = await SearchAsync(replica, trip, wanted.Confidence, cancellation).ConfigureAwait(false);
        if (best is { } earlier && !(after.LogProbability > earlier.Score.LogProbability))
        {
            clock.Lap("forward");
            most = earlier.Rounds; // those after it did harm
            (score, changes, _) = await RoundsAsync().ConfigureAwait(false);
            clock.Lap("try");
            (strength, after) = await SearchAsync(replica, trip, wanted.Confidence, cancellation).ConfigureAwait(false);
        }
        var keys = routes is null ? null : await KeysAsync(replica, wanted.Row, version, cancellation).ConfigureAwait(false);
        var tried = probes.Tokens is not { } tokens ? null
            : keys is not null ? await ProbeRoutedAsync(replica, trip, wanted, strength ?? 1, keys, cancellation).ConfigureAwait(false)
            : await replica.ProbeAsync(trip with { Tokens = tokens }, wanted.Near, strength ?? 1,
                wanted.Budget is not null, () => Interlocked.Increment(ref _sessions), cancellation).ConfigureAwait(false);
        if (!(tried?.After ?? []).Append(after).All(each => double.IsFinite(each.LogProbability))
            || !double.IsFinite((tried?.Kl ?? 0) + (tried?.TotalKl ?? 0)))
            throw new MendException(MendError.NotFinite, "The edited model gives NaN or infinite probabilities.",
                "The edit was not made. With 16-bit weights try float32.");
        var figures = Figures(score, after, strength, changes, tried);
        if (wanted.Budget is { } budget)
            figures = budget.Spend(figures, tried!.Base!, tried.After, tried.TotalKl!.Value);
        changes = [.. changes.Select(change => change with
        {
            Alpha = change.Alpha * (float)(strength ?? 1), // a product in float32, as it was tried
            Keys = routes is null ? change.Keys : null, // routed edits do not go round each other
        })];
        return new(replica, changes, figures,
            new(forward, backward, editor, clock.Lap(), default, default), tried, keys);

        // The editor's rounds, until one is not finite. Best: after how many of those before the last the target was most probable.
        async Task<(ExampleScore Before, IReadOnlyList<WeightChange> Changes, (int Rounds, ExampleScore Score)? Best)> RoundsAsync()
        {
            var score = await ForwardAsync(again: false).ConfigureAwait(false);
            if (!double.IsFinite(score.LogProbability))
                throw new MendException(MendError.NotFinite, "The loss of the edit is NaN or infinite.",
                    "The edit was not made. With 16-bit weights try float32.");
            forward += clock.Lap("backward");
            var (proposed, first, rounds) = await replica.BackwardAsync(session, cancellation).ConfigureAwait(false);
            (editor, rounds) = (editor + first, Math.Min(rounds, most));
            backward += clock.Lap(rounds > 1 ? "forward" : null) - first;
            (int Rounds, ExampleScore Score)? best = null;
            for (var round = 1; round < rounds; round++)
            {
                var edited = await ForwardAsync(again: true).ConfigureAwait(false);
                if (best is { } earlier && !double.IsFinite(edited.LogProbability))
                {
                    forward += clock.Lap("forward");
                    most = earlier.Rounds;
                    return await RoundsAsync().ConfigureAwait(false);
                }
                var isEnd = !double.IsFinite(edited.LogProbability) || edited.Exact && Math.Exp(edited.LogProbability) >= wanted.Confidence;
                forward += clock.Lap(isEnd ? null : "backward");
                if (isEnd)
                    return (score, proposed[0], null);
                if (best is null || edited.LogProbability > best.Value.Score.LogProbability)
                    best = (round, edited);
                TimeSpan more;
                try
                {
                    (proposed, more, _) = await replica.BackwardAsync(session, cancellation).ConfigureAwait(false);
                }
                catch (MendException e) when (e.Error == MendError.NotFinite)
                {
                    backward += clock.Lap("forward");
                    most = best.Value.Rounds;
                    return await RoundsAsync().ConfigureAwait(false);
                }
                backward += clock.Lap(round + 1 < rounds ? "forward" : null) - more;
                editor += more;
            }
            return (score, proposed[0], best);
        }

        async Task<ExampleScore> ForwardAsync(bool again) =>
            (await replica.ForwardAsync(trip, again, cancellation).ConfigureAwait(false))[0];
    }

    /// <summary>What an edit did, as far as it does not depend on a budget.</summary>
    /// <param name="before">Of the target on the unedited model.</param>
    /// <param name="after">The same on the edited one.</param>
    /// <param name="tried">Null where there are no probes.</param>
    internal static EditFigures Figures(ExampleScore before, ExampleScore after, double? strength, IReadOnlyList<WeightChange> changes,
        Pipeline.ProbeTrial? tried)
    {
        var lost = tried is null ? 0 : tried.Before.Count(probe => probe.Exact) - tried.After.Count(probe => probe.Exact);
        var asked = tried?.After.Count ?? 0;
        return new(after.Exact, Math.Exp(before.LogProbability), Math.Exp(after.LogProbability), asked,
            (double)lost / Math.Max(1, asked), tried?.Kl ?? 0, strength, changes.Max(change => change.UTilde.Shape[0]),
            changes.Sum(change => change.CountBytes()));
    }

    /// <summary>Tries the candidate on the prompt, with as large a step as it needs.</summary>
    /// <param name="confidence">Wanted of the target; null: the editor's own step is taken.</param>
    /// <returns>The factor on alpha, null where none was searched for; how well the target is predicted with it.</returns>
    private static async Task<(double? Strength, ExampleScore After)> SearchAsync(Pipeline replica, StageTrip trip, double? confidence,
        CancellationToken cancellation)
    {
        if (confidence is null)
            return (null, await replica.TryAsync(trip, 1, cancellation).ConfigureAwait(false));
        var search = new EditScaleSearch(confidence.Value);
        var scores = new Dictionary<double, ExampleScore>();
        while (search.Next is { } next)
        {
            var score = scores[next] = await replica.TryAsync(trip, next, cancellation).ConfigureAwait(false);
            search.Report(score.Exact, Math.Exp(score.LogProbability));
        }
        return (search.Chosen, scores[search.Chosen]);
    }

    /// <summary>Computes the later edits anew on a branch that never had this one. Those that could not see it stay as they are.</summary>
    private async Task<IReadOnlyList<WeightChange>> RecomputeAsync(Pipeline replica, long session, ModelVersion version, EditId without,
        CancellationToken cancellation)
    {
        var active = InForce();
        var place = active.FindIndex(entry => entry.Edit == without);
        var scope = active[place].Scope;
        await replica.BranchAsync(new(session, version, true, [.. active.Take(place).Select(entry => entry.Edit)], []), cancellation)
            .ConfigureAwait(false);
        var changes = new List<WeightChange>();
        for (var i = place + 1; i < active.Count; i++)
        {
            var entry = active[i];
            if (scope is not null && entry.Scope != scope)
            {
                await replica.BranchAsync(new(session, version, false, [entry.Edit], []), cancellation).ConfigureAwait(false);
                continue;
            }
            var wanted = Wanted(text.Row(entry.Prompt!, entry.Target!), entry.Scope, entry.Confidence);
            var proposal = await ProposeAsync(replica, session, version, wanted, i - 1, cancellation).ConfigureAwait(false);
            changes.AddRange(proposal.Changes.Select(change => change with { Replaces = entry.Edit }));
            if (i + 1 < active.Count)
                await replica.BranchAsync(new(session, version, false, [], [new(entry, proposal.Changes)]), cancellation)
                    .ConfigureAwait(false);
        }
        return changes;
    }

    /// <summary>The append is the commit; from there on nothing is cancelled.</summary>
    private async Task<(TimeSpan Append, TimeSpan Broadcast)> CommitAsync(IReadOnlyList<LedgerRecord> records)
    {
        using var clock = new PhaseClock(time, "append");
        try
        {
            await ledger.AppendAsync(records, CancellationToken.None).ConfigureAwait(false);
        }
        catch
        {
            MendMetrics.Appended(clock.Lap(), isDurable: false);
            throw;
        }
        var append = clock.Lap("broadcast");
        MendMetrics.Appended(append, isDurable: true);
        await Task.WhenAll(_replicas.Select(replica => replica.BroadcastAsync(records))).ConfigureAwait(false);
        Schedule.Committed(ledger.Entries, records);
        return (append, clock.Lap());
    }

    private static ConsolidationTriggers Checked(ConsolidationTriggers triggers, bool isRouted) => !isRouted || !triggers.IsAny ? triggers
        : throw new MendException(MendError.InvalidOption, "The model routes its edits, and is to consolidate them.",
            "Leave the triggers of consolidations out, or the router.");

    private static int Checked(int maxGroup) => maxGroup >= 1 ? maxGroup
        : throw new MendException(MendError.InvalidOption, $"MaxGroup is {maxGroup}.", "At least one edit is made at once.");

    private static long Begun(TimeProvider time)
    {
        MendMetrics.Begin();
        return time.GetUtcNow().UtcTicks;
    }

    private async Task TurnAsync(CancellationToken cancellation)
    {
        using var clock = new PhaseClock(time, "queue");
        await _turn.WaitAsync(cancellation).ConfigureAwait(false);
        MendMetrics.Waited(clock.Lap());
    }

    private WantedEdit Wanted(TokenRow row, string? scope, double? confidence) =>
        new(row, scope, confidence, text.Batch([row]), Near([row.Prompt]));

    private NearProbes? Near(IReadOnlyList<string> prompts) =>
        probes.Nearest(prompts, ledger.Entries.Select(entry => entry.Prompt).OfType<string>());

    /// <summary>The edits that no revert took back, in their order.</summary>
    private List<LedgerEntry> InForce() => InForce(ledger.Entries);

    /// <inheritdoc cref="InForce()"/>
    internal static List<LedgerEntry> InForce(IReadOnlyList<LedgerEntry> entries)
    {
        var reverted = entries.Where(entry => entry.Kind == LedgerKind.Revert).Select(entry => entry.Edit).ToHashSet();
        return [.. entries.Where(entry => entry.Kind == LedgerKind.Edit && !reverted.Contains(entry.Edit))];
    }

    private void Check(EditOptions options)
    {
        if (options.MaxDrawdown is { } limit && limit is not (>= 0 and <= 1))
            throw new MendException(MendError.InvalidOption, $"MaxDrawdown is {limit}.", "It is a fraction of the probes, from 0 to 1.");
        if (options.MaxDrawdown is not null && probes.Count == 0)
            throw new MendException(MendError.InvalidOption, "A limit of the drawdown was given, and there are no probes to measure it on.",
                "Give the model probes (probes.tsv beside it: a question, a tab and its answer a line), or leave the limit out.");
        _ = AskedBy(options)?.Checked(probes.Count);
        if (options.Confidence is { } confidence && confidence is not (>= 0 and <= 1))
            throw new MendException(MendError.InvalidOption, $"Confidence is {confidence}.",
                "It is a probability, from 0 to 1, or null for the editor's own step.");
        // as a body of JSON, or a program without nullable annotations, may have it
        if (options.Paraphrases is null || options.Paraphrases.Contains(null!))
            throw new MendException(MendError.InvalidOption, "Paraphrases are null, or one of them is.", "Give texts, or an empty list.");
        ModelText.CheckUnicode(options.Author, "author");
        ModelText.CheckUnicode(options.IdempotencyKey, "idempotency key");
        CheckScope(options.Scope);
    }

    private static void CheckScope(string? scope)
    {
        ModelText.CheckUnicode(scope, "scope");
        if (scope is "")
            throw new MendException(MendError.InvalidOption, "The scope is empty.", "Name a scope, or give none.");
    }

    /// <summary>Why an edit with these figures is not to be made.</summary>
    private MendException? Refusal(EditFigures figures, EditOptions options)
    {
        if (figures.Drawdown > options.MaxDrawdown)
            return new(MendError.DrawdownExceeded,
                $"The edit costs {figures.Drawdown:P1} of the answers to {figures.Probes} probes; at most {options.MaxDrawdown:P1} is allowed.",
                "The edit was not made. Say the fact in other words, or allow more.");
        if ((_budget?.Refusal(figures, "the model's budget") ?? AskedBy(options)?.Refusal(figures, "the request")) is { } overdrawn)
            return overdrawn;
        return figures.Success ? null : Unsuccessful(figures.ProbabilityAfter, options);
    }

    /// <summary>Why an edit is not to be made that leaves its target at a probability and is not the answer; null: it may be.</summary>
    private MendException? Unsuccessful(double probability, EditOptions options) =>
        !(options.RequireSuccess || (_budget ?? AskedBy(options)) is not null) ? null
            : new(MendError.EditUnsuccessful,
                $"The edited model would give the target a probability of {probability:0.###} only.",
                "The edit was not made. Say the fact in other words" + (_budget is not null
                    ? ": the model's budget is spent on edits that succeed alone."
                    : ", or require no success and set no limit of what all edits may cost."));

    /// <summary>
    /// What the figures say is left of: the model's budget, or where it has none the caller's. One without limits where drawdown is to be
    /// measured all the same.
    /// </summary>
    private DriftBudget? BudgetOf(EditOptions options) => _budget ?? AskedBy(options) ?? (_triggers.AtDrawdown is null ? null : new());

    private static DriftBudget? AskedBy(EditOptions options) => options.MaxTotalDrawdown is null && options.MaxTotalKl is null ? null
        : new(options.MaxTotalDrawdown, options.MaxTotalKl);

    private LedgerEntry? Earlier(string prompt, string target, EditOptions options)
    {
        if (options.IdempotencyKey is not { } key || ledger.Entries.FirstOrDefault(entry => entry.IdempotencyKey == key) is not { } entry)
            return null;
        if ((entry.Prompt, entry.Target, entry.Scope) != (prompt, target, options.Scope))
            throw new MendException(MendError.IdempotencyKeyReused,
                $"The idempotency key '{key}' was used for edit {entry.Edit}, \"{entry.Prompt}\".",
                "Use a new key for another edit.");
        return ledger.Entries.FirstOrDefault(other => other.Kind == LedgerKind.Revert && other.Edit == entry.Edit) is not { } revert ? entry
            : throw new MendException(MendError.AlreadyReverted,
                $"The edit of the idempotency key '{key}' is edit {entry.Edit}, which version {revert.Version} took back.",
                "It is not in force. Use a new key to make it again.");
    }

    private static WeightPreview Preview(WeightChange change)
    {
        using var scope = NewDisposeScope();
        var (u, delta) = (WireTensorCodec.Decode(change.UTilde).to_type(ScalarType.Float64),
            WireTensorCodec.Decode(change.DeltaTilde).to_type(ScalarType.Float64));
        return new(change.Weight, u.shape[0], new LowRankUpdate(u, delta, tensor((double)change.Alpha, device: CPU)).Norm());
    }

    /// <summary>An edit that was asked for, in tokens.</summary>
    private sealed record WantedEdit(TokenRow Row, string? Scope, double? Confidence, TokenBatch Edit, NearProbes? Near)
    {
        /// <summary>Null: what all edits cost together is not asked.</summary>
        public DriftBudget? Budget { get; init; }
    }

    /// <summary>A candidate and what it does.</summary>
    /// <param name="Replica">Has it.</param>
    /// <param name="Probes">Null where there are none.</param>
    /// <param name="Keys">Of a routed edit; null: it is seen by every question.</param>
    private sealed record Proposal(Pipeline Replica, IReadOnlyList<WeightChange> Changes, EditFigures Figures, EditTimes Times,
        Pipeline.ProbeTrial? Probes, IReadOnlyList<float[]>? Keys);
}
