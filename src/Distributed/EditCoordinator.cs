using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using MendCluster.Engine.Editors;

namespace MendCluster.Distributed;

/// <summary>
/// Orders the edits of one model and carries each out as a transaction over the shards of its stages.
///
/// Propose. The prompt goes up the stages, stage by stage (hub and spokes: every boundary passes through here, no stage waits inside
/// another's call). The last stage has the labels and the loss. The gradient comes down to the lowest editable layer and no further; each
/// stage turns its factors (u, delta) into its part of the candidate and keeps it.
/// Try. The candidate is tried before it is real: the edited model and the unedited one answer the prompt and the probes in one batch.
/// How large its step has to be is found out on the prompt first (<see cref="StrengthSearch"/>).
/// Refuse, here and without a trace, what is not finite or costs more than the caller allows.
/// Commit. The record, with the factors, is appended to the ledger. That append is the commit, and nothing else is.
/// Broadcast. Every shard takes the record in; version v becomes v + 1, and reads are routed at it.
///
/// What holds when something fails:
/// - before the append: nothing happened. Candidates live under the edit's session on the shards, which is ended in any case.
/// - in the append: the ledger says whether the record is whole. If not, nothing happened.
/// - after the append: the edit happened. A shard that did not hear of it says so at the next request that names the version
///   (<see cref="MendError.VersionBehind"/>) and is given what it lacks; one that was restarted is at version 0 and rebuilt the same way.
/// A caller that lost the answer sends the request again with the same idempotency key and gets the receipt of the edit that was made.
///
/// Edits and reverts take turns. Reads do not wait for them: each pins the newest version when it starts and keeps to it on all stages.
/// Isolation and order are those of a single-writer log, as in Raft-based stores; here one process owns the log.
/// </summary>
/// <param name="stages">One shard for each stage, in order; loaded.</param>
/// <param name="probes">Asked before and after every edit; may be empty.</param>
public sealed class EditCoordinator(
    IReadOnlyList<IModelShard> stages, IEditLedger ledger, ModelText text, IReadOnlyList<Probe> probes, TimeProvider time)
    : IEditCoordinator, IDisposable
{
    private const int MostReadAttempts = 5;

    private readonly SemaphoreSlim _turn = new(1);

    /// <summary>Starts at the clock: shards may still hold sessions of a coordinator that died, and its numbers must not come again.</summary>
    private long _sessions = time.GetUtcNow().UtcTicks;
    private long _version = ledger.Entries.Count == 0 ? 0 : ledger.Entries[^1].Version.Value;
    private IReadOnlyList<bool>? _editableStages;

    public void Dispose() => _turn.Dispose();

    /// <summary>The newest version.</summary>
    public ModelVersion Version => new(Interlocked.Read(ref _version));

    public Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default) => Task.FromResult(ledger.Entries);

    public async Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null, CancellationToken cancellation = default)
    {
        options ??= new();
        if (options.MaxDrawdown is { } limit && limit is not (>= 0 and <= 1))
            throw new MendException(MendError.InvalidOption, $"MaxDrawdown is {limit}.", "It is a fraction of the probes, from 0 to 1.");
        if (options.Confidence is { } confidence && confidence is not (>= 0 and <= 1))
            throw new MendException(MendError.InvalidOption, $"Confidence is {confidence}.", "It is a probability, from 0 to 1, or null for the editor's own step.");
        ModelText.CheckUnicode(options.Author, "author");
        ModelText.CheckUnicode(options.IdempotencyKey, "idempotency key");
        var edit = text.Batch([(prompt, target)]);
        var trial = text.Batch([(prompt, target), .. probes.Select(probe => (probe.Question, probe.Answer))]);
        await _turn.WaitAsync(cancellation).ConfigureAwait(false);
        var session = Interlocked.Increment(ref _sessions);
        try
        {
            if (Earlier(prompt, target, options.IdempotencyKey) is { } done)
                return new(done.Edit, done.Version, done.Figures!, EditTimes.Zero);
            var clock = new PhaseClock(time);
            var before = Version;
            var (score, boundaries) = await RecordAsync(session, before, edit, cancellation).ConfigureAwait(false);
            var forward = clock.Lap();
            var (changes, editor) = await BackwardAsync(session, boundaries, cancellation).ConfigureAwait(false);
            var backward = clock.Lap() - editor;
            var figures = await TryAsync(session, before, edit, trial, score, options.Confidence, cancellation).ConfigureAwait(false);
            var tried = clock.Lap();
            Gate(figures, options);

            var version = before.Next();
            var entry = new LedgerEntry(version, time.GetUtcNow(), LedgerKind.Edit, new(version.Value), prompt, target, options.Author, options.IdempotencyKey, figures);
            var record = new LedgerRecord(entry, [.. changes.Select(change => change with { Alpha = (float)(change.Alpha * (figures.Strength ?? 1)) })]);
            cancellation.ThrowIfCancellationRequested();
            await ledger.AppendAsync(record, CancellationToken.None).ConfigureAwait(false); // the commit; from here on nothing is cancelled
            var appended = clock.Lap();
            await BroadcastAsync(record).ConfigureAwait(false);
            return new(entry.Edit, version, figures, new(forward, backward, editor, tried, appended, clock.Lap()));
        }
        finally
        {
            await EndAsync(session).ConfigureAwait(false);
            _turn.Release();
        }
    }

    public async Task<RevertReceipt> RevertAsync(EditId edit, CancellationToken cancellation = default)
    {
        await _turn.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            var entries = ledger.Entries;
            if (!entries.Any(entry => entry.Kind == LedgerKind.Edit && entry.Edit == edit))
                throw new MendException(MendError.UnknownEdit, $"There is no edit {edit}.", "The ledger lists the edits.");
            if (entries.FirstOrDefault(entry => entry.Kind == LedgerKind.Revert && entry.Edit == edit) is { } revert)
                throw new MendException(MendError.AlreadyReverted, $"Edit {edit} was taken back by version {revert.Version}.", "Nothing is left to do.");
            var version = Version.Next();
            var record = new LedgerRecord(new(version, time.GetUtcNow(), LedgerKind.Revert, edit), []);
            await ledger.AppendAsync(record, CancellationToken.None).ConfigureAwait(false);
            await BroadcastAsync(record).ConfigureAwait(false);
            return new(edit, version);
        }
        finally
        {
            _turn.Release();
        }
    }

    public async Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default)
    {
        options ??= new();
        for (var attempt = 1; ; attempt++)
        {
            var version = Version;
            try
            {
                return new(await AnswerAsync(prompt, options, version, cancellation).ConfigureAwait(false), version);
            }
            catch (MendException e) when (e.Error is MendError.VersionGone or MendError.ShardLost && attempt < MostReadAttempts)
            {
                // Several edits landed while the answer was under way, or a shard came back without its keys and values: begin again at
                // the newest version.
            }
        }
    }

    private async Task<string> AnswerAsync(string prompt, AskOptions options, ModelVersion version, CancellationToken cancellation)
    {
        var generation = text.Generation(prompt, options);
        var session = Interlocked.Increment(ref _sessions);
        try
        {
            long position = 0;
            while (!generation.IsDone)
            {
                var tokens = ModelText.Next(generation);
                var reply = await UpAsync(new(session, version, StagePurpose.Generate, tokens, Position: position, Sampling: options), null, cancellation).ConfigureAwait(false);
                generation.Take(reply.NextToken!.Value);
                position += (tokens.DecoderInputIds ?? tokens.InputIds).Shape[1];
            }
            return text.Decode(generation.Tokens);
        }
        finally
        {
            await EndAsync(session).ConfigureAwait(false);
        }
    }

    /// <summary>The forward half, and for each stage what it gave to the one above.</summary>
    private async Task<(ExampleScore Score, IReadOnlyList<StageReply> Boundaries)> RecordAsync(
        long session, ModelVersion version, TokenBatch edit, CancellationToken cancellation)
    {
        _editableStages ??= [.. (await Task.WhenAll(stages.Select((_, i) => CallAsync(i, shard => shard.StatusAsync(cancellation)))).ConfigureAwait(false))
            .Select((status, stage) => status.State == ShardState.Ready ? status.EditableWeights.Count > 0 // one that is not has none yet
                : throw new MendException(MendError.ShardLost, $"Stage {stage} is {status.State}.", "Nothing was changed. Send the request again when it is ready."))];
        if (!_editableStages.Any(editable => editable))
            throw new MendException(MendError.EditorMissing, "The model was opened without an editor.", "Name the editor's file, or train one: mend train.");
        var boundaries = new List<StageReply>();
        var top = await UpAsync(new(session, version, StagePurpose.Record, edit), boundaries, cancellation).ConfigureAwait(false);
        var score = top.Scores![0];
        return double.IsFinite(score.LogProbability) ? (score, boundaries)
            : throw new MendException(MendError.NotFinite, "The loss of the edit is NaN or infinite.", "The edit was not made. With 16-bit weights try float32.");
    }

    private async Task<(IReadOnlyList<WeightChange> Changes, TimeSpan Editor)> BackwardAsync(long session, IReadOnlyList<StageReply> boundaries, CancellationToken cancellation)
    {
        var changes = new List<WeightChange>();
        var editor = TimeSpan.Zero;
        WireTensor? hidden = null, memory = null;
        for (var i = boundaries.Count - 1; i >= 0 && _editableStages!.Take(i + 1).Any(editable => editable); i--)
        {
            var request = new BackwardRequest(session, hidden, memory);
            var reply = await CallAsync(i, shard => shard.BackwardAsync(request, cancellation)).ConfigureAwait(false);
            (hidden, memory) = (reply.Hidden, reply.Memory);
            changes.InsertRange(0, reply.Changes);
            editor += reply.Editor;
        }
        return (changes, editor);
    }

    /// <summary>Chooses the candidate's strength, and measures the candidate at it.</summary>
    private async Task<EditFigures> TryAsync(
        long session, ModelVersion version, TokenBatch edit, TokenBatch trial, ExampleScore scoreBefore, double? confidence, CancellationToken cancellation)
    {
        double? strength = null;
        if (confidence is { } wanted)
        {
            var search = new StrengthSearch(wanted);
            while (search.Next is { } next)
            {
                var reply = await UpAsync(new(session, version, StagePurpose.TryAfter, edit, FirstProbe: 1, Strength: next), null, cancellation).ConfigureAwait(false);
                search.Report(reply.Scores![0].Exact, Math.Exp(reply.Scores[0].LogProbability));
            }
            strength = search.Chosen;
        }
        var request = new StageRequest(session, version, StagePurpose.TryBefore, trial, FirstProbe: 1, Strength: strength ?? 1);
        var before = probes.Count == 0 ? null : await UpAsync(request, null, cancellation).ConfigureAwait(false);
        var after = await UpAsync(request with { Purpose = StagePurpose.TryAfter }, null, cancellation).ConfigureAwait(false);
        if (!after.Scores!.All(score => double.IsFinite(score.LogProbability)) || !double.IsFinite(after.Kl ?? 0))
            throw new MendException(MendError.NotFinite, "The edited model gives NaN or infinite probabilities.", "The edit was not made. With 16-bit weights try float32.");
        var lost = before is null ? 0 : before.Scores!.Skip(1).Count(score => score.Exact) - after.Scores!.Skip(1).Count(score => score.Exact);
        return new(after.Scores![0].Exact, Math.Exp(scoreBefore.LogProbability), Math.Exp(after.Scores[0].LogProbability),
            probes.Count, probes.Count == 0 ? 0 : (double)lost / probes.Count, after.Kl ?? 0, strength);
    }

    private static void Gate(EditFigures figures, EditOptions options)
    {
        if (figures.Drawdown > options.MaxDrawdown)
            throw new MendException(MendError.DrawdownExceeded,
                $"The edit costs {figures.Drawdown:P1} of the answers to {figures.Probes} probes; at most {options.MaxDrawdown:P1} is allowed.",
                "The edit was not made. Say the fact in other words, or allow more.");
        if (options.RequireSuccess && !figures.Success)
            throw new MendException(MendError.EditUnsuccessful,
                $"The edited model would give the target a probability of {figures.ProbabilityAfter:0.###} only.",
                "The edit was not made. Say the fact in other words, or do not require success.");
    }

    private LedgerEntry? Earlier(string prompt, string target, string? key)
    {
        if (key is null || ledger.Entries.FirstOrDefault(entry => entry.IdempotencyKey == key) is not { } entry)
            return null;
        return entry.Prompt == prompt && entry.Target == target ? entry
            : throw new MendException(MendError.IdempotencyKeyReused, $"The idempotency key '{key}' was used for edit {entry.Edit}, \"{entry.Prompt}\".",
                "Use a new key for another edit.");
    }

    /// <summary>A trip through all stages.</summary>
    /// <param name="boundaries">Receives every stage's reply.</param>
    /// <returns>The last stage's reply.</returns>
    private async Task<StageReply> UpAsync(StageRequest request, List<StageReply>? boundaries, CancellationToken cancellation)
    {
        StageReply reply = new(null, null);
        for (var i = 0; i < stages.Count; i++)
        {
            var needsInputGradient = request.Purpose == StagePurpose.Record && _editableStages!.Take(i).Any(editable => editable);
            var own = request with { Hidden = reply.Hidden, Memory = reply.Memory, NeedsInputGradient = needsInputGradient };
            reply = await CallAsync(i, shard => CaughtUpAsync(shard, () => shard.ForwardAsync(own, cancellation))).ConfigureAwait(false);
            boundaries?.Add(reply);
        }
        return reply;
    }

    /// <summary>Asks a shard; one that is behind is given the records that it lacks and asked again.</summary>
    private async Task<T> CaughtUpAsync<T>(IModelShard shard, Func<Task<T>> ask)
    {
        try
        {
            return await ask().ConfigureAwait(false);
        }
        catch (MendException e) when (e.Error == MendError.VersionBehind)
        {
            var status = await shard.StatusAsync().ConfigureAwait(false);
            await shard.ApplyAsync(await ledger.ReadAfterAsync(status.Version).ConfigureAwait(false)).ConfigureAwait(false);
            return await ask().ConfigureAwait(false);
        }
    }

    /// <summary>Calls a stage's shard. However it fails, the caller meets a code: a stopped thread, a lost connection or a native failure is a lost shard.</summary>
    private async Task<T> CallAsync<T>(int stage, Func<IModelShard, Task<T>> call)
    {
        try
        {
            return await call(stages[stage]).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not (MendException or OperationCanceledException))
        {
            throw new MendException(MendError.ShardLost, $"The shard of stage {stage} failed: {e.Message}", "Nothing was changed. Send the request again; if it fails again, restart the shard.", e);
        }
    }

    private async Task BroadcastAsync(LedgerRecord record)
    {
        Interlocked.Exchange(ref _version, record.Entry.Version.Value);
        await Task.WhenAll(stages.Select(async stage =>
        {
            try
            {
                await stage.ApplyAsync([record]).ConfigureAwait(false);
            }
            catch (Exception) // whatever it was: the edit is durable and must not be answered as failed
            {
                // A shard that missed it is caught up by the next request at this version.
            }
        })).ConfigureAwait(false);
    }

    private async Task EndAsync(long session)
    {
        foreach (var stage in stages)
            try
            {
                await stage.EndAsync(session).ConfigureAwait(false);
            }
            catch (Exception) // whatever it was: it must neither hide the receipt of a durable edit nor keep the turn from the next
            {
                // A lost shard has lost its sessions too.
            }
    }

    private sealed class PhaseClock(TimeProvider time)
    {
        private long _start = time.GetTimestamp();

        /// <summary>Time since the last lap.</summary>
        public TimeSpan Lap()
        {
            var elapsed = time.GetElapsedTime(_start);
            _start = time.GetTimestamp();
            return elapsed;
        }
    }
}
