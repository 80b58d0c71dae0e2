using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using MendCluster.Distributed.Telemetry;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// The stages of one replica, as the coordinator drives them: hub and spokes. Every boundary passes through the coordinator and no stage waits
/// inside another's call, so a stage that is lost holds up nothing but the trip that needs it.
/// </summary>
/// <param name="stages">One shard for each stage, in order.</param>
/// <param name="ledger">Has the records that a shard lacks.</param>
internal sealed class Pipeline(IReadOnlyList<IModelShard> stages, IEditLedger ledger, TimeProvider time)
{
    /// <summary>How long a replica that lost a shard is passed over while another can answer.</summary>
    private static readonly TimeSpan Shunned = TimeSpan.FromSeconds(5);

    private const int MostAttempts = 3;

    private readonly long[] _epochs = new long[stages.Count];
    private IReadOnlyList<bool>? _editableStages;
    private long _shunnedUntil = long.MinValue;

    /// <summary>Whether it is worth a try before others.</summary>
    public bool IsTrusted => time.GetUtcNow().UtcTicks >= Interlocked.Read(ref _shunnedUntil);

    /// <summary>A trip through all stages.</summary>
    /// <param name="boundaries">Receives every stage's reply.</param>
    /// <returns>The last stage's reply.</returns>
    public async Task<StageReply> UpAsync(StageRequest request, List<StageReply>? boundaries, CancellationToken cancellation)
    {
        StageReply reply = new(null, null);
        for (var i = 0; i < stages.Count; i++)
        {
            var needsInputGradient = request.Purpose == StagePurpose.Record && _editableStages!.Take(i).Any(editable => editable);
            var own = request with { Hidden = reply.Hidden, Memory = reply.Memory, NeedsInputGradient = needsInputGradient, Epoch = Interlocked.Read(ref _epochs[i]) };
            reply = await CallAsync(i, shard => CaughtUpAsync(shard, () => shard.ForwardAsync(own, cancellation))).ConfigureAwait(false);
            Interlocked.Exchange(ref _epochs[i], reply.Epoch);
            boundaries?.Add(reply);
        }
        return reply;
    }

    /// <summary>The forward half of an edit, and for each stage what it gave to the one above.</summary>
    public async Task<(ExampleScore Score, IReadOnlyList<StageReply> Boundaries)> RecordAsync(StageRequest request, CancellationToken cancellation)
    {
        _editableStages ??= [.. (await Task.WhenAll(stages.Select((_, i) => CallAsync(i, shard => shard.StatusAsync(cancellation)))).ConfigureAwait(false))
            .Select((status, stage) => status.State == ShardState.Ready ? status.EditableWeights.Count > 0 // one that is not has none yet
                : throw new MendException(MendError.ShardLost, $"Stage {stage} is {status.State}.", "Nothing was changed. Send the request again when it is ready."))];
        if (!_editableStages.Any(editable => editable))
            throw new MendException(MendError.EditorMissing, "The model was opened without an editor.", "Name the editor's file (--editor), or train one: mend train.");
        var boundaries = new List<StageReply>();
        var top = await UpAsync(request with { Purpose = StagePurpose.Record }, boundaries, cancellation).ConfigureAwait(false);
        return (top.Scores![0], boundaries);
    }

    /// <summary>The backward half: down to the lowest editable layer and no further.</summary>
    public async Task<(IReadOnlyList<WeightChange> Changes, TimeSpan Editor)> BackwardAsync(long session, IReadOnlyList<StageReply> boundaries, CancellationToken cancellation)
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

    public Task BranchAsync(BranchRequest request, CancellationToken cancellation) => Task.WhenAll(stages.Select((_, i) =>
        CallAsync(i, shard => CaughtUpAsync(shard, async () =>
        {
            await shard.BranchAsync(request, cancellation).ConfigureAwait(false);
            return true;
        }))));

    /// <summary>Tells every stage of a record that is durable. One that does not hear it is caught up by the next request at its version.</summary>
    public Task BroadcastAsync(LedgerRecord record) => EveryStageAsync(stage => stage.ApplyAsync([record]));

    /// <summary>A lost shard has lost its sessions too.</summary>
    public Task EndAsync(long session) => EveryStageAsync(stage => stage.EndAsync(session));

    /// <summary>What was promised does not hang on these calls: however they fail, an edit that is durable must not be answered as failed.</summary>
    private Task EveryStageAsync(Func<IModelShard, Task> call) => Task.WhenAll(stages.Select(async stage =>
    {
        try
        {
            await call(stage).ConfigureAwait(false);
        }
        catch (Exception)
        {
            // As the callers say.
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
                    await shard.ApplyAsync(await ledger.ReadAfterAsync(status.Version).ConfigureAwait(false)).ConfigureAwait(false);
                }
                return await ask().ConfigureAwait(false);
            }
            catch (MendException e) when (e.Error is MendError.VersionBehind or MendError.VersionGap && attempt < MostAttempts)
            {
                // Behind, or restarted while the records were on their way.
            }
    }

    /// <summary>Calls a stage's shard. However it fails, the caller meets a code: a stopped thread, a lost connection or a native failure is a lost shard.</summary>
    private async Task<T> CallAsync<T>(int stage, Func<IModelShard, Task<T>> call)
    {
        using var span = MendTracing.Start("stage", stage);
        try
        {
            return await call(stages[stage]).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not (MendException { Error: not MendError.ShardLost } or OperationCanceledException))
        {
            Interlocked.Exchange(ref _shunnedUntil, (time.GetUtcNow() + Shunned).UtcTicks);
            Interlocked.Exchange(ref _epochs[stage], 0); // whoever answers next is meant: the clocks of two machines may differ
            throw e as MendException
                ?? new MendException(MendError.ShardLost, $"The shard of stage {stage} failed: {e.Message}", "Nothing was changed. Send the request again; if it fails again, restart the shard.", e);
        }
    }
}
