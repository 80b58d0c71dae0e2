using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Telemetry;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Training;

/// <summary>
/// The steps of a run (<see cref="EditorRun"/>) on R replicas of a model, each of S stages. The edits of a step are divided among the
/// replicas; within a replica as many are under way as it has stages, so that none of them waits.
///
/// 1 Record. Each edit goes up the stages and its gradient down to the lowest editable layer; every stage keeps its factors (u, delta). The
///   rows enter the statistics here, edit by edit and weight by weight in their order. So statistics are the same bits everywhere, and the
///   same for every layout.
/// 2 Propose and evaluate. Each stage normalises an edit's factors by the statistics as they are after this edit, and turns them into
///   updates (uTilde, deltaTilde, alpha), which for the losses are leaves. The edited model goes up with a rephrase, both models with
///   unrelated examples; the gradient comes down, and every stage keeps dL/d(uTilde, deltaTilde, alpha) of its weights.
/// 3 Gradient. One pass of the editor networks over the rows of all edits of a shard takes these to phi.
/// 4 Reduce. The editor of a shape belongs to every shard that has a weight of it, in all replicas; its owners add their gradients around
///   a ring (<see cref="RingAllReduce"/>). alpha belongs to all that have any.
/// 5 Commit. The norm of the whole gradient is known now, and every shard takes the same step of Adam. Digests prove that they are
///   still equal.
///
/// The step's gradient is a mean over its edits, so it does not depend on who computed which; what differs between layouts is the rounding
/// of sums.
///
/// What holds when a replica is lost (<see cref="ReplicaSet"/>):
/// - before the commit: nothing happened. The shards keep everything of a step under a round; the others begin the same step again under
///   a new one, over the same edits. No edit is lost or counted twice.
/// - in the commit: the step happened if one replica took it whole. If none did, the run ends with <see cref="MendError.ShardLost"/> and
///   goes on from its last checkpoint.
/// - it comes back: between two steps it is given the whole state by living owners, and takes part again.
/// A gradient that is not finite is refused: of one edit, and the step goes on without it; of the whole, and the step is passed over.
///
/// The trainer has a copy of the whole editor, for checkpoints and to carry state; it computes nothing on it.
/// </summary>
/// <param name="replicas">Of each replica a shard for every stage, in order.</param>
/// <param name="state">The trainer's copy, which is disposed of at the end.</param>
internal sealed class TrainingReplicas(IReadOnlyList<IReadOnlyList<ITrainingShard>> replicas, EditorTrainerOptions options,
    EditorState state) : ITrainingReplicas
{
    /// <summary>For the last checkpoint of a run that is cancelled; its process may be ending.</summary>
    private static readonly TimeSpan CheckpointTimeout = TimeSpan.FromSeconds(30);

    private readonly ReplicaSet _replicas = new(replicas, options.Logger);
    private readonly EditorTrainingOptions _training = options.Training;

    /// <summary>Starts at the clock: shards may still hold rounds of a trainer that died, and its numbers must not come again.</summary>
    private long _rounds = options.Time.GetUtcNow().UtcTicks;

    public IStoredEditor Editor => state.Mend;

    public Adam Adam => state.Adam;

    public ParameterAverage? Average => state.Average;

    public int Count => _replicas.Live.Count;

    public Task OpenAsync(long step, CancellationToken cancellation) => RejoinReplicasAsync(step, wait: true, cancellation);

    public async Task<StepResult> StepAsync(long step, double rate, CancellationToken cancellation)
    {
        await RejoinReplicasAsync(step, wait: false, cancellation).ConfigureAwait(false);
        var began = options.Time.GetTimestamp();
        var result = await _replicas.RetryOnLiveReplicasAsync(attempt => StepAsync(attempt, step, rate), cancellation)
            .ConfigureAwait(false);
        MendMetrics.Step(options.Time.GetElapsedTime(began), result.Figures.Average(figures => figures.Total), result.Refused);
        return result;
    }

    private async Task<StepResult> StepAsync(Attempt attempt, long step, double rate)
    {
        var edits = Enumerable.Range(0, _training.AccumulateBs)
            .Select(i => Encode(() => options.TrainingBatch(step * _training.AccumulateBs + i))).ToList();
        var round = await BeginAsync(attempt, RoundKind.Step, step).ConfigureAwait(false);
        var statistics = await RecordAsync(attempt, round, edits).ConfigureAwait(false);
        var (figures, accepted) = await EvaluateAsync(attempt, round, edits, statistics).ConfigureAwait(false);
        var isFinite = await GradientAsync(attempt, round, edits.Count, accepted).ConfigureAwait(false);
        double? norm = null;
        if (isFinite)
        {
            var began = options.Time.GetTimestamp();
            norm = await ReduceAsync(attempt, round).ConfigureAwait(false);
            MendMetrics.Reduce(options.Time.GetElapsedTime(began));
        }
        double? scale = norm is { } found && double.IsFinite(found) ? Adam.ClipScale(found, _training.GradClip) : null;

        attempt.Token.ThrowIfCancellationRequested(); // from here on nothing is cancelled
        await CommitAsync(attempt.Live, new(round, scale, rate), step).ConfigureAwait(false);
        foreach (var (shape, own) in state.Mend.Shapes.Zip(statistics is [.., var last] ? last.After : []))
            RowStatisticsCodec.Set(shape, own);
        return new StepResult(figures, norm, scale is not null ? edits.Count - accepted.Count : edits.Count);
    }

    private async Task<long> BeginAsync(Attempt attempt, RoundKind kind, long step)
    {
        var round = new TrainingRound(++_rounds, kind, step);
        await attempt.EachShardAsync((_, shard) => shard.BeginAsync(round, attempt.Token)).ConfigureAwait(false);
        return round.Number;
    }

    /// <summary>Phase 1 of all edits.</summary>
    /// <returns>
    /// The edits whose factors are finite, in order; for each the statistics with its rows and those of the edits before it, shape by
    /// shape.
    /// </returns>
    private async Task<IReadOnlyList<(int Edit, IReadOnlyList<RowStatistics> After)>> RecordAsync(Attempt attempt, long round,
        List<TrainingExample> edits)
    {
        var recorded = new RecordedEdit[edits.Count];
        await attempt.EachEditAsync(edits.Count, async (replica, edit) =>
            recorded[edit] = await RecordAsync(replica, round, edit, edits[edit].Inner, attempt.Token).ConfigureAwait(false))
            .ConfigureAwait(false);
        List<int> accepted = [.. Enumerable.Range(0, edits.Count).Where(edit => recorded[edit].IsFinite)];
        var shapes = state.Mend.Shapes.Select(shape => RowStatisticsCodec.Merge(shape, accepted.Select(edit =>
            shape.Weights.Select(weight => recorded[edit].Rows.First(rows => rows.Name == weight))))).ToList();
        return [.. accepted.Select((edit, place) => (edit, (IReadOnlyList<RowStatistics>)[.. shapes.Select(after => after[place])]))];
    }

    /// <summary>Phase 1 of one edit: up the stages, and down to the lowest editable layer.</summary>
    private static async Task<RecordedEdit> RecordAsync(Replica replica, long round, int edit, TokenBatch tokens,
        CancellationToken cancellation)
    {
        var below = Boundary.None;
        for (var stage = 0; stage < replica.Stages; stage++)
        {
            var request = new RecordRequest(round, edit, tokens, below, stage > replica.LowestEditable);
            below = await replica.CallAsync(stage, shard => shard.RecordAsync(request, cancellation), cancellation).ConfigureAwait(false);
        }
        var above = Boundary.None;
        var rows = new List<RowStatistics>();
        var finite = true;
        for (var stage = replica.Stages - 1; stage >= replica.LowestEditable; stage--)
        {
            var request = new PassBackward(round, edit, [above]);
            var reply = await replica.CallAsync(stage, shard => shard.RecordBackwardAsync(request, cancellation), cancellation)
                .ConfigureAwait(false);
            (above, finite) = (reply.Below, finite && reply.IsFinite);
            rows.AddRange(reply.Rows);
        }
        return new(rows, finite);
    }

    /// <summary>Phase 2 of all edits.</summary>
    /// <returns>Figures of every edit, and the edits whose losses and gradients are finite.</returns>
    private static async Task<(StepFigures[] Figures, HashSet<int> Accepted)> EvaluateAsync(Attempt attempt, long round,
        List<TrainingExample> edits, IReadOnlyList<(int Edit, IReadOnlyList<RowStatistics> After)> statistics)
    {
        var figures = new StepFigures[edits.Count];
        var finite = new bool[edits.Count];
        Array.Fill(figures, NotFinite);
        var after = statistics.ToDictionary(entry => entry.Edit, entry => entry.After);
        await attempt.EachEditAsync(edits.Count, async (replica, edit) =>
        {
            if (!after.TryGetValue(edit, out var own))
                return;
            await ProposeAsync(replica, new(round, [edit], own), attempt.Token).ConfigureAwait(false);
            (figures[edit], finite[edit]) = await EvaluateAsync(replica, round, edit, edits[edit], trains: true, attempt.Token)
                .ConfigureAwait(false);
        }).ConfigureAwait(false);
        if (statistics.Count > 0) // every shard ends with those of the last edit, whoever had it
            await attempt.EachShardAsync((_, shard) => shard.ProposeAsync(new(round, [], statistics[^1].After), attempt.Token))
                .ConfigureAwait(false);
        return (figures, [.. Enumerable.Range(0, edits.Count).Where(edit => finite[edit])]);
    }

    private static Task ProposeAsync(Replica replica, ProposeRequest request, CancellationToken cancellation) =>
        replica.EachStageAsync(shard => shard.ProposeAsync(request, cancellation), cancellation);

    /// <summary>
    /// Phase 2 of one edit: its losses up the stages and, when it trains, their gradient down to the lowest editable layer.
    /// </summary>
    private static async Task<(StepFigures Figures, bool IsFinite)> EvaluateAsync(
        Replica replica, long round, int edit, TrainingExample tokens, bool trains, CancellationToken cancellation)
    {
        var reply = new EvaluateReply(Boundary.None, Boundary.None, null, null);
        for (var stage = 0; stage < replica.Stages; stage++)
        {
            var request = new EvaluateRequest(round, edit, tokens.Outer, tokens.Locality, reply.Outer, reply.Before, reply.After,
                stage > replica.LowestEditable);
            reply = await replica.CallAsync(stage, shard => shard.EvaluateAsync(request, cancellation), cancellation).ConfigureAwait(false);
        }
        var finite = double.IsFinite(reply.Figures!.Total);
        IReadOnlyList<Boundary> above = [Boundary.None, Boundary.None];
        for (var stage = replica.Stages - 1; trains && stage >= replica.LowestEditable; stage--)
        {
            var request = new PassBackward(round, edit, above);
            var down = await replica.CallAsync(stage, shard => shard.EvaluateBackwardAsync(request, cancellation), cancellation)
                .ConfigureAwait(false);
            (above, finite) = (down.Below, finite && down.IsFinite);
        }
        return (reply.Figures, finite);
    }

    /// <summary>Phase 3.</summary>
    /// <returns>Whether every shard's gradient is finite.</returns>
    private static async Task<bool> GradientAsync(Attempt attempt, long round, int edits, HashSet<int> accepted)
    {
        var gradients = await attempt.EachShardAsync((replica, _, shard) => shard.GradientAsync(
            new(round, [.. attempt.EditsOf(replica, edits).Where(accepted.Contains)], 1.0 / edits), attempt.Token)).ConfigureAwait(false);
        return gradients.All(gradient => gradient.Reply);
    }

    /// <summary>Phase 4.</summary>
    /// <returns>The norm of the whole gradient.</returns>
    private async Task<double> ReduceAsync(Attempt attempt, long round)
    {
        var rings = attempt.Live.SelectMany(replica =>
            replica.Groups.SelectMany((groups, stage) => groups.Select(group => (Group: group, Place: replica.PlaceOf(stage)))))
            .GroupBy(entry => entry.Group).Select(owners => new Ring(owners.Key, [.. owners.Select(owner => owner.Place)])).ToList();
        var replies = await attempt.EachShardAsync(async (replica, stage, shard) =>
        {
            var own = rings.Where(ring => ring.Owners.Contains(replica.PlaceOf(stage)));
            var reply = await shard.ReduceAsync(new(round, [.. own]), attempt.Token).ConfigureAwait(false);
            if (reply.Lost is { } lost)
                throw _replicas.All[lost.Replica].Lose($"The shard of {lost} could not be reached by its neighbour: {reply.Why}", null);
            return reply.Norms;
        }).ConfigureAwait(false);
        var norms = replies.SelectMany(reply => reply.Reply.Select(norm => (reply.Place, norm.Group, norm.SquaredNorm))).ToList();
        ReplicaSet.CheckEqual(norms.Select(norm =>
            (norm.Place, norm.Group, BitConverter.DoubleToInt64Bits(norm.SquaredNorm).ToString("x", null))), "sum of gradients");
        return Math.Sqrt(norms.DistinctBy(norm => norm.Group).Sum(norm => norm.SquaredNorm));
    }

    /// <summary>Phase 5. A replica that does not take the step whole is lost; the step is done when one did.</summary>
    private static async Task CommitAsync(IReadOnlyList<Replica> live, CommitRequest request, long step)
    {
        var digests = await Task.WhenAll(live.Select(async replica =>
        {
            try
            {
                var replies = await replica.EachStageAsync(shard => shard.CommitAsync(request, CancellationToken.None),
                    CancellationToken.None).ConfigureAwait(false);
                return replies.SelectMany((reply, stage) => reply.Select(digest => (replica.PlaceOf(stage), digest.Group, digest.Digest)));
            }
            catch (ReplicaLostException)
            {
                return [];
            }
        })).ConfigureAwait(false);
        if (live.All(replica => replica.Lost is not null))
            throw new MendException(MendError.ShardLost,
                $"Every replica was lost while step {step} was taken. {string.Join(' ', live.Select(replica => replica.Lost!.Message))}",
                ReplicaSet.Resume);
        ReplicaSet.CheckEqual(digests.SelectMany(entries => entries), "state");
    }

    public Task<IReadOnlyList<StepFigures>> ValidateAsync(long step, CancellationToken cancellation) =>
        _replicas.RetryOnLiveReplicasAsync<IReadOnlyList<StepFigures>>(async attempt =>
    {
        var figures = new StepFigures[_training.ValSteps];
        var round = await BeginAsync(attempt, RoundKind.Validation, step).ConfigureAwait(false);
        await attempt.EachEditAsync(figures.Length, async (replica, edit) =>
        {
            var tokens = Encode(() => options.ValidationBatch(edit));
            await RecordAsync(replica, round, edit, tokens.Inner, attempt.Token).ConfigureAwait(false);
            await ProposeAsync(replica, new(round, [edit], null), attempt.Token).ConfigureAwait(false);
            (figures[edit], _) = await EvaluateAsync(replica, round, edit, tokens, trains: false, attempt.Token).ConfigureAwait(false);
            await replica.EachStageAsync(shard => shard.ForgetAsync(round, edit, attempt.Token), attempt.Token).ConfigureAwait(false);
        }).ConfigureAwait(false);
        await attempt.EachShardAsync((_, shard) => shard.EndAsync(round, attempt.Token)).ConfigureAwait(false);
        return figures;
    }, cancellation);

    /// <summary>Opens replicas that are lost, and gives the state to those that are there.</summary>
    /// <param name="wait">
    /// Until each has been opened or has failed; otherwise those that are not ready are looked after again before the next step.
    /// </param>
    private async Task RejoinReplicasAsync(long step, bool wait, CancellationToken cancellation)
    {
        var collected = wait; // at the start the copy is the state
        foreach (var replica in _replicas.All.Where(replica => replica.Lost is not null))
            replica.Opening ??= OpenAsync(replica);
        foreach (var replica in _replicas.All)
        {
            if (replica.Opening is not { } opening || !wait && !opening.IsCompleted)
                continue;
            replica.Opening = null;
            try
            {
                replica.Opened(await opening.ConfigureAwait(false));
                if (!collected)
                    await CollectAsync(cancellation).ConfigureAwait(false);
                collected = true;
                await new StateTransfer(state).DistributeAsync(replica, step, cancellation).ConfigureAwait(false);
                replica.Rejoin();
                options.Logger.ReplicaJoined(replica.Index, step);
            }
            catch (ReplicaLostException)
            {
                // Not yet.
            }
        }

        async Task<IReadOnlyList<TrainingShardStatus>> OpenAsync(Replica replica)
        {
            var setup = new TrainingSetup(_training, replica.Stages, options.BFloat16OnWire);
            return await replica.EachStageAsync(shard => shard.OpenAsync(setup, cancellation), cancellation).ConfigureAwait(false);
        }
    }

    public Task CollectAsync(CancellationToken cancellation) =>
        _replicas.RetryOnLiveReplicasAsync(new StateTransfer(state).CollectAsync, cancellation);

    /// <summary>Without a living replica the last checkpoint stays.</summary>
    public async Task<bool> TryCollectAsync()
    {
        if (_replicas.Live.Count == 0)
            return false;
        using var timeout = new CancellationTokenSource(CheckpointTimeout, options.Time);
        try
        {
            await CollectAsync(timeout.Token).ConfigureAwait(false);
            return true;
        }
        catch (Exception e) when (e is MendException { Error: MendError.ShardLost } or OperationCanceledException)
        {
            options.Logger.CheckpointNotKept(e);
            return false;
        }
    }

    /// <summary>Lets go of what an attempt that was stopped left behind.</summary>
    public async ValueTask DisposeAsync()
    {
        foreach (var replica in _replicas.Live)
            try
            {
                await replica.EachStageAsync(shard => shard.EndAsync(_rounds), CancellationToken.None).ConfigureAwait(false);
            }
            catch (Exception e) // whatever it was: the run is over, and a lost shard has lost its round too
            {
                options.Logger.RoundNotEnded(replica.Index, e);
            }
        state.Dispose();
    }

    private static TrainingExample Encode(Func<EditBatch> make)
    {
        using var scope = NewDisposeScope();
        var batch = make();
        return new(StagePasses.Encode(batch.Inner), StagePasses.Encode(batch.Outer), StagePasses.Encode(batch.Locality));
    }

    private static StepFigures NotFinite { get; } =
        new(double.NaN, double.NaN, double.NaN, double.NaN, double.NaN, double.NaN, double.NaN, double.NaN, double.NaN, 0);

    private sealed record RecordedEdit(IReadOnlyList<RowStatistics> Rows, bool IsFinite);
}
