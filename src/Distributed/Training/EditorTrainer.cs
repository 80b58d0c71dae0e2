using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Training;

/// <summary>What a run over replicas is made from.</summary>
public sealed record EditorTrainerOptions
{
    /// <summary>As on one machine. A step's gradient is that of <see cref="EditorTrainingOptions.AccumulateBs"/> edits, whatever the layout.</summary>
    public required EditorTrainingOptions Training { get; init; }

    /// <summary>The weights that the editor changes, in configuration order.</summary>
    public required IReadOnlyList<EditableWeight> Weights { get; init; }

    /// <summary>The edit of an iteration.</summary>
    public required Func<long, EditBatch> TrainingBatch { get; init; }

    /// <summary>The i-th edit of every validation.</summary>
    public required Func<int, EditBatch> ValidationBatch { get; init; }

    /// <summary>Where configuration, metrics, checkpoint and the best editor go.</summary>
    public required RunFolder Run { get; init; }

    /// <summary>Gradients travel rounded to 16 bits: half the bytes, and a noise below that of the edits.</summary>
    public bool BFloat16OnWire { get; init; }

    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>A run on data for question answering.</summary>
    /// <param name="model">A Hugging Face directory.</param>
    /// <exception cref="MendException">The run is not one that replicas share.</exception>
    public static EditorTrainerOptions Of(string model, EditorData data, string run) => new()
    {
        Training = data.Options.Algorithm != EditorAlgorithm.Mend
            ? throw new MendException(MendError.InvalidOption, $"{data.Options.Algorithm} is trained on one machine: only the steps of MEND are divided.", "Leave replicas and stages at 1, or train MEND.")
            : data.Options.Edits > 1
            ? throw new MendException(MendError.InvalidOption, $"{data.Options.Edits} edits an iteration are trained on one machine.", "Leave replicas and stages at 1, or edits.")
            : data.Options.Mend.Reference
            ? throw new MendException(MendError.InvalidOption, "The quirks of the published code (reference) were asked for.", "They are of training on one machine, edit by edit.")
            : data.Options,
        Weights = EditorTraining.EditableWeights(ModelFamily.FromDirectory(model), data.Options.Editable),
        TrainingBatch = data.Training,
        ValidationBatch = data.Validation,
        Run = new(run, new(Convert.ToHexStringLower(ModelFingerprint.Of(model)), data.Digest)),
    };
}

/// <summary>
/// Trains an editor on R replicas of a model, each of S stages: Algorithm 1 of the paper, one optimiser step at a time. The edits of a step are
/// divided among the replicas; within a replica as many are under way as it has stages, so that none of them waits.
///
/// 1 Record. Each edit goes up the stages and its gradient down to the lowest editable layer; every stage keeps its factors (u, delta). The rows
///   of all edits enter the statistics here, edit by edit and weight by weight in their order, and each shard is sent the result. So statistics
///   are the same bits everywhere, and the same for every layout.
/// 2 Propose and evaluate. Each stage turns its factors into updates (uTilde, deltaTilde, alpha), which for the losses are leaves. The edited
///   model goes up with a rephrase, both models with unrelated examples; the gradient comes down, and every stage keeps dL/d(uTilde, deltaTilde,
///   alpha) of its weights.
/// 3 Gradient. One pass of the editor networks over the rows of all edits of a shard takes these to phi.
/// 4 Reduce. The editor of a shape belongs to every shard that has a weight of it, in all replicas; its owners add their gradients around
///   a ring (<see cref="RingAllReduce"/>). alpha belongs to all that have any.
/// 5 Commit. The norm of the whole gradient is known now, and every shard takes the same step of Adam. Digests prove that they are still equal.
///
/// The step's gradient is a mean over its edits, so it does not depend on who computed which; what differs between layouts is the rounding of sums.
///
/// What holds when a shard is lost (any call to it fails, or its neighbour in a ring cannot reach it): its whole replica is.
/// - before the commit: nothing happened. The shards keep everything of a step under a round; the others begin the same step again under a new
///   one, over the same edits. No edit is lost or counted twice.
/// - in the commit: the step happened if one replica took it whole. If none did, the run ends with <see cref="MendError.ShardLost"/> and goes on
///   from its last checkpoint.
/// - it comes back: between two steps it is given the whole state by living owners, and takes part again.
/// A gradient that is not finite is refused: of one edit, and the step goes on without it; of the whole, and the step is passed over.
///
/// The trainer has a copy of the whole editor, for checkpoints and to carry state; it computes nothing on it.
/// </summary>
/// <param name="replicas">Of each replica a shard for every stage, in order.</param>
public sealed class EditorTrainer(IReadOnlyList<IReadOnlyList<ITrainingShard>> replicas, EditorTrainerOptions options) : IEditorTrainer
{
    /// <summary>Elements of a tensor of the state that travel at once: a MiB.</summary>
    private const int SliceElements = 1 << 18;

    /// <summary>For the last checkpoint of a run that is cancelled; its process may be ending.</summary>
    private static readonly TimeSpan KeepPatience = TimeSpan.FromSeconds(30);

    private const string GoOn = "Start the run again: it goes on from its last checkpoint.";

    private readonly List<Replica> _replicas = [.. replicas.Select((shards, index) => new Replica(index, shards))];
    private readonly EditorTrainingOptions _training = options.Training;

    /// <summary>Starts at the clock: shards may still hold rounds of a trainer that died, and its numbers must not come again.</summary>
    private long _rounds = options.Time.GetUtcNow().UtcTicks;

    public async Task<TrainingResult> TrainAsync(IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        _training.Validated();
        var (state, course) = Start();
        using var _ = state;
        var window = _training.AccumulateBs;
        long refused = 0;
        foreach (var replica in _replicas)
            replica.Lost = new MendException(MendError.ShardLost, $"Replica {replica.Index} has not been opened.", "");
        var iteration = course.Start;
        try
        {
            await WelcomeAsync(state, iteration / window, wait: true, cancellation).ConfigureAwait(false);
            for (; ; iteration += window)
            {
                var step = iteration / window;
                if (course.ValidatesAt(iteration))
                {
                    var validation = await ValidateAsync(iteration, step, cancellation).ConfigureAwait(false);
                    await CollectAsync(state, cancellation).ConfigureAwait(false);
                    if (course.Take(validation))
                        return course.End(iteration, "early stopping");
                }
                if (course.IsLast(iteration))
                    return course.End(iteration, "max_iters");
                await WelcomeAsync(state, step, wait: false, cancellation).ConfigureAwait(false);

                var result = await StepAsync(state, step, course.RateAt(iteration + window - 1), cancellation).ConfigureAwait(false);
                refused += result.Refused;
                for (var i = 0; i < window; i++)
                    course.Take(iteration + i + 1, result.Figures[i], i == window - 1 ? result.Norm : null, refused);
                progress?.Report(new(iteration + window, _training.MaxIters, result.Figures.Average(figures => figures.Total), course.BestValidation, Live.Count));
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            await KeepAsync(state, course, iteration).ConfigureAwait(false);
            return course.End(iteration, "cancelled");
        }
        finally
        {
            await EndRoundAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Writes a checkpoint of what the shards have; without a living replica the last one stays.</summary>
    private async Task KeepAsync(EditorState state, EditorRun course, long iteration)
    {
        if (Live.Count == 0)
            return;
        using var patience = new CancellationTokenSource(KeepPatience, options.Time);
        try
        {
            await CollectAsync(state, patience.Token).ConfigureAwait(false);
            course.Keep(iteration);
        }
        catch (Exception e) when (e is MendException { Error: MendError.ShardLost } or OperationCanceledException)
        {
            // It was the last.
        }
    }

    private (EditorState State, EditorRun Course) Start()
    {
        options.Run.Check(_training);
        using var scope = NewDisposeScope();
        using var checkpoint = EditorCheckpoint.TryOpen(options.Run.Checkpoint);
        var state = new EditorState(checkpoint?.Editor() ?? new Mend(_training.Mend, options.Weights, _training.Seed), _training);
        return (state, new(_training, options.Run, state.Mend, state.Adam, state.Average, checkpoint));
    }

    private List<Replica> Live => [.. _replicas.Where(replica => replica.Lost is null)];

    /// <summary>Repeats what a lost replica made incomplete with those that are left.</summary>
    private async Task<T> WithTheLivingAsync<T>(Func<IReadOnlyList<Replica>, CancellationTokenSource, Task<T>> attempt, CancellationToken cancellation)
    {
        while (true)
        {
            var live = Live;
            if (live.Count == 0)
                throw new MendException(MendError.ShardLost, $"No replica is left. {string.Join(' ', _replicas.Select(replica => replica.Lost!.Message))}", GoOn);
            using var attempted = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            try
            {
                return await attempt(live, attempted).ConfigureAwait(false);
            }
            catch (ReplicaLostException)
            {
                // It is marked; the others try again.
            }
        }
    }

    private Task<StepResult> StepAsync(EditorState state, long step, double rate, CancellationToken cancellation) => WithTheLivingAsync(async (live, attempt) =>
    {
        var edits = Enumerable.Range(0, _training.AccumulateBs).Select(i => Encode(() => options.TrainingBatch(step * _training.AccumulateBs + i))).ToList();
        var round = await BeginAsync(live, RoundKind.Step, step, attempt).ConfigureAwait(false);

        var recorded = new Recorded?[edits.Count];
        await EachEditAsync(live, edits.Count, async (replica, edit) => recorded[edit] = await RecordAsync(replica, round, edit, edits[edit].Inner, attempt.Token).ConfigureAwait(false), attempt)
            .ConfigureAwait(false);
        var accepted = Enumerable.Range(0, edits.Count).Where(edit => recorded[edit]!.IsFinite).ToHashSet();
        var statistics = Merge(state.Mend, [.. accepted.Order().Select(edit => recorded[edit]!.Rows)]);

        var figures = new StepFigures[edits.Count];
        var finite = new bool[edits.Count];
        Array.Fill(figures, NotFinite);
        await EachShardAsync(live, (replica, shard) => shard.ProposeAsync(new(round, [.. EditsOf(live, replica, edits.Count).Where(accepted.Contains)], statistics), attempt.Token), attempt).ConfigureAwait(false);
        await EachEditAsync(live, edits.Count, async (replica, edit) =>
        {
            if (accepted.Contains(edit))
                (figures[edit], finite[edit]) = await EvaluateAsync(replica, round, edit, edits[edit], true, attempt.Token).ConfigureAwait(false);
        }, attempt).ConfigureAwait(false);
        accepted.RemoveWhere(edit => !finite[edit]);

        var gradients = await EachShardAsync(live, (replica, shard) => shard.GradientAsync(
            new(round, [.. EditsOf(live, replica, edits.Count).Where(accepted.Contains)], 1.0 / edits.Count), attempt.Token), attempt).ConfigureAwait(false);
        double? norm = null;
        if (gradients.All(gradient => gradient.Reply))
            norm = await ReduceAsync(live, round, attempt).ConfigureAwait(false);
        var taken = norm is { } found && double.IsFinite(found);
        double? scale = !taken ? null : norm > _training.GradClip ? _training.GradClip / (norm.Value + 1e-6) : 1;

        attempt.Token.ThrowIfCancellationRequested(); // from here on nothing is cancelled
        await CommitAsync(live, new(round, scale, rate), step).ConfigureAwait(false);
        foreach (var shape in state.Mend.Shapes)
            StatisticsOnWire.Set(shape, statistics.First(entry => entry.Name == shape.Key));
        return new StepResult(figures, norm, taken ? edits.Count - accepted.Count : edits.Count);
    }, cancellation);

    private Task<EditorValidation> ValidateAsync(long iteration, long step, CancellationToken cancellation) => WithTheLivingAsync(async (live, attempt) =>
    {
        var figures = new StepFigures[iteration > 0 ? _training.ValSteps : 0]; // statistics exist from the first step on
        var round = await BeginAsync(live, RoundKind.Validation, step, attempt).ConfigureAwait(false);
        await EachEditAsync(live, figures.Length, async (replica, edit) =>
        {
            var tokens = Encode(() => options.ValidationBatch(edit));
            await RecordAsync(replica, round, edit, tokens.Inner, attempt.Token).ConfigureAwait(false);
            await Task.WhenAll(replica.Shards.Select((_, stage) => CallAsync(replica, stage, shard => shard.ProposeAsync(new(round, [edit], null), attempt.Token), attempt.Token))).ConfigureAwait(false);
            (figures[edit], _) = await EvaluateAsync(replica, round, edit, tokens, false, attempt.Token).ConfigureAwait(false);
            await Task.WhenAll(replica.Shards.Select((_, stage) => CallAsync(replica, stage, shard => shard.ForgetAsync(round, edit, attempt.Token), attempt.Token))).ConfigureAwait(false);
        }, attempt).ConfigureAwait(false);
        await EachShardAsync(live, (_, shard) => shard.EndAsync(round, attempt.Token), attempt).ConfigureAwait(false);
        return EditorValidation.Of(iteration, figures);
    }, cancellation);

    private async Task<long> BeginAsync(IReadOnlyList<Replica> live, RoundKind kind, long step, CancellationTokenSource attempt)
    {
        var round = new TrainingRound(++_rounds, kind, step);
        await EachShardAsync(live, (_, shard) => shard.BeginAsync(round, attempt.Token), attempt).ConfigureAwait(false);
        return round.Number;
    }

    /// <summary>Phase 1 of one edit.</summary>
    private static async Task<Recorded> RecordAsync(Replica replica, long round, int edit, TokenBatch tokens, CancellationToken cancellation)
    {
        var below = Boundary.None;
        for (var stage = 0; stage < replica.Shards.Count; stage++)
        {
            var request = new RecordRequest(round, edit, tokens, below, stage > replica.LowestEditable);
            below = await CallAsync(replica, stage, shard => shard.RecordAsync(request, cancellation), cancellation).ConfigureAwait(false);
        }
        var above = Boundary.None;
        var rows = new List<RowStatistics>();
        var finite = true;
        for (var stage = replica.Shards.Count - 1; stage >= replica.LowestEditable; stage--)
        {
            var request = new PassBackward(round, edit, [above]);
            var reply = await CallAsync(replica, stage, shard => shard.RecordBackwardAsync(request, cancellation), cancellation).ConfigureAwait(false);
            (above, finite) = (reply.Below, finite && reply.IsFinite);
            rows.AddRange(reply.Rows);
        }
        return new(rows, finite);
    }

    /// <summary>Phase 2 of one edit.</summary>
    private static async Task<(StepFigures Figures, bool IsFinite)> EvaluateAsync(
        Replica replica, long round, int edit, TrainingExample tokens, bool trains, CancellationToken cancellation)
    {
        var reply = new EvaluateReply(Boundary.None, Boundary.None, null, null);
        for (var stage = 0; stage < replica.Shards.Count; stage++)
        {
            var request = new EvaluateRequest(round, edit, tokens.Outer, tokens.Locality, reply.Outer, reply.Before, reply.After, stage > replica.LowestEditable);
            reply = await CallAsync(replica, stage, shard => shard.EvaluateAsync(request, cancellation), cancellation).ConfigureAwait(false);
        }
        var finite = double.IsFinite(reply.Figures!.Total);
        IReadOnlyList<Boundary> above = [Boundary.None, Boundary.None];
        for (var stage = replica.Shards.Count - 1; trains && stage >= replica.LowestEditable; stage--)
        {
            var request = new PassBackward(round, edit, above);
            var down = await CallAsync(replica, stage, shard => shard.EvaluateBackwardAsync(request, cancellation), cancellation).ConfigureAwait(false);
            (above, finite) = (down.Below, finite && down.IsFinite);
        }
        return (reply.Figures, finite);
    }

    /// <summary>The statistics with the rows of a step's edits, shape by shape.</summary>
    private List<RowStatistics> Merge(Mend mend, IReadOnlyList<IReadOnlyList<RowStatistics>> edits)
    {
        var merged = mend.Shapes.Select(shape => StatisticsOnWire.Merge(shape,
            edits.SelectMany(rows => shape.Weights.Select(weight => rows.First(entry => entry.Name == weight))))).ToList();
        return merged.FirstOrDefault(entry => entry.Count < 2 && mend.Options.Norm) is not { } few ? merged
            : throw new EditorException($"after its first {_training.AccumulateBs} edits the statistics of {few.Name} have seen {few.Count} gradient rows and need at least 2");
    }

    /// <summary>Phase 4.</summary>
    /// <returns>The norm of the whole gradient.</returns>
    private async Task<double> ReduceAsync(IReadOnlyList<Replica> live, long round, CancellationTokenSource attempt)
    {
        var rings = live.SelectMany(replica => replica.Groups.SelectMany((groups, stage) => groups.Select(group => (Group: group, Place: new ShardPlace(replica.Index, stage)))))
            .GroupBy(entry => entry.Group).Select(owners => new Ring(owners.Key, [.. owners.Select(owner => owner.Place)])).ToList();
        var replies = await EachShardAsync(live, async (replica, shard) =>
        {
            var place = new ShardPlace(replica.Index, replica.Shards.ToList().IndexOf(shard));
            var reply = await shard.ReduceAsync(new(round, [.. rings.Where(ring => ring.Owners.Contains(place))]), attempt.Token).ConfigureAwait(false);
            if (reply.Lost is { } lost)
                throw Lose(_replicas[lost.Replica], $"The shard of {lost} could not be reached by its neighbour: {reply.Why}", null);
            return reply.Norms;
        }, attempt).ConfigureAwait(false);
        CheckEqual(replies.SelectMany(reply => reply.Reply.Select(norm => (reply.Place, norm.Group, Value: BitConverter.DoubleToInt64Bits(norm.SquaredNorm).ToString("x", null)))), "sum of gradients");
        return Math.Sqrt(replies.SelectMany(reply => reply.Reply).DistinctBy(norm => norm.Group).Sum(norm => norm.SquaredNorm));
    }

    /// <summary>Phase 5. A replica that does not take the step whole is lost; the step is done when one did.</summary>
    private async Task CommitAsync(IReadOnlyList<Replica> live, CommitRequest request, long step)
    {
        var digests = await Task.WhenAll(live.Select(async replica =>
        {
            try
            {
                var replies = await Task.WhenAll(replica.Shards.Select(async (_, stage) => (Place: new ShardPlace(replica.Index, stage),
                    Reply: await CallAsync(replica, stage, shard => shard.CommitAsync(request, CancellationToken.None), CancellationToken.None).ConfigureAwait(false)))).ConfigureAwait(false);
                return replies.SelectMany(reply => reply.Reply.Select(digest => (reply.Place, digest.Group, Value: digest.Digest)));
            }
            catch (ReplicaLostException)
            {
                return [];
            }
        })).ConfigureAwait(false);
        if (live.All(replica => replica.Lost is not null))
            throw new MendException(MendError.ShardLost, $"Every replica was lost while step {step} was taken. {string.Join(' ', live.Select(replica => replica.Lost!.Message))}", GoOn);
        CheckEqual(digests.SelectMany(entries => entries), "state");
    }

    private static void CheckEqual(IEnumerable<(ShardPlace Place, string Group, string Value)> entries, string what)
    {
        foreach (var owners in entries.GroupBy(entry => entry.Group))
            if (owners.FirstOrDefault(owner => owner.Value != owners.First().Value) is { Value: not null } other)
                throw new MendException(MendError.ReplicasDiffer,
                    $"The {what} of {owners.Key} is {other.Value} at the shard of {other.Place} and {owners.First().Value} at the shard of {owners.First().Place}.",
                    "One of the two machines computes wrongly. Start the run again without it: it goes on from its last checkpoint.");
    }

    /// <summary>Opens replicas that are lost, and gives the state to those that are there.</summary>
    /// <param name="wait">Until each has been opened or has failed; otherwise those that are not ready are looked after again before the next step.</param>
    private async Task WelcomeAsync(EditorState state, long step, bool wait, CancellationToken cancellation)
    {
        var collected = wait; // at the start the copy is the state
        foreach (var replica in _replicas.Where(replica => replica.Lost is not null))
            replica.Opening ??= OpenAsync(replica, cancellation);
        foreach (var replica in _replicas)
        {
            if (replica.Opening is not { } opening || !wait && !opening.IsCompleted)
                continue;
            replica.Opening = null;
            try
            {
                (replica.Groups, replica.LowestEditable) = await opening.ConfigureAwait(false);
                if (!collected)
                    await CollectAsync(state, cancellation).ConfigureAwait(false);
                collected = true;
                await DistributeAsync(state, replica, step, cancellation).ConfigureAwait(false);
                replica.Lost = null;
            }
            catch (ReplicaLostException)
            {
                // Not yet.
            }
        }
    }

    private async Task<(IReadOnlyList<IReadOnlyList<string>> Groups, int LowestEditable)> OpenAsync(Replica replica, CancellationToken cancellation)
    {
        var setup = new TrainingSetup(JsonSerializer.Serialize(_training), replica.Shards.Count, options.BFloat16OnWire);
        var status = await Task.WhenAll(replica.Shards.Select((_, stage) => CallAsync(replica, stage, shard => shard.OpenAsync(setup, cancellation), cancellation))).ConfigureAwait(false);
        return ([.. status.Select(shard => shard.Groups)], status.ToList().FindIndex(shard => shard.EditableWeights.Count > 0));
    }

    /// <summary>Brings the copy up to date from living owners. Statistics it has.</summary>
    private Task CollectAsync(EditorState state, CancellationToken cancellation) => WithTheLivingAsync(async (live, attempt) =>
    {
        foreach (var group in state.Parameters.Keys)
        {
            var (replica, stage) = live.SelectMany(replica => replica.Groups.Select((groups, stage) => (Groups: groups, Replica: replica, Stage: stage)))
                .Where(owner => owner.Groups.Contains(group)).Select(owner => (owner.Replica, owner.Stage)).First();
            foreach (var (name, value) in state.TensorsOf(group))
                foreach (var slice in Slices(name, value))
                    Write(value, slice, await CallAsync(replica, stage, shard => shard.ReadAsync(slice, attempt.Token), attempt.Token).ConfigureAwait(false));
            var mark = await CallAsync(replica, stage, shard => shard.MarkAsync(attempt.Token), attempt.Token).ConfigureAwait(false);
            state.Mark(mark.AdamSteps, mark.AverageSteps);
        }
        return true;
    }, cancellation);

    private static async Task DistributeAsync(EditorState state, Replica replica, long step, CancellationToken cancellation)
    {
        var statistics = state.Mend.Shapes.Select(shape => StatisticsOnWire.Encode(shape.Key, shape.U, shape.Delta)).ToList();
        var mark = new StateMark(step, state.Adam.Steps, state.Average?.Steps ?? 0, statistics);
        await Task.WhenAll(replica.Shards.Select(async (_, stage) =>
        {
            foreach (var group in replica.Groups[stage])
                foreach (var (name, value) in state.TensorsOf(group))
                    foreach (var slice in Slices(name, value))
                    {
                        var values = Read(value, slice);
                        await CallAsync(replica, stage, async shard => { await shard.WriteAsync(slice, values, cancellation).ConfigureAwait(false); return true; }, cancellation).ConfigureAwait(false);
                    }
            await CallAsync(replica, stage, shard => shard.RestoreAsync(mark, cancellation), cancellation).ConfigureAwait(false);
        })).ConfigureAwait(false);
    }

    private static IEnumerable<StateSlice> Slices(string name, Tensor value)
    {
        var length = value.numel();
        for (long offset = 0; offset < length; offset += SliceElements)
            yield return new(name, offset, (int)Math.Min(SliceElements, length - offset));
    }

    private static WireTensor Read(Tensor value, StateSlice slice)
    {
        using var scope = NewDisposeScope();
        return WireTensorCodec.Encode(value.detach().reshape(-1).narrow(0, slice.Offset, slice.Count));
    }

    private static void Write(Tensor value, StateSlice slice, WireTensor values)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        value.detach().reshape(-1).narrow(0, slice.Offset, slice.Count).copy_(WireTensorCodec.Decode(values));
    }

    private static TrainingExample Encode(Func<EditBatch> make)
    {
        using var scope = NewDisposeScope();
        var batch = make();
        return new(Encode(batch.Inner), Encode(batch.Outer), Encode(batch.Locality));
    }

    private static TokenBatch Encode(LabelledInput batch) => new(WireTensorCodec.Encode(batch.Input.InputIds), WireTensorCodec.Encode(batch.Input.AttentionMask),
        WireTensorCodec.EncodeOrNull(batch.Input.DecoderInputIds), WireTensorCodec.EncodeOrNull(batch.Input.DecoderAttentionMask), WireTensorCodec.Encode(batch.Labels));

    /// <summary>The edits of a replica: a contiguous part, as even as can be.</summary>
    private static IEnumerable<int> EditsOf(IReadOnlyList<Replica> live, Replica replica, int edits)
    {
        var place = live.ToList().IndexOf(replica);
        var (first, end) = (place * edits / live.Count, (place + 1) * edits / live.Count);
        return Enumerable.Range(first, end - first);
    }

    /// <summary>Each edit on its replica, as many at once as the replica has stages.</summary>
    private static Task EachEditAsync(IReadOnlyList<Replica> live, int edits, Func<Replica, int, Task> work, CancellationTokenSource attempt) =>
        AllAsync(live.Select(async replica =>
        {
            using var places = new SemaphoreSlim(replica.Shards.Count);
            await AllAsync(EditsOf(live, replica, edits).Select(async edit =>
            {
                await places.WaitAsync(attempt.Token).ConfigureAwait(false);
                try
                {
                    await work(replica, edit).ConfigureAwait(false);
                }
                finally
                {
                    places.Release();
                }
            }), attempt).ConfigureAwait(false);
        }), attempt);

    private static async Task<IReadOnlyList<(ShardPlace Place, T Reply)>> EachShardAsync<T>(
        IReadOnlyList<Replica> live, Func<Replica, ITrainingShard, Task<T>> call, CancellationTokenSource attempt)
    {
        List<Task<(ShardPlace, T)>> calls = [.. live.SelectMany(replica => replica.Shards.Select(async (_, stage) =>
            (new ShardPlace(replica.Index, stage), await CallAsync(replica, stage, shard => call(replica, shard), attempt.Token).ConfigureAwait(false))))];
        await AllAsync(calls, attempt).ConfigureAwait(false);
        return await Task.WhenAll(calls).ConfigureAwait(false);
    }

    private static Task EachShardAsync(IReadOnlyList<Replica> live, Func<Replica, ITrainingShard, Task> call, CancellationTokenSource attempt) =>
        EachShardAsync(live, async (replica, shard) =>
        {
            await call(replica, shard).ConfigureAwait(false);
            return true;
        }, attempt);

    /// <summary>Waits for all, also when one fails: nothing of an attempt may still be under way when the next begins. The first failure stops the others.</summary>
    private static async Task AllAsync(IEnumerable<Task> tasks, CancellationTokenSource attempt)
    {
        var failures = new ConcurrentQueue<Exception>();
        await Task.WhenAll(tasks.Select(async task =>
        {
            try
            {
                await task.ConfigureAwait(false);
            }
            catch (Exception e)
            {
                failures.Enqueue(e);
                await attempt.CancelAsync().ConfigureAwait(false);
            }
        })).ConfigureAwait(false);
        // What was stopped because of another's failure is not the cause.
        if ((failures.FirstOrDefault(failure => failure is not OperationCanceledException) ?? failures.FirstOrDefault()) is { } cause)
            ExceptionDispatchInfo.Throw(cause);
    }

    private static Task CallAsync(Replica replica, int stage, Func<ITrainingShard, Task> call, CancellationToken cancellation) => CallAsync(replica, stage, async shard =>
    {
        await call(shard).ConfigureAwait(false);
        return true;
    }, cancellation);

    /// <summary>Calls a shard. However it fails, its replica is lost; a refusal that another shard would give too is passed on.</summary>
    private static async Task<T> CallAsync<T>(Replica replica, int stage, Func<ITrainingShard, Task<T>> call, CancellationToken cancellation)
    {
        try
        {
            return await call(replica.Shards[stage]).ConfigureAwait(false);
        }
        catch (Exception e) when (e is ReplicaLostException or MendException { Error: not MendError.ShardLost } || (e is OperationCanceledException && cancellation.IsCancellationRequested))
        {
            throw;
        }
        catch (Exception e)
        {
            throw Lose(replica, $"The shard of {new ShardPlace(replica.Index, stage)} failed: {e.Message}", e);
        }
    }

    private static ReplicaLostException Lose(Replica replica, string why, Exception? inner)
    {
        replica.Lost ??= new MendException(MendError.ShardLost, why, "", inner);
        return new(why, inner);
    }

    /// <summary>Lets go of what an attempt that was stopped left behind.</summary>
    private async Task EndRoundAsync()
    {
        foreach (var shard in Live.SelectMany(replica => replica.Shards))
            try
            {
                await shard.EndAsync(_rounds).ConfigureAwait(false);
            }
            catch (Exception) // whatever it was: the run is over
            {
                // A lost shard has lost its round too.
            }
    }

    private static StepFigures NotFinite { get; } = new(double.NaN, double.NaN, double.NaN, double.NaN, double.NaN, double.NaN, double.NaN, double.NaN, double.NaN, 0);

    private sealed record Recorded(IReadOnlyList<RowStatistics> Rows, bool IsFinite);

    /// <param name="Norm">Of the gradient before it was scaled; null when it was not finite.</param>
    /// <param name="Refused">Edits that the step was taken without.</param>
    private sealed record StepResult(IReadOnlyList<StepFigures> Figures, double? Norm, int Refused);

    private sealed class ReplicaLostException(string message, Exception? inner) : Exception(message, inner);

    private sealed class Replica(int index, IReadOnlyList<ITrainingShard> shards)
    {
        public int Index { get; } = index;

        public IReadOnlyList<ITrainingShard> Shards { get; } = shards;

        /// <summary>Why it takes no part; null: it does.</summary>
        public MendException? Lost { get; set; }

        /// <summary>An attempt to bring it back.</summary>
        public Task<(IReadOnlyList<IReadOnlyList<string>> Groups, int LowestEditable)>? Opening { get; set; }

        /// <summary>Of each stage: the groups whose parameters it has.</summary>
        public IReadOnlyList<IReadOnlyList<string>> Groups { get; set; } = [];

        /// <summary>The lowest stage with editable weights.</summary>
        public int LowestEditable { get; set; }
    }
}
