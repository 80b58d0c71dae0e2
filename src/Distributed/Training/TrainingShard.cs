using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Editing;
using MendCluster.Engine;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Training;

/// <summary>What a training shard is made from; the rest comes with the run (<see cref="TrainingSetup"/>).</summary>
/// <param name="ModelDirectory">A Hugging Face directory; only the stage's own tensors are read.</param>
/// <param name="DType">Of the model's weights in memory.</param>
/// <param name="Device">Where model and editor are (<see cref="Devices.Of"/>).</param>
public sealed record TrainingShardOptions(string ModelDirectory, ShardPlace Place, DType DType = DType.Float32, string Device = "cpu");

/// <summary>
/// One stage of one replica in training. What lasts from step to step is the stage's part of the editor with its optimiser; it changes in
/// <see cref="CommitAsync"/> alone, and with the statistics, which the trainer sends whole with every step. All else belongs to a round:
/// the
/// factors, updates and gradients of its edits, the sum of the gradients, and the mail of the ring.
///
/// Gradients reach phi without a tensor of a weight's size: the losses give dL/duTilde and dL/ddeltaTilde, row by row, and one pass of the
/// editor networks over the rows of all edits takes them from there to phi.
///
/// All tensors belong to the compute thread. Methods that end in _OnComputeThread run there and nowhere else; the ring
/// (<see cref="RingReduction"/>) works on arrays, beside it.
/// </summary>
/// <param name="peers">Finds the other shards of the run, to send to.</param>
public sealed class TrainingShard(TrainingShardOptions options, Func<ShardPlace, ITrainingShard> peers) : ITrainingShard
{
    private readonly ComputeThread _thread = new($"training shard {options.Place}");
    private TrainingSetup? _setup;
    private EditorTrainingOptions _training = new();
    private Stage? _stage;
    private StagePasses? _passes; // through the stage
    private EditorState? _editor; // null in a stage without editable weights
    private long? _step;          // the one that comes next; null until there is a state
    private volatile Round? _round;

    public Task<TrainingShardStatus> OpenAsync(TrainingSetup setup, CancellationToken cancellation = default) =>
        InScopeAsync(() => Open_OnComputeThread(setup), cancellation);

    public Task<WireTensor> ReadAsync(StateSlice slice, CancellationToken cancellation = default) => RunAsync(() =>
    {
        LeaveRound();
        return WireTensorCodec.Encode(Part(slice));
    }, cancellation);

    public Task WriteAsync(StateSlice slice, WireTensor values, CancellationToken cancellation = default) => RunAsync(() =>
    {
        LeaveRound();
        _step = null; // until the state is whole
        using var _ = no_grad();
        return Part(slice).copy_(WireTensorCodec.Decode(values)).numel();
    }, cancellation);

    public Task RestoreAsync(OptimizerProgress mark, CancellationToken cancellation = default) => RunAsync(() =>
    {
        LeaveRound();
        _editor?.Mark(mark.AdamSteps, mark.AverageSteps);
        SetStatistics(mark.Statistics);
        _step = mark.Step;
        return true;
    }, cancellation);

    public Task<OptimizerProgress> MarkAsync(CancellationToken cancellation = default) => RunAsync(() => new OptimizerProgress(
        _step ?? throw Lost("has no state"), _editor?.Adam.Steps ?? 0, _editor?.Average?.Steps ?? 0, []), cancellation);

    public Task BeginAsync(TrainingRound round, CancellationToken cancellation = default) =>
        RunAsync(() => Begin_OnComputeThread(round), cancellation);

    public Task<Boundary> RecordAsync(RecordRequest request, CancellationToken cancellation = default) =>
        RunAsync(() => Record_OnComputeThread(request), cancellation);

    public Task<RecordedReply> RecordBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
        RunAsync(() => RecordBackward_OnComputeThread(request), cancellation);

    public Task ProposeAsync(ProposeRequest request, CancellationToken cancellation = default) =>
        RunAsync(() => Propose_OnComputeThread(request), cancellation);

    public Task<EvaluateReply> EvaluateAsync(EvaluateRequest request, CancellationToken cancellation = default) =>
        RunAsync(() => Evaluate_OnComputeThread(request), cancellation);

    public Task<EvaluatedReply> EvaluateBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
        RunAsync(() => EvaluateBackward_OnComputeThread(request), cancellation);

    public Task<bool> GradientAsync(GradientRequest request, CancellationToken cancellation = default) =>
        RunAsync(() => Gradient_OnComputeThread(request), cancellation);

    public async Task<ReduceReply> ReduceAsync(ReduceRequest request, CancellationToken cancellation = default)
    {
        var round = RoundOf(request.Round);
        return await new RingReduction(options.Place, round, _setup!.BFloat16OnWire, peers).RunAsync(request.Rings, cancellation)
            .ConfigureAwait(false);
    }

    public Task PutAsync(RingChunk chunk, CancellationToken cancellation = default)
    {
        RoundOf(chunk.Round).Mail.Put(chunk);
        return Task.CompletedTask;
    }

    public Task<IReadOnlyList<GroupDigest>> CommitAsync(CommitRequest request, CancellationToken cancellation = default) =>
        RunAsync<IReadOnlyList<GroupDigest>>(() => Commit_OnComputeThread(request), cancellation);

    public Task ForgetAsync(long round, int edit, CancellationToken cancellation = default) =>
        RunAsync(() => RoundOf(round).Forget(edit), cancellation);

    public Task EndAsync(long round, CancellationToken cancellation = default) => RunAsync(() =>
    {
        if (_round?.Number == round)
            LeaveRound();
        return true;
    }, cancellation);

    public async ValueTask DisposeAsync()
    {
        try
        {
            await _thread.RunAsync(() =>
            {
                Close();
                return true;
            }).ConfigureAwait(false);
        }
        catch (ObjectDisposedException)
        {
            return; // the second time
        }
        _thread.Dispose();
    }

    private Task<T> RunAsync<T>(Func<T> work, CancellationToken cancellation) => InScopeAsync(() =>
    {
        try
        {
            return work();
        }
        catch (MendException e) when (e.Error == MendError.ModelUnusable)
        {
            throw new MendException(e.Error, e.What,
                "Correct the model's files, the settings or the data; every shard would refuse it.", e);
        }
    }, cancellation);

    private Task<T> InScopeAsync<T>(Func<T> work, CancellationToken cancellation) => _thread.RunAsync(() =>
    {
        using var scope = NewDisposeScope();
        return work();
    }, cancellation);

    private TrainingShardStatus Open_OnComputeThread(TrainingSetup setup)
    {
        if (_setup != setup)
        {
            Close();
            try
            {
                Load(setup);
            }
            catch (Exception e) when (e is MendException { Error: MendError.ModelUnusable } or IOException)
            {
                Close();
                throw e.Because(MendError.ModelUnusable, $"The training shard of {options.Place} could not be loaded",
                    "Correct the files or the run's settings.");
            }
        }
        return new([.. _stage!.EditableOrder], _editor is null ? [] : [.. _editor.Parameters.Keys]);
    }

    private void Load(TrainingSetup setup)
    {
        _training = setup.Options.Validated();
        var family = ModelFamily.FromDirectory(options.ModelDirectory);
        using var files = HuggingFaceDirectory.Open(options.ModelDirectory);
        var range = StagePlan.Of(family,
            new() { Stages = setup.Stages, Mend = _training.Mend, Editable = _training.Editable }).Ranges[options.Place.Stage];
        var weights = EditorTraining.EditableWeights(family, _training.Editable);
        var device = Devices.Of(options.Device);
        _stage = Stage.Load(family, range, new CheckpointWeights(files, options.DType.InMemory(device), device),
            [.. weights.Select(weight => weight.Name)]);
        _passes = new(_stage);
        if (_stage.HasEditable)
            _editor = new(new Mend(_training.Mend, weights, _training.Seed, [.. _stage.Editable.Keys], device), _training);
        _setup = setup;
    }

    private void Close()
    {
        LeaveRound();
        _editor?.Dispose();
        _stage?.Dispose();
        (_editor, _stage, _passes, _setup, _step) = (null, null, null, null, null);
    }

    private bool Begin_OnComputeThread(TrainingRound round)
    {
        LeaveRound();
        if (_step != round.Step)
            throw Lost(_step is null ? "has no state" : $"is at step {_step}, and step {round.Step} was to begin");
        if (round.Kind == RoundKind.Validation)
            _editor?.Average?.Swap();
        _round = new(round);
        return true;
    }

    /// <summary>Forgets the round, and puts the parameters back that a validation exchanged.</summary>
    private void LeaveRound()
    {
        if (_round is not { } round)
            return;
        _round = null;
        if (!round.Trains)
            _editor?.Average?.Swap();
        round.Dispose();
    }

    private Boundary Record_OnComputeThread(RecordRequest request)
    {
        var work = RoundOf(request.Round).Edit(request.Edit);
        var pass = _passes!.Record(request.Tokens, request.Below, request.NeedsInputGradient);
        if (pass.Keeps)
            work.Keep(pass.Graph(), pass.Recording);
        return pass.Loss is null ? StagePasses.Encode(pass.Top) : Boundary.None;
    }

    private RecordedReply RecordBackward_OnComputeThread(PassBackward request)
    {
        var round = RoundOf(request.Round);
        var work = round.Edit(request.Edit);
        var (graph, recording) = work.TakeGraph() ?? throw Lost($"does not have the pass of edit {request.Edit}");
        using (graph)
        {
            var (deltas, below) = graph.Backward(recording!.Outputs, request.Above);
            var factors = recording.Factors([.. deltas]);
            work.Keep(factors);
            return new(below[0], round.Trains ? [.. factors.Select(entry => Statistics(entry.Key, entry.Value))] : [],
                AreFinite(factors.Values.SelectMany(rows => new[] { rows.u, rows.delta })));
        }
    }

    private static RowStatistics Statistics(string weight, GradientFactors factors)
    {
        using var u = new RunningStatistics(factors.u.shape[1], factors.u.device);
        using var delta = new RunningStatistics(factors.delta.shape[1], factors.delta.device);
        u.Add(factors.u);
        delta.Add(factors.delta);
        return RowStatisticsCodec.Encode(weight, u, delta);
    }

    private void SetStatistics(IReadOnlyList<RowStatistics> statistics)
    {
        var byName = statistics.ToDictionary(entry => entry.Name);
        foreach (var shape in _editor?.Mend.Shapes ?? [])
            RowStatisticsCodec.Set(shape, byName[shape.Key]);
    }

    private bool Propose_OnComputeThread(ProposeRequest request)
    {
        var round = RoundOf(request.Round);
        if (request.Statistics is { } statistics)
            SetStatistics(statistics);
        if (_editor is null || request.Edits.Count == 0)
            return true;
        using var _ = no_grad();
        foreach (var work in request.Edits.Select(round.Edit))
        {
            work.KeepNormalised(_editor.Mend.Normalise(work.Factors));
            foreach (var (weight, update) in _editor.Mend.Transform(work.Normalised))
                work.Keep(weight, new LowRankUpdate(Leaf(update.uTilde), Leaf(update.deltaTilde), Leaf(update.alpha)));
        }
        return true;

        Tensor Leaf(Tensor value) => value.KeptCopy().requires_grad_(round.Trains);
    }

    private EvaluateReply Evaluate_OnComputeThread(EvaluateRequest request)
    {
        var round = RoundOf(request.Round);
        var work = round.Edit(request.Edit);
        if (_stage!.EditableOrder.Any(weight => !work.Updates.ContainsKey(weight)))
            throw Lost($"does not have the update of edit {request.Edit}");
        var edits = new WeightUpdates(work.Updates);
        var (needsInput, keeps) =
            (round.Trains && request.NeedsInputGradient, round.Trains && (request.NeedsInputGradient || _stage.HasEditable));

        var below = new EvaluationTrips(_passes!.Decode(request.OuterBelow, needsInput), _passes.Decode(request.BeforeBelow),
            request.AfterBelow is { } after ? _passes.Decode(after, needsInput) : null);
        var pass = TrainingStep.Evaluate(_stage, edits, StagePasses.Labelled(request.Outer), StagePasses.Labelled(request.Locality),
            _training.Loss, below, needsInput, keeps);
        if (keeps)
            work.Keep(new StageGraph([(pass.Below.Outer, pass.Top.Outer), (pass.Below.After!, pass.Top.After!)], pass.Total), null);
        return pass.Figures is { } figures ? new(Boundary.None, Boundary.None, null, figures)
            : new(StagePasses.Encode(pass.Top.Outer), StagePasses.Encode(pass.Top.Before),
                pass.Top.After is { } edited ? StagePasses.Encode(edited) : null, null);
    }

    private EvaluatedReply EvaluateBackward_OnComputeThread(PassBackward request)
    {
        var work = RoundOf(request.Round).Edit(request.Edit);
        var (graph, _) = work.TakeGraph() ?? throw Lost($"does not have the pass of edit {request.Edit}");
        using (graph)
        {
            var (gradients, below) = graph.Backward(work.Leaves, request.Above);
            work.KeepGradients(gradients);
            return new(below, AreFinite(gradients));
        }
    }

    private bool Gradient_OnComputeThread(GradientRequest request)
    {
        var round = RoundOf(request.Round);
        if (_editor is null)
            return true;
        Dictionary<string, Tensor> gradients = [];
        var phi = _editor.Mend.Parameters.ToList();
        var alpha = zeros_like(_editor.Mend.Alpha);
        if (request.Edits.Count > 0)
        {
            var rows = new EditRows(round, request.Edits, _stage!.EditableOrder);
            List<Tensor> outputs = [], seeds = [];
            foreach (var (weight, update) in _editor.Mend.Transform(rows.Factors))
            {
                var own = rows.GradientsOf(weight);
                Add(update.uTilde, [.. own.Select(gradient => gradient.uTilde)]);
                Add(update.deltaTilde, [.. own.Select(gradient => gradient.deltaTilde)]);
                alpha.select(0, _editor.Mend.IndexOf(weight))
                    .Add_(stack([.. own.Select(gradient => gradient.alpha)]).sum().Times(request.Share));
            }
            var found = Derivatives.OrNull(outputs, [.. phi.Select(parameter => parameter.Value)], seeds);
            for (var i = 0; i < phi.Count; i++)
                if (found[i] is { } gradient)
                    gradients.Add(phi[i].Name, gradient);

            void Add(Tensor output, IReadOnlyList<Tensor> parts)
            {
                if (!output.requires_grad) // a side that the networks do not touch
                    return;
                outputs.Add(output);
                seeds.Add(cat([.. parts]).Times(request.Share));
            }
        }
        gradients[EditorState.AlphaGroup] = alpha;
        foreach (var (name, parameters) in _editor.Parameters)
            round.Sums[name] = FlatGradient.Join(parameters, gradients);
        return round.Sums.Values.All(sum => !sum.AsSpan().ContainsAnyExceptInRange(float.MinValue, float.MaxValue));
    }

    private List<GroupDigest> Commit_OnComputeThread(CommitRequest request)
    {
        var round = RoundOf(request.Round);
        if (_editor is not null && request.Scale is { } scale)
        {
            var gradients = _editor.Parameters.SelectMany(entry => FlatGradient.Split(entry.Value, round.Sums[entry.Key], scale))
                .ToDictionary(part => part.Name, part => part.Value);
            _editor.Adam.Step([.. _editor.Adam.Parameters.Select(parameter => gradients[parameter.Name])], request.Rate);
            _editor.Average?.Add();
        }
        _step = round.Step + 1;
        LeaveRound();
        return _editor is null ? [] : [.. _editor.Parameters.Keys.Select(group => new GroupDigest(group, StateDigest.Of(_editor, group)))];
    }

    /// <summary>Elements of a tensor of the state. [count] float32, a view.</summary>
    private Tensor Part(StateSlice slice) =>
        (_editor ?? throw Lost("has no part of the editor"))[slice.Name].detach().reshape(-1).narrow(0, slice.Offset, slice.Count);

    private static bool AreFinite(IEnumerable<Tensor> values) =>
        !Devices.Numbers(values.Select(value => value.isfinite().all().to_type(ScalarType.Float32))).Contains(0);

    private Round RoundOf(long number) => _round is { } round && round.Number == number ? round
        : throw Lost($"does not have round {number}");

    private MendException Lost(string what) =>
        new(MendError.ShardLost, $"The training shard of {options.Place} {what}.", "It was restarted in between; the step is repeated.");
}
