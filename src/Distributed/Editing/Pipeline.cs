using System.Collections.Concurrent;
using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using MendCluster.Distributed.Telemetry;
using Microsoft.Extensions.Logging;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// The stages of one replica, as the coordinator drives them: hub and spokes. Every boundary passes through the coordinator and no stage
/// waits inside another's call, so a stage that is lost holds up nothing but the trip that needs it.
/// </summary>
/// <param name="replica">Its number.</param>
/// <param name="stages">One shard for each stage, in order.</param>
/// <param name="ledger">Has the records that a shard lacks.</param>
/// <param name="stageOf">The stage of each weight that an edit has changed, as it becomes known.</param>
internal sealed partial class Pipeline(int replica, IReadOnlyList<IModelShard> stages, IEditLedger ledger,
    ConcurrentDictionary<string, int> stageOf, TimeProvider time, ILogger logger)
{
    /// <summary>How long a replica that lost a shard is passed over while another can answer.</summary>
    private static readonly TimeSpan CircuitOpenTime = TimeSpan.FromSeconds(5);

    private const int MaxAttempts = 3;

    private readonly ActiveTime _active = new(replica, time);
    private readonly long[] _epochs = new long[stages.Count];
    private IReadOnlyList<bool>? _editableStages;
    private volatile ProbeBaseline? _baseline;
    private volatile ProbeBaseline? _base;
    private long _openUntil = long.MinValue;

    /// <summary>Whether it is worth a try before others.</summary>
    public bool IsTrusted => time.GetUtcNow().UtcTicks >= Interlocked.Read(ref _openUntil);

    /// <summary>The next token of an answer.</summary>
    public async Task<int> GenerateAsync(StageTrip trip, long position, AskOptions sampling, double? candidate,
        CancellationToken cancellation) =>
        (await GenerateAsync(trip, new(trip, position, sampling, candidate), cancellation).ConfigureAwait(false)).NextToken!.Value;

    /// <summary>The first token of an answer, and the state that it is chosen from.</summary>
    public async Task<(int Token, WireTensor State)> BeginAsync(StageTrip trip, AskOptions sampling, CancellationToken cancellation)
    {
        var reply = await GenerateAsync(trip, new(trip, 0, sampling, WantsState: true), cancellation).ConfigureAwait(false);
        return (reply.NextToken!.Value, reply.State!);
    }

    private async Task<GenerateReply> GenerateAsync(StageTrip trip, GenerateRequest request, CancellationToken cancellation) =>
        (await UpAsync(trip, (shard, own, _) => shard.GenerateAsync(request with { Trip = own }, cancellation), reply => reply.Result)
            .ConfigureAwait(false))[^1];

    /// <summary>How well the target of the session's edit is predicted with its candidate. From the lowest editable layer.</summary>
    /// <param name="trip">That of the forward half.</param>
    /// <param name="candidate">Factor on the candidate's alpha.</param>
    public async Task<ExampleScore> TryAsync(StageTrip trip, double candidate, CancellationToken cancellation) =>
        (await TryAsync(trip, candidate, null, resumes: true, cancellation).ConfigureAwait(false)).Scores![0];

    /// <summary>The same of several edits, each with its own candidate and no other's.</summary>
    /// <param name="each">For each edit the factor on its candidate's alpha; null: it is left out.</param>
    /// <returns>Scores of the others, in order.</returns>
    public async Task<IReadOnlyList<ExampleScore>> TryEachAsync(StageTrip trip, IReadOnlyList<double?> each, CancellationToken cancellation) =>
        (await TryAsync(trip, null, null, resumes: true, cancellation, each).ConfigureAwait(false)).Scores!;

    /// <summary>How well the targets of the session's edits are predicted on its branch, which has them.</summary>
    public async Task<IReadOnlyList<ExampleScore>> TryOnBranchAsync(StageTrip trip, CancellationToken cancellation) =>
        (await TryAsync(trip, null, null, resumes: true, cancellation).ConfigureAwait(false)).Scores!;

    /// <summary>
    /// The scores of the probes before the session's edit and with its candidate. The first are not computed again while shards, version
    /// and scope stay the same, nor are those of the base model while the shards do; the others begin at the lowest editable layer.
    /// </summary>
    /// <param name="trip">With the tokens of the probes, in the session of an edit whose backward half is done.</param>
    /// <param name="candidate">Factor on the candidate's alpha; null: the candidates are in the trip's branch, beside all of its version.</param>
    /// <param name="near">Asked too, of the same models; of them nothing is kept.</param>
    /// <param name="withBase">Whether the base model is asked too.</param>
    /// <param name="number">Gives numbers for the passes, each once.</param>
    public async Task<ProbeTrial> ProbeAsync(StageTrip trip, NearProbes? near, double? candidate, bool withBase, Func<long> number,
        CancellationToken cancellation)
    {
        var unedited = candidate is null ? trip with { Branch = null } : trip;
        if (!IsKept(_base))
            _base = null;
        if (withBase && _base is null)
        {
            _baseline = null; // the shards let go of it
            _base = await AskAsync(trip with { Branch = 0 }).ConfigureAwait(false);
        }
        var before = _baseline;
        if (!IsKept(before) || (before!.Version, before.Scope) != (trip.Version, trip.Scope) || unedited.Branch is not null)
        {
            _baseline = null;
            before = await AskAsync(unedited).ConfigureAwait(false);
            _baseline = unedited.Branch is null ? before : null;
        }
        var (pass, first) = (number(), _base);
        var after = await TryAsync(trip, candidate, new(pass, before.Pass, first?.Pass), resumes: true, cancellation)
            .ConfigureAwait(false);
        var tried = new ProbeTrial(before.Scores, after.Scores!, after.Kl!.Value, before with { Pass = pass, Scores = after.Scores! },
            first?.Scores, after.TotalKl);
        return near is null ? tried : tried with
        {
            Before = [.. tried.Before, .. await NearAsync(unedited, null).ConfigureAwait(false)],
            After = [.. tried.After, .. await NearAsync(trip, candidate).ConfigureAwait(false)],
            Base = !withBase ? null : [.. first!.Scores, .. await NearAsync(trip with { Branch = 0 }, null).ConfigureAwait(false)],
        };

        async Task<IReadOnlyList<ExampleScore>> NearAsync(StageTrip asked, double? with) =>
            (await TryAsync(asked with { Tokens = near.Tokens }, with, null, resumes: false, cancellation).ConfigureAwait(false)).Scores!;

        async Task<ProbeBaseline> AskAsync(StageTrip asked)
        {
            var own = number();
            var reply = await TryAsync(asked, null, new(own, null, _base?.Pass), resumes: false, cancellation).ConfigureAwait(false);
            return new(own, asked.Version, asked.Scope, reply.Scores!, [.. _epochs]);
        }
    }

    private bool IsKept(ProbeBaseline? baseline) => baseline is not null && baseline.Epochs.SequenceEqual(_epochs);

    /// <summary>The candidate that was tried is a version now: what the probes said of it, they say of the model.</summary>
    public void Keep(ProbeBaseline candidate, ModelVersion version) => _baseline = candidate with { Version = version };

    private async Task<TrialReply> TryAsync(StageTrip trip, double? candidate, ProbePass? probes, bool resumes,
        CancellationToken cancellation, IReadOnlyList<double?>? each = null)
    {
        var lowest = (await EditableStagesAsync(cancellation).ConfigureAwait(false)).ToList().IndexOf(true);
        return (await UpAsync(trip, (shard, own, stage) => shard.TryAsync(
            new(own, candidate, probes, resumes && stage == lowest, each), cancellation), reply => reply.Result, resumes ? lowest : 0).ConfigureAwait(false))[^1];
    }

    /// <summary>The forward half of an edit, or of another of its rounds; or of several edits, an example each.</summary>
    public async Task<IReadOnlyList<ExampleScore>> ForwardAsync(StageTrip trip, bool again, CancellationToken cancellation)
    {
        var editable = await EditableStagesAsync(cancellation).ConfigureAwait(false);
        if (!editable.Contains(true))
            throw NoEditor();
        var replies = await UpAsync(trip, (shard, own, stage) =>
            shard.ForwardAsync(new(own, editable.Take(stage).Contains(true), again), cancellation), reply => reply.Result).ConfigureAwait(false);
        return replies[^1].Scores!;
    }

    private static MendException NoEditor() => new(MendError.EditorMissing, "The model was opened without an editor.",
        "Name the editor's file (--editor), or train one: mend train.");

    private async Task<IReadOnlyList<bool>> EditableStagesAsync(CancellationToken cancellation) =>
        _editableStages ??= [.. (await Task.WhenAll(stages.Select((_, i) =>
            CallAsync(i, shard => shard.StatusAsync(cancellation)))).ConfigureAwait(false))
            .Select((status, stage) => status.State == ShardState.Ready ? status.EditableWeights.Count > 0 // one that is not has none yet
                : throw new MendException(MendError.ShardLost, $"Stage {stage} is {status.State}.",
                "Nothing was changed. Send the request again when it is ready."))];

    /// <summary>The backward half: down to the lowest editable layer and no further.</summary>
    /// <returns>Each edit's candidate, the time in the editor networks, and how many rounds the editor takes at most.</returns>
    public async Task<(IReadOnlyList<IReadOnlyList<WeightChange>> Changes, TimeSpan Editor, int Rounds)> BackwardAsync(long session,
        CancellationToken cancellation)
    {
        IReadOnlyList<IReadOnlyList<WeightChange>> changes = [];
        var rounds = 1;
        var editor = TimeSpan.Zero;
        var above = Boundary.None;
        for (var i = stages.Count - 1; i >= 0 && _editableStages!.Take(i + 1).Contains(true); i--)
        {
            var request = new BackwardRequest(session, above);
            var reply = await CallAsync(i, shard => shard.BackwardAsync(request, cancellation)).ConfigureAwait(false);
            above = reply.Below;
            changes = changes.Count == 0 ? reply.Changes : reply.Changes.Count == 0 ? changes
                : [.. reply.Changes.Zip(changes).Select(edit => (IReadOnlyList<WeightChange>)[.. edit.First, .. edit.Second])];
            foreach (var change in reply.Changes.SelectMany(edit => edit))
                stageOf[change.Weight] = i;
            editor += reply.Editor;
            rounds = Math.Max(rounds, reply.Rounds);
        }
        return (changes, editor, rounds);
    }

    public Task BranchAsync(BranchRequest request, CancellationToken cancellation) => Task.WhenAll(stages.Select((_, i) =>
        CallAsync(i, shard => CaughtUpAsync(shard, () => DoneAsync(shard.BranchAsync(request, cancellation))))));

    /// <summary>
    /// How well the label of one question is predicted as it is now and with the session's candidate, and how far the one is from the other.
    /// Of it nothing is kept for the next.
    /// </summary>
    /// <param name="trip">With the question's tokens, on what it sees now.</param>
    /// <param name="candidate">Factor on the candidate's alpha, which stands in the place of the trip's route; null: it is asked as it is now.</param>
    /// <param name="number">Gives numbers for the passes, each once.</param>
    public async Task<RoutedScore> ScoreRoutedAsync(StageTrip trip, double? candidate, Func<long> number, CancellationToken cancellation)
    {
        (_baseline, _base) = (null, null); // the shards let go of them
        var (none, now) = (number(), number());
        var first = await TryAsync(trip with { Route = null }, null, new(none, null, null), resumes: false, cancellation).ConfigureAwait(false);
        var before = await TryAsync(trip, null, new(now, none, none), resumes: false, cancellation).ConfigureAwait(false);
        if (candidate is null)
            return new(first.Scores![0], before.Scores![0], before.Scores[0], 0, before.TotalKl!.Value);
        var after = await TryAsync(trip with { Route = null }, candidate, new(number(), now, none), resumes: false, cancellation).ConfigureAwait(false);
        return new(first.Scores![0], before.Scores![0], after.Scores![0], after.Kl!.Value, after.TotalKl!.Value);
    }

    /// <summary>How well the labels of a batch are predicted on the trip's branch, which need not have an edit's forward half.</summary>
    public async Task<IReadOnlyList<ExampleScore>> ScoreAsync(StageTrip trip, CancellationToken cancellation) =>
        (await TryAsync(trip, null, null, resumes: false, cancellation).ConfigureAwait(false)).Scores!;

    /// <summary>A trip up the stages: each is given what the one below made.</summary>
    /// <param name="ask">The shard, its part of the trip, its stage.</param>
    /// <param name="first">The stage where it begins.</param>
    /// <returns>Every stage's reply.</returns>
    private async Task<IReadOnlyList<T>> UpAsync<T>(StageTrip trip, Func<IModelShard, StageTrip, int, Task<T>> ask,
        Func<T, StageResult> resultOf, int first = 0)
    {
        var (below, replies) = (Boundary.None, new List<T>());
        for (var i = first; i < stages.Count; i++)
        {
            var (stage, own) = (i, trip with { Below = below, Epoch = Interlocked.Read(ref _epochs[i]) });
            var reply = await CallAsync(i, shard => CaughtUpAsync(shard, () => ask(shard, own, stage))).ConfigureAwait(false);
            (below, var epoch) = resultOf(reply);
            Interlocked.Exchange(ref _epochs[i], epoch);
            replies.Add(reply);
        }
        return replies;
    }

    /// <summary>
    /// Tells every stage of records that are durable, with the factors of its own weights. One that does not hear it is caught up by the
    /// next request at its version.
    /// </summary>
    public Task BroadcastAsync(IReadOnlyList<LedgerRecord> records) => EveryStageAsync((shard, stage) => shard.ApplyAsync(
        [.. records.Select(record => record with { Changes =
        [.. record.Changes.Where(change => !stageOf.TryGetValue(change.Weight, out var owner) || owner == stage)] })]));

    /// <summary>A lost shard has lost its sessions too.</summary>
    public Task EndAsync(long session) => EveryStageAsync((shard, _) => shard.EndAsync(session));

    /// <summary>
    /// What was promised does not hang on these calls: however they fail, an edit that is durable must not be answered as failed.
    /// </summary>
    private Task EveryStageAsync(Func<IModelShard, int, Task> call) => Task.WhenAll(stages.Select(async (shard, stage) =>
    {
        using var span = MendTracing.Start("stage", stage);
        try
        {
            await call(shard, stage).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            logger.StageNotTold(stage, e);
        }
    }));

    /// <summary>Asks a shard; one that is behind is given the records that it lacks and asked again.</summary>
    private async Task<T> CaughtUpAsync<T>(IModelShard shard, Func<Task<T>> ask)
    {
        for (var attempt = 1; ; attempt++)
            try
            {
                if (attempt > 1)
                {
                    var status = await shard.StatusAsync().ConfigureAwait(false);
                    var missing = await MendMetrics.ReadAsync(time, () => ledger.ReadAfterAsync(status.Version)).ConfigureAwait(false);
                    await shard.ApplyAsync(missing).ConfigureAwait(false);
                }
                return await ask().ConfigureAwait(false);
            }
            catch (MendException e) when (e.Error is MendError.VersionBehind or MendError.VersionGap && attempt < MaxAttempts)
            {
                // Behind, or restarted while the records were on their way.
            }
    }

    /// <summary>
    /// Calls a stage's shard. However it fails, the caller meets a code: a stopped thread, a lost connection or a native failure is a lost
    /// shard. One that lacks records is of no more use than that while the ledger cannot be read.
    /// </summary>
    private async Task<T> CallAsync<T>(int stage, Func<IModelShard, Task<T>> call)
    {
        using var span = MendTracing.Start("stage", stage);
        using var active = _active.Begin();
        try
        {
            return await call(stages[stage]).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not (MendException or OperationCanceledException) || IsLost(e))
        {
            logger.ReplicaPassedOver(stage, CircuitOpenTime.TotalSeconds, e);
            Interlocked.Exchange(ref _openUntil, (time.GetUtcNow() + CircuitOpenTime).UtcTicks);
            (_baseline, _base) = (null, null);
            Interlocked.Exchange(ref _epochs[stage], 0); // whoever answers next is meant: the clocks of two machines may differ
            throw e as MendException
                ?? new MendException(MendError.ShardLost, $"The shard of stage {stage} failed: {e.Message}",
                "Nothing was changed. Send the request again; if it fails again, restart the shard.", e);
        }
    }

    /// <summary>Whether another replica may do what this one could not.</summary>
    public static bool IsLost(Exception e) => e is MendException { Error: MendError.ShardLost or MendError.LedgerUnreachable };

    /// <summary>What the replica's shards keep of the probes on the unedited or the base model.</summary>
    /// <param name="Pass">Its name there.</param>
    /// <param name="Epochs">Of the stages' shards: those of others have lost it.</param>
    internal sealed record ProbeBaseline(long Pass, ModelVersion Version, string? Scope, IReadOnlyList<ExampleScore> Scores,
        IReadOnlyList<long> Epochs);

    /// <summary>What the probes say of a candidate.</summary>
    /// <param name="Before">Of the fixed ones, then of those nearest to the edit; so are the others.</param>
    /// <param name="Kl">Of before to after, mean over the tokens of the fixed ones.</param>
    /// <param name="Candidate">The baseline, should it become the next version; null: none is kept.</param>
    /// <param name="Base">Scores of the base model; null where it was not asked.</param>
    /// <param name="TotalKl">Of the base model to after, as <paramref name="Kl"/>.</param>
    internal sealed record ProbeTrial(IReadOnlyList<ExampleScore> Before, IReadOnlyList<ExampleScore> After, double Kl,
        ProbeBaseline? Candidate, IReadOnlyList<ExampleScore>? Base, double? TotalKl);

    /// <summary>What one question says of a candidate that it matches, or of the edit that it matches.</summary>
    /// <param name="Base">Without any edit.</param>
    /// <param name="Before">As it is.</param>
    /// <param name="After">With the candidate.</param>
    /// <param name="Kl">Of before to after, mean over its tokens.</param>
    /// <param name="TotalKl">The same without any edit to after.</param>
    internal sealed record RoutedScore(ExampleScore Base, ExampleScore Before, ExampleScore After, double Kl, double TotalKl);

    /// <summary>The time in which at least one call is under way; each that ends tells what has gone by.</summary>
    private sealed class ActiveTime
    {
        private readonly int _replica;
        private readonly TimeProvider _time;
        private readonly Lock _lock = new();
        private int _calls;
        private long _since;

        public ActiveTime(int replica, TimeProvider time)
        {
            (_replica, _time) = (replica, time);
            MendMetrics.Called(replica, TimeSpan.Zero);
        }

        /// <returns>Disposed of when the call ends.</returns>
        public Call Begin()
        {
            lock (_lock)
                if (_calls++ == 0)
                    _since = _time.GetTimestamp();
            return new(this);
        }

        private void End()
        {
            lock (_lock)
            {
                var now = _time.GetTimestamp();
                MendMetrics.Called(_replica, _time.GetElapsedTime(_since, now));
                (_since, _calls) = (now, _calls - 1);
            }
        }

        public readonly struct Call(ActiveTime active) : IDisposable
        {
            public void Dispose() => active.End();
        }
    }
}
