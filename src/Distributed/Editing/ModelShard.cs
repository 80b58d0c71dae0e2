using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Telemetry;
using MendCluster.Engine;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// One pipeline stage with its editor networks: a state machine over the ledger. It takes its calls one at a time and hands each to
/// its parts: the updates in force (<see cref="VersionedUpdates"/>), what an answer or an edit keeps between its calls
/// (<see cref="ShardSession"/>), what edits leave to each other (<see cref="KeptProbes"/>), the trips through the stage
/// (<see cref="StagePasses"/>) and the editor (<see cref="StageEditor"/>).
///
/// A request names its version. A shard that has not got there says <see cref="MendError.VersionBehind"/>, and the coordinator gives it the
/// records that it lacks; a version that has been dropped is <see cref="MendError.VersionGone"/>, and the caller starts anew at a younger
/// one.
///
/// A shard that was moved or started again may have a twin that nobody ended yet. It has the same weights and could only give the same
/// answers, but sessions would be torn between the two; so requests carry the greatest epoch that was seen, and the older twin refuses.
///
/// All tensors belong to the compute thread. Methods that end in _OnComputeThread run there and nowhere else.
/// </summary>
public sealed class ModelShard : IModelShard
{
    private readonly ShardOptions _options;
    private readonly TimeProvider _time;
    private readonly ComputeThread _thread;
    private readonly AnswerQueue _answers;
    private readonly ShardSessions _sessions;
    private readonly KeptProbes _probes = new();
    private ShardState _state = ShardState.Cold;
    private string? _fault;
    private long _epoch;
    private double _loadedFraction;
    private LoadedStage? _loaded; // when it is ready

    public ModelShard(ShardOptions options, TimeProvider time)
    {
        (_options, _time) = (options, time);
        _sessions = new(time);
        _thread = new($"shard {_options.Replica}/{_options.Stage}");
        _answers = new(_thread, _options.MaxBatch, Generate_OnComputeThread);
    }

    /// <summary>How much of the stage is read, from 0 to 1. Asks the compute thread nothing: it is busy with that.</summary>
    public double LoadedFraction => Volatile.Read(ref _loadedFraction);

    public Task<ShardStatus> LoadAsync(CancellationToken cancellation = default) => _thread.RunAsync(Load_OnComputeThread, cancellation);

    public Task<ShardStatus> StatusAsync(CancellationToken cancellation = default) =>
        _thread.RunAsync(Status_OnComputeThread, cancellation);

    public Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => Apply_OnComputeThread(records), cancellation);

    public Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default) =>
        _answers.RunAsync(request, cancellation);

    public Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => Pass(() => Forward_OnComputeThread(request)), cancellation);

    public Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => Pass(() => Backward_OnComputeThread(request)), cancellation);

    public Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => Pass(() => Try_OnComputeThread(request)), cancellation);

    public Task BranchAsync(BranchRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => InScope(() => Branch_OnComputeThread(request)), cancellation);

    public Task BeginFitAsync(BeginFitRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => Pass(() => BeginFit_OnComputeThread(request)), cancellation);

    public Task StepFitAsync(StepFitRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => Pass(() => StepFit_OnComputeThread(request)), cancellation);

    public Task<FitReply> TakeFitAsync(long session, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => Pass(() => TakeFit_OnComputeThread(session)), cancellation);

    public Task EndAsync(long session, CancellationToken cancellation = default) => _answers.EndAsync(session, () =>
    {
        _sessions.End(session);
        _loaded?.Updates.DropOld();
    }, cancellation);

    public async ValueTask DisposeAsync()
    {
        try
        {
            await _thread.RunAsync(() =>
            {
                _sessions.Dispose();
                _probes.Dispose();
                _loaded?.Dispose();
                return true;
            }).ConfigureAwait(false);
        }
        catch (ObjectDisposedException)
        {
            return; // the second time
        }
        _thread.Dispose();
    }

    private T Pass<T>(Func<T> work)
    {
        var start = _time.GetTimestamp();
        try
        {
            return InScope(work);
        }
        finally
        {
            MendMetrics.Computed(_options.Replica, _options.Stage, _time.GetElapsedTime(start));
        }
    }

    private static T InScope<T>(Func<T> work)
    {
        using var scope = NewDisposeScope();
        try
        {
            return work();
        }
        catch (MendException e) when (e.Error == MendError.ModelUnusable)
        {
            throw new MendException(e.Error, e.What, "The request was refused; it would be again.", e);
        }
    }

    /// <summary>The table of moves.</summary>
    private void Move(ShardState to)
    {
        var allowed = (_state, to) is (ShardState.Cold or ShardState.Faulted, ShardState.Loading) or (ShardState.Loading,
            ShardState.Ready or ShardState.Faulted);
        _state = allowed ? to : throw new InvalidOperationException($"a shard cannot go from {_state} to {to}");
    }

    private ShardStatus Load_OnComputeThread()
    {
        if (_state == ShardState.Ready)
            return Status_OnComputeThread();
        Move(ShardState.Loading);
        try
        {
            _loaded = LoadedStage.Read(_options, fraction => Volatile.Write(ref _loadedFraction, fraction));
            (_fault, _epoch) = (null, _time.GetUtcNow().UtcTicks);
            Move(ShardState.Ready);
            return Status_OnComputeThread();
        }
        catch (Exception e)
        {
            Move(ShardState.Faulted);
            _fault = e is MendException { Error: MendError.ModelUnusable } known ? known.What : DeviceMemory.Named(e).Message;
            if (e is MendException { Error: MendError.ModelUnusable } or IOException)
                throw e.Because(MendError.ModelUnusable, $"Stage {_options.Stage} could not be loaded",
                    "Nothing runs on it; correct the files and load again.");
            throw;
        }
    }

    private ShardStatus Status_OnComputeThread()
    {
        if (_loaded is not { Stage: var stage, Updates: var updates })
            return new(_state, ModelVersion.Base, 0, 0, [], 0, _fault, "", _epoch, LoadedFraction);
        var bytes = stage.Weights.Loaded.Values.Sum(weight => weight.Value.numel() * weight.Value.element_size());
        return new(_state, updates.Version, stage.Range.First, stage.Range.End, [.. stage.EditableOrder], bytes, _fault, updates.Checksum,
            _epoch, LoadedFraction);
    }

    private bool Apply_OnComputeThread(IReadOnlyList<LedgerRecord> records)
    {
        var updates = Ready().Updates;
        if (records.Where(record => record.Entry.Version > updates.Version).ToList() is { Count: > 0 } unknown)
            InScope(() =>
            {
                updates.Apply(unknown);
                return true;
            });
        return true;
    }

    private bool Branch_OnComputeThread(BranchRequest request)
    {
        var updates = Ready().Updates;
        var session = SessionOf(request.Session);
        if (!request.Begins && session.Branch is null)
            throw SessionLost(request.Session);
        var version = updates.At(request.Version);
        var before = request.Begins ? null : session.Branch!;
        var kept = (before?.InForce ?? EditsInForce<ActiveEdit>.None).Then(version.InForce, request.Keep);
        var branch = request.Added.Aggregate(kept, updates.Plus);
        session.Keep(updates.Of(branch, version, before ?? version), branch.All.Except(kept.All));
        return true;
    }

    /// <summary>The next tokens of several answers. What goes wrong with one is told to that one.</summary>
    private void Generate_OnComputeThread(IReadOnlyList<AnswerQueue.Waiting> together)
    {
        using var scope = NewDisposeScope(); // of edits that a candidate is put on
        _loaded?.Updates.TrimRoutes();
        var answers = new Dictionary<WaitingAnswer, AnswerQueue.Waiting>();
        foreach (var waiting in together)
            Each([waiting], () => answers.Add(WaitingAnswer(waiting.Request), waiting));
        foreach (var group in AnswerPass.Groups(answers.Keys))
            Each([.. group.Select(answer => answers[answer])], () =>
            {
                MendMetrics.AnsweredTogether(group.Count);
                foreach (var (answer, reply) in Pass(() => AnswerPass.Run(_loaded!, group, _epoch)))
                    answers[answer].Answer(reply);
            });

        static void Each(IReadOnlyList<AnswerQueue.Waiting> concerned, Action work)
        {
            try
            {
                work();
            }
            catch (Exception e)
            {
                foreach (var waiting in concerned)
                    waiting.Fail(e);
            }
        }
    }

    private WaitingAnswer WaitingAnswer(GenerateRequest request)
    {
        var (_, session, edits) = Begin(request.Trip, request.Candidate);
        if (request.Position == 0)
            (session.Cache, session.Sampler) = (null, null); // another answer of the session begins
        else if (session.Cache?.Tokens != request.Position) // keys and values of other tokens would give another answer
            throw SessionLost(request.Trip.Session);
        return new(request, session, edits);
    }

    private ForwardReply Forward_OnComputeThread(ForwardRequest request)
    {
        var (loaded, session, edits) = Begin(request.Trip, request.Again ? 1 : null);
        session.Before = loaded.Editor?.IsSequential == true ? SeenBefore(loaded, session, request.Trip) : null;
        var replay = request.Replay is not { } weight ? null : loaded.Stage.Head is not null && session.Reference is null
            ? throw SessionLost(request.Trip.Session) : new ReplayLoss(session.Reference, weight);
        var pass = loaded.Passes.Record(request.Trip.Tokens, request.Trip.Below, request.NeedsInputGradient, edits, replay,
            request.Examples is null ? null : BelowFit(session, request.Examples, request.Trip));
        session.Keep(pass, request.Again);
        if (pass.Loss is null)
            return new(new(StagePasses.Encode(pass.Top), _epoch));
        using var _ = no_grad();
        return new(Last, StagePasses.Scores(pass.Logits!.detach(), pass.Scored!));
    }

    private TrialReply Try_OnComputeThread(TrialRequest request)
    {
        var (loaded, session, edits) = Begin(request.Trip, request.Candidate);
        using var _ = no_grad();
        var (stage, probes) = (loaded.Stage, request.Probes);
        var tokens = request.Trip.Tokens;
        var frozen = !request.Resumes ? null : request.Examples is { } known ? BelowFit(session, known, request.Trip)
            : (probes is null ? session.Frozen : _probes.Frozen(probes.Before)) ?? throw SessionLost(request.Trip.Session);
        if (request.Each is { } each)
        {
            var tried = NewTensor.Of([.. each.Index().Where(example => example.Item is not null).Select(example => (long)example.Index)],
                each.Count(strength => strength is not null));
            (tokens, frozen) = (StagePasses.Rows(tokens, tried), frozen is null ? null : StagePasses.Rows(frozen, tried));
            edits = OfEach(session, edits, each);
        }
        var seen = request is { IsReference: true, Examples: not null } && session.Fit is { IsBegun: false } ? new Recording() : null;
        var pass = new ForwardContext(StagePasses.Input(tokens), edits, seen);
        var below = loaded.Passes.Decode(request.Trip.Below);
        if (request.Examples is { } examples && frozen is null)
            session.BelowFit.Keep(examples, frozen = stage.ForwardBelowHighest(below, pass), pass.Input);
        frozen ??= stage.ForwardFrozen(below, pass);
        var top = request.Examples is null ? stage.ForwardEditable(frozen, pass) : stage.ForwardFromHighest(frozen, pass);
        if (seen is not null)
            session.Fit!.See(loaded.Passes.Inputs(seen, pass.Input));
        var kept = stage.HasEditable ? frozen : null;
        if (stage.Head is null)
        {
            if (probes is not null)
                _probes.Keep(probes, kept, null);
            return new(new(StagePasses.Encode(top), _epoch));
        }
        var scored = loaded.Passes.Scored(tokens);
        if (probes is null && !request.IsReference)
            return new(Last, StagePasses.Scores(stage.Logits(top, scored.Rows), scored));
        var (logits, ofLabels) = loaded.Passes.EveryLogit(top, pass.Input, scored); // [M, V]
        if (probes is null)
        {
            session.Keep(logits);
            return new(Last, StagePasses.Scores(ofLabels, scored));
        }
        var (before, unedited) = probes.Before is null ? default : (Kept(probes.Before), probes.Base is null ? null : Kept(probes.Base));
        _probes.Keep(probes, kept, logits);
        return new(Last, StagePasses.Scores(ofLabels, scored), Kl(before), Kl(unedited));

        Tensor Kept(long? number) => _probes.Logits(number) ?? throw SessionLost(request.Trip.Session);
        double? Kl(Tensor? from) => from is null ? null : Losses.LocalityKl(from, logits).Host().item<float>();
    }

    /// <summary>For each example that is tried its own candidate on top of what is in force.</summary>
    /// <param name="each">Factors on their alphas; null: the example is not tried.</param>
    private WeightUpdates OfEach(ShardSession session, WeightUpdates edits, IReadOnlyList<double?> each)
    {
        if (!_loaded!.Stage.HasEditable)
            return edits;
        if (session.Proposals is not { } proposals || proposals.Count != each.Count)
            throw new MendException(MendError.ShardLost, $"Stage {_options.Stage} has not the candidates that are to be tried.",
                "It was restarted in between; send the request again.");
        List<Dictionary<string, LowRankUpdate>> tried = [.. proposals.Zip(each).Where(example => example.Second is not null)
            .Select(example => example.First.Candidate.ToDictionary(update => update.Key, update => update.Value.Times(example.Second!.Value)))];
        return new(edits.Updates.Keys.Union(tried[0].Keys).ToDictionary(weight => weight, weight => !tried[0].ContainsKey(weight)
            ? edits.For(weight)! : UpdateOfEach.Of(edits.For(weight), [.. tried.Select(candidate => candidate[weight])])));
    }

    /// <summary>What the last stage gives to the one above.</summary>
    private StageResult Last => new(Boundary.None, _epoch);

    /// <summary>
    /// What a trip is computed on: its version or its session's branch, as its scope sees it, with the session's candidate on top if it
    /// asks for that. A stage that lost the branch or the candidate must not answer.
    /// </summary>
    /// <param name="candidate">Factor on the candidate's alpha; null: without it.</param>
    private (LoadedStage Loaded, ShardSession Session, WeightUpdates Edits) Begin(StageTrip trip, double? candidate)
    {
        var loaded = Ready();
        if (trip.Epoch > _epoch)
            throw new MendException(MendError.ShardLost,
                $"This shard of stage {_options.Stage} is of epoch {_epoch} and was superseded by one of {trip.Epoch}.",
                "Send the request again; it goes to the other. End this one.");
        var session = SessionOf(trip.Session);
        var version = loaded.Updates.At(trip.Version);
        session.Read(version);
        if (trip.Branch is > 0 and { } length && session.Branch?.InForce.Edits.Count != length)
            throw SessionLost(trip.Session);
        if (candidate is not null && loaded.Stage.HasEditable && session.Candidate is null)
            throw SessionLost(trip.Session);
        var updates = trip.Branch switch
        {
            null => version,
            0 => loaded.Updates.Of(EditsInForce<ActiveEdit>.None),
            _ => session.Branch!,
        };
        return (loaded, session, candidate is { } scale && session.Candidate is { } tried
            ? updates.OnTop(trip.Scope, tried.ToDictionary(update => update.Key, update => update.Value.Times(scale)))
            : updates.For(trip.Scope, trip.Route));
    }

    /// <summary>
    /// What an edit of this scope goes round: those that are seen with it. One for everybody is seen with those of every scope.
    /// </summary>
    private static List<ActiveEdit> SeenBefore(LoadedStage loaded, ShardSession session, StageTrip trip)
    {
        var inForce = trip.Branch switch
        {
            null => loaded.Updates.At(trip.Version).InForce,
            0 => EditsInForce<ActiveEdit>.None,
            _ => session.Branch!.InForce,
        };
        return [.. inForce.Edits.Select(edit => edit.Update)
            .Where(edit => edit.Route is null && (edit.Scope is null || trip.Scope is null || edit.Scope == trip.Scope))];
    }

    private BackwardReply Backward_OnComputeThread(BackwardRequest request)
    {
        var loaded = Ready();
        var session = SessionOf(request.Session);
        if (session.Reply is { } given) // the graph is used up; a message that arrives twice gets the same answer
            return given;
        var (recording, graph) = session.Recorded
            ?? throw SessionLost(request.Session);
        var (deltas, below) = graph.Backward(recording.Outputs, [request.Above]);
        var start = _time.GetTimestamp();
        if (session.Fit is { } fit)
        {
            if (recording.Outputs.Count > 0)
                fit.Gather(recording.Factors(deltas));
            return session.Reply = new(below[0], [], _time.GetElapsedTime(start));
        }
        if (recording.Outputs.Count > 0)
            session.Keep(loaded.Editor!.Propose(recording.FactorsOfEach(deltas), session.Proposals, session.Before));
        return session.Reply = new(below[0], [.. session.Proposals?.Select(proposal => proposal.Changes) ?? []], _time.GetElapsedTime(start), loaded.Editor?.Rounds ?? 1);
    }

    private bool BeginFit_OnComputeThread(BeginFitRequest request)
    {
        var loaded = Ready();
        var session = SessionOf(request.Session);
        var version = loaded.Updates.At(request.Version);
        session.Read(version);
        var inForce = EditsInForce<ActiveEdit>.None.Then(version.InForce, request.Of);
        List<ActiveEdit> edits = [.. inForce.Edits.Select(edit => edit.Update)];
        List<ActiveEdit> fresh = [.. inForce.Updates.Intersect(edits)], consolidations = [.. inForce.Updates.Except(edits)];
        if (!request.Resumes && fresh.Count > 0)
            (fresh, consolidations) = (edits, []);
        var fit = new StageFit(loaded.Stage.HighestEditable, edits, fresh, consolidations, request.MaxRank, loaded.Stage.Device);
        session.Begin(fit, new(fit.Candidate, [], new Dictionary<string, double>()));
        return true;
    }

    private bool StepFit_OnComputeThread(StepFitRequest request)
    {
        var fit = FitOf(request.Session);
        if (request.Step == fit.Steps + 1)
            fit.Step(request.Rate, request.Decay);
        return request.Step == fit.Steps ? true : throw SessionLost(request.Session);
    }

    private FitReply TakeFit_OnComputeThread(long session) =>
        new(Ready() is { Editor: { } editor } ? editor.Changes(FitOf(session)) : []);

    private Activations BelowFit(ShardSession session, IReadOnlyList<int> examples, StageTrip trip) =>
        session.BelowFit.Of(examples, _loaded!.Stage.Device) ?? throw SessionLost(trip.Session);

    private StageFit FitOf(long session) => SessionOf(session).Fit ?? throw SessionLost(session);

    private ShardSession SessionOf(long id)
    {
        var session = _sessions[id];
        _loaded!.Updates.DropOld(); // of sessions that were forgotten
        return session;
    }

    private MendException SessionLost(long session) => new(MendError.ShardLost,
        $"Stage {_options.Stage} does not have what session {session} left with it.",
        "It was restarted in between; send the request again.");

    private LoadedStage Ready() => _loaded is { } loaded ? loaded
        : throw new MendException(MendError.ShardLost, $"Stage {_options.Stage} is {_state}{(_fault is null ? "" : $" ({_fault})")}.",
        "Load it, then ask again.");
}

/// <summary>What a shard has read.</summary>
/// <param name="Editor">Null where the stage has no editable weight.</param>
internal sealed record LoadedStage(Stage Stage, StagePasses Passes, StageEditor? Editor, VersionedUpdates Updates) : IDisposable
{
    /// <summary>Reads the stage's own tensors, and the networks of the editor that it needs.</summary>
    /// <param name="loaded">Told which fraction of the layers is read.</param>
    public static LoadedStage Read(ShardOptions options, Action<double> loaded)
    {
        var family = ModelFamily.FromDirectory(options.ModelDirectory);
        using var files = HuggingFaceDirectory.Open(options.ModelDirectory);
        using var checkpoint = options.Editor is null ? null : EditorCheckpoint.Open(options.Editor);
        checkpoint?.RequireFit(family);
        IReadOnlyCollection<string> editable = checkpoint is null ? [] : [.. checkpoint.Weights.Select(weight => weight.Name)];
        var device = Devices.Of(options.Device);
        var linears = LayerShape.Of(family).SelectMany(layer => layer.Linears).ToDictionary(linear => linear.Name);
        var range = StagePlan.Cut(family, options.Stages, options.Editor)[options.Stage];
        var stage = Stage.Load(family, range, new CheckpointWeights(files, options.DType.InMemory(device), device), editable, loaded);
        try
        {
            var editor = stage.HasEditable
                ? new StageEditor(checkpoint!.Prepared([.. stage.Editable.Keys], device), options.Factors ?? new(), options.Stage) : null;
            return new(stage, new(stage), editor,
                new(options.Stage, options.ModelDirectory, linears, stage.Linears().Select(linear => linear.Name).ToHashSet(), device));
        }
        catch
        {
            stage.Dispose();
            throw;
        }
    }

    public void Dispose()
    {
        Updates.Dispose();
        Editor?.Dispose();
        Stage.Dispose();
    }
}
