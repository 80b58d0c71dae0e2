using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Recipes;
using MendCluster.Engine.Training;
using static TorchSharp.torch;
using Edits = MendCluster.Engine.Models.Edits;

namespace MendCluster.Distributed;

/// <summary>What a shard is made from.</summary>
/// <param name="ModelDirectory">A Hugging Face directory; only the stage's own tensors are read.</param>
/// <param name="Editor">The editor's safetensors file; null: the model can be asked but not edited.</param>
/// <param name="DType">Of the weights in memory.</param>
public sealed record ShardOptions(string ModelDirectory, string? Editor, int Stage, int Stages, WeightType DType = WeightType.Float32);

/// <summary>Of weights in memory. Editor, loss, softmax, norms and activations between layers are float32 in any case.</summary>
public enum WeightType
{
    Float32,
    BFloat16,
}

/// <summary>
/// One pipeline stage with its editor networks: a state machine over the ledger.
///
/// Its state is the base weights, which never change, and for each of the last few versions the updates that are in force, per weight one
/// low-rank pair that stacks the active edits in the order of the ledger. That stack depends on the list of active edits alone, not on how
/// it came about; so a shard that applied and took back edits one by one, one that read the ledger after a restart, and one that was moved
/// compute the same bits. With no active edit a layer takes the same path as in the base model.
///
/// A request names its version. A shard that has not got there says <see cref="MendError.VersionBehind"/>, and the coordinator gives it the
/// records that it lacks; a version that has been dropped is <see cref="MendError.VersionGone"/>, and the caller starts anew at a younger one.
///
/// What an edit needs between its calls (the graph, the factors, the candidate) is kept under the request's session until the session is
/// ended. Losing the shard loses sessions and nothing else: no session holds anything that the ledger does not have or that was promised.
///
/// All tensors belong to the compute thread. Methods that end in _OnComputeThread run there and nowhere else.
/// </summary>
public sealed class ModelShard(ShardOptions options, TimeProvider time) : IModelShard
{
    /// <summary>Versions that reads in flight may still ask for.</summary>
    private const int VersionsKept = 4;

    private readonly ComputeThread _thread = new($"shard {options.Stage}");
    private readonly Dictionary<long, Session> _sessions = [];
    private IReadOnlyList<ActiveEdit> _active = [];
    private readonly SortedDictionary<long, VersionedEdits> _versions = [];
    private ShardState _state = ShardState.Cold;
    private string? _fault;
    private ModelVersion _version = ModelVersion.Base;
    private Stage? _stage;
    private Mend? _mend;

    public Task<ShardStatus> LoadAsync(CancellationToken cancellation = default) => _thread.RunAsync(Load_OnComputeThread, cancellation);

    public Task<ShardStatus> StatusAsync(CancellationToken cancellation = default) => _thread.RunAsync(Status_OnComputeThread, cancellation);

    public Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => Apply_OnComputeThread(records), cancellation);

    public Task<StageReply> ForwardAsync(StageRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => InScope(() => Forward_OnComputeThread(request)), cancellation);

    public Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => InScope(() => Backward_OnComputeThread(request)), cancellation);

    public Task EndAsync(long session, CancellationToken cancellation = default) => _thread.RunAsync(() =>
    {
        if (_sessions.Remove(session, out var ended))
            ended.Dispose();
        return true;
    }, cancellation);

    public async ValueTask DisposeAsync()
    {
        try
        {
            await _thread.RunAsync(() =>
            {
                foreach (var session in _sessions.Values)
                    session.Dispose();
                foreach (var version in _versions.Values)
                    version.Dispose();
                foreach (var update in _active.SelectMany(edit => edit.Updates.Values))
                    Release(update);
                _mend?.Dispose();
                _stage?.Dispose();
                return true;
            }).ConfigureAwait(false);
        }
        catch (ObjectDisposedException)
        {
            return; // the second time
        }
        _thread.Dispose();
    }

    private static T InScope<T>(Func<T> work)
    {
        using var scope = NewDisposeScope();
        return work();
    }

    /// <summary>The table of moves.</summary>
    private void Move(ShardState to)
    {
        var allowed = (_state, to) is (ShardState.Cold or ShardState.Faulted, ShardState.Loading) or (ShardState.Loading, ShardState.Ready or ShardState.Faulted);
        _state = allowed ? to : throw new InvalidOperationException($"a shard cannot go from {_state} to {to}");
    }

    private ShardStatus Load_OnComputeThread()
    {
        if (_state == ShardState.Ready)
            return Status_OnComputeThread();
        Move(ShardState.Loading);
        try
        {
            var family = ModelFamily.FromDirectory(options.ModelDirectory);
            using var files = HuggingFaceDirectory.Open(options.ModelDirectory);
            using var checkpoint = options.Editor is null ? null : EditorCheckpoint.Open(options.Editor);
            IReadOnlyCollection<string> editable = checkpoint is null ? [] : [.. checkpoint.Weights.Select(weight => weight.Name)];
            var dtype = options.DType == WeightType.BFloat16 ? ScalarType.BFloat16 : ScalarType.Float32;
            var ranges = StagePlan.Cut(family, options.Stages, options.Editor);
            _stage = Stage.Load(family, ranges[options.Stage], new CheckpointWeights(files, dtype), editable);
            if (_stage.HasEditable)
                _mend = checkpoint!.Editor([.. _stage.Editable.Keys]);
            CheckEditor();
            _versions[0] = new(Edits.None);
            _fault = null;
            Move(ShardState.Ready);
            return Status_OnComputeThread();
        }
        catch (Exception e)
        {
            _mend?.Dispose();
            _stage?.Dispose();
            (_mend, _stage, _fault) = (null, null, e.Message);
            Move(ShardState.Faulted);
            if (e is ModelException or CheckpointException or EditorException or IOException)
                throw new MendException(MendError.ModelUnusable, $"Stage {options.Stage} could not be loaded: {e.Message}", "Nothing runs on it; correct the files and load again.", e);
            throw;
        }
    }

    private void CheckEditor()
    {
        foreach (var (name, m, n) in _mend?.Weights ?? [])
            if (_stage!.Editable.TryGetValue(name, out var linear) && (linear.InFeatures, linear.OutFeatures) != (m, n))
                throw new EditorException($"the editor was made for {name} of [{n}, {m}], the model's is [{linear.OutFeatures}, {linear.InFeatures}]");
    }

    private ShardStatus Status_OnComputeThread()
    {
        var bytes = _stage?.Weights.Loaded.Values.Sum(weight => weight.Value.numel() * (weight.Value.dtype == ScalarType.BFloat16 ? 2 : 4)) ?? 0;
        return new(_state, _version, _stage?.Range.First ?? 0, _stage?.Range.End ?? 0, _stage is null ? [] : [.. _stage.EditableOrder], bytes, _fault);
    }

    private bool Apply_OnComputeThread(IReadOnlyList<LedgerRecord> records)
    {
        Ready();
        foreach (var (entry, changes) in records.Where(record => record.Entry.Version > _version))
        {
            if (entry.Version != _version.Next())
                throw new MendException(MendError.VersionGap, $"Stage {options.Stage} is at version {_version} and was given {entry.Version}.", "Give it the records between.");
            InScope(() => TakeIn(entry, changes));
        }
        return true;
    }

    /// <summary>One record, whole or not at all: everything that can fail comes before the first thing that is kept.</summary>
    private bool TakeIn(LedgerEntry entry, IReadOnlyList<WeightChange> changes)
    {
        var reverted = entry.Kind == LedgerKind.Edit ? null : _active.FirstOrDefault(edit => edit.Id == entry.Edit)
            ?? throw new MendException(MendError.LedgerUnusable, $"Version {entry.Version} takes back edit {entry.Edit}, which is not in force.", "Restore the ledger from a copy.");
        var updates = Updates(changes);
        IReadOnlyList<ActiveEdit> active = reverted is null ? [.. _active, new(entry.Edit, updates)] : [.. _active.Where(edit => edit.Id != reverted.Id)];
        var edits = new VersionedEdits(Stack(active)); // keeps aliases; what was stacked goes with the scope

        foreach (var update in updates.Values)
            Own(update);
        (_active, _version, _versions[entry.Version.Value]) = (active, entry.Version, edits);
        foreach (var update in reverted?.Updates.Values ?? [])
            Release(update);
        while (_versions.Count > VersionsKept)
        {
            var oldest = _versions.Keys.First();
            _versions[oldest].Dispose();
            _versions.Remove(oldest);
        }
        return true;
    }

    /// <summary>The part of an edit that changes this stage's weights.</summary>
    private Dictionary<string, LowRankUpdate> Updates(IReadOnlyList<WeightChange> changes) =>
        changes.Where(change => _stage!.Editable.ContainsKey(change.Weight)).ToDictionary(change => change.Weight, change => new LowRankUpdate(
            WireTensorCodec.Decode(change.UTilde), WireTensorCodec.Decode(change.DeltaTilde), tensor(change.Alpha)));

    /// <summary>The updates of some edits in their order, with a candidate on top if given.</summary>
    private Edits Stack(IReadOnlyList<ActiveEdit> active, IReadOnlyDictionary<string, LowRankUpdate>? candidate = null)
    {
        using var _ = no_grad();
        var stacks = new Dictionary<string, LowRankUpdate>();
        foreach (var weight in _stage!.EditableOrder)
        {
            List<LowRankUpdate> updates = [.. active.Where(edit => edit.Updates.ContainsKey(weight)).Select(edit => edit.Updates[weight])];
            if (candidate?.GetValueOrDefault(weight) is { } top)
                updates.Add(top);
            if (updates.Count > 0)
                stacks[weight] = LowRankUpdate.Stack(updates);
        }
        return new(stacks);
    }

    private StageReply Forward_OnComputeThread(StageRequest request)
    {
        Ready();
        var session = SessionOf(request.Session);
        var edits = request.Purpose == StagePurpose.TryAfter ? CandidateOn(session, request) : EditsAt(request.Version);
        var tokens = request.Tokens;
        var input = new ModelInput(WireTensorCodec.Decode(tokens.InputIds), WireTensorCodec.Decode(tokens.AttentionMask),
            WireTensorCodec.DecodeOrNull(tokens.DecoderInputIds), WireTensorCodec.DecodeOrNull(tokens.DecoderAttentionMask));
        var below = new Activations(WireTensorCodec.DecodeOrNull(request.Hidden), WireTensorCodec.DecodeOrNull(request.Memory));
        return request.Purpose == StagePurpose.Record ? Record(request, session, edits, input, below) : Read(request, session, edits, input, below);
    }

    private StageReply Read(StageRequest request, Session session, Edits edits, ModelInput input, Activations below)
    {
        using var _ = no_grad();
        var cache = request.Purpose == StagePurpose.Generate ? CacheOf(session, request) : null;
        var top = _stage!.Forward(below, new Pass(input, edits, cache: cache));
        if (_stage.Head is null)
            return new(WireTensorCodec.EncodeOrNull(top.Hidden), WireTensorCodec.EncodeOrNull(top.Memory));
        if (request.Purpose == StagePurpose.Generate)
        {
            var sampling = request.Sampling ?? new();
            session.Sampler ??= new(new(sampling.MaxTokens, sampling.Temperature, sampling.TopK, sampling.TopP, sampling.Seed));
            var last = tensor(new[] { top.Hidden!.shape[1] - 1 });
            return new(null, null, NextToken: session.Sampler.Pick(_stage.Logits(top, last).squeeze(0)));
        }
        var scored = LabelRows.Of(WireTensorCodec.Decode(request.Tokens.Labels!), _stage.Family.ShiftsLabels);
        var scores = Scores(_stage.Logits(top, scored.Rows), scored);
        var rows = Losses.LocalityRows(input, _stage.Family);
        rows = rows.index_select(0, rows.ge(request.FirstProbe * (top.Hidden!.shape[1])).nonzero().squeeze(1));
        if (rows.shape[0] == 0)
            return new(null, null, Scores: scores, Kl: 0);
        var probes = _stage.Logits(top, rows);
        if (request.Purpose == StagePurpose.TryBefore)
        {
            session.Keep(probes);
            return new(null, null, Scores: scores);
        }
        return new(null, null, Scores: scores, Kl: Losses.LocalityKl(session.Before ?? throw SessionLost(request.Session), probes).item<float>());
    }

    /// <summary>Runs forward with a graph from the lowest place that the backward half has to reach.</summary>
    private StageReply Record(StageRequest request, Session session, Edits edits, ModelInput input, Activations below)
    {
        var recording = new Recording();
        var pass = new Pass(input, edits, recording);
        if (request.NeedsInputGradient)
        {
            below.Hidden?.requires_grad_();
            below.Memory?.requires_grad_();
        }
        Activations start;
        using (set_grad_enabled(request.NeedsInputGradient))
            start = _stage!.Below(below, pass);
        using var _ = enable_grad();
        var top = _stage.Above(start, pass);
        IReadOnlyList<ExampleScore>? scores = null;
        Tensor? loss = null;
        if (_stage.Head is not null)
        {
            var rows = LabelRows.Of(WireTensorCodec.Decode(request.Tokens.Labels!), _stage.Family.ShiftsLabels);
            var logits = _stage.Logits(top, rows.Rows);
            loss = Losses.MaskedNll(logits, rows).Nll;
            using (no_grad())
                scores = Scores(logits.detach(), rows);
        }
        session.Keep(recording, below, top, loss);
        return loss is null ? new(WireTensorCodec.EncodeOrNull(top.Hidden), WireTensorCodec.EncodeOrNull(top.Memory)) : new(null, null, Scores: scores);
    }

    private BackwardReply Backward_OnComputeThread(BackwardRequest request)
    {
        Ready();
        var session = SessionOf(request.Session);
        var (recording, below, top, loss) = session.Recorded
            ?? throw SessionLost(request.Session);

        // Where the gradient starts: the loss, or what the stages above read of this one's result.
        var outputs = new List<Tensor>();
        var seeds = new List<Tensor>();
        void Add(Tensor? output, WireTensor? seed)
        {
            if (output is { requires_grad: true } && seed is not null)
            {
                outputs.Add(output);
                seeds.Add(WireTensorCodec.Decode(seed));
            }
        }
        var memoryPassesThrough = top.Memory is not null && ReferenceEquals(top.Memory, below.Memory);
        if (loss is not null)
        {
            outputs.Add(loss);
            seeds.Add(ones_like(loss));
        }
        else
        {
            Add(top.Hidden, request.Hidden);
            if (!memoryPassesThrough)
                Add(top.Memory, request.Memory);
        }

        // Where it goes: the recorded layers, and the stage's input when a stage below needs it.
        List<Tensor> inputs = [.. recording.Outputs];
        Tensor?[] boundary = [below.Hidden, below.Memory];
        foreach (var input in boundary)
            if (input is { requires_grad: true })
                inputs.Add(input);
        if (inputs.Count == 0)
            return new(null, null, [], TimeSpan.Zero);
        Tensor?[] gradients = outputs.Count == 0 ? new Tensor?[inputs.Count]
            : [.. autograd.grad(outputs, inputs, seeds, allow_unused: true).Select(gradient => gradient is null or { IsInvalid: true } ? null : gradient)];

        var next = recording.Outputs.Count;
        Tensor? InputGradient(Tensor? input) => input is { requires_grad: true } ? gradients[next++] ?? zeros_like(input) : null;
        var (hidden, memory) = (InputGradient(below.Hidden), InputGradient(below.Memory));
        if (memory is not null && memoryPassesThrough && request.Memory is not null)
            memory = memory + WireTensorCodec.Decode(request.Memory);
        var start = time.GetTimestamp();
        var changes = Propose(session, recording, gradients);
        return new(WireTensorCodec.EncodeOrNull(hidden), WireTensorCodec.EncodeOrNull(memory), changes, time.GetElapsedTime(start));
    }

    private List<WeightChange> Propose(Session session, Recording recording, Tensor?[] gradients)
    {
        if (recording.Outputs.Count == 0)
            return [];
        using var _ = no_grad();
        var factors = recording.Factors([.. recording.Outputs.Select((z, i) => gradients[i] ?? zeros_like(z))]);
        var updates = _mend!.Propose(factors);
        if (!updates.Values.All(IsFinite))
            throw new MendException(MendError.NotFinite, $"The update of stage {options.Stage} has entries that are NaN or infinite.",
                "The edit was not made. Check that editor and model belong together; with 16-bit weights try float32.");
        session.Keep(updates);
        return [.. updates.Select(update => new WeightChange(update.Key, WireTensorCodec.Encode(update.Value.uTilde),
            WireTensorCodec.Encode(update.Value.deltaTilde), update.Value.alpha.item<float>()))];
    }

    private static bool IsFinite(LowRankUpdate update) =>
        double.IsFinite((update.uTilde.abs().sum() + update.deltaTilde.abs().sum() + update.alpha.abs()).item<float>());

    /// <param name="logits">[N, V], of the labelled rows.</param>
    private static List<ExampleScore> Scores(Tensor logits, LabelRows labels)
    {
        var right = logits.argmax(1).eq(labels.Targets).data<bool>().ToArray();
        var logProbabilities = logits.log_softmax(-1).gather(1, labels.Targets.unsqueeze(1)).squeeze(1).data<float>().ToArray();
        var rows = labels.Sequences.data<long>().ToArray().Select((sequence, row) => (sequence, row)).ToLookup(entry => entry.sequence, entry => entry.row);
        return [.. Enumerable.Range(0, (int)labels.BatchSize).Select(i =>
            new ExampleScore(rows[i].All(row => right[row]), rows[i].Any() ? rows[i].Average(row => (double)logProbabilities[row]) : 0))];
    }

    private Edits EditsAt(ModelVersion version)
    {
        if (version > _version)
            throw new MendException(MendError.VersionBehind, $"Stage {options.Stage} is at version {_version}, the request at {version}.", "Give it the records that it lacks.");
        return _versions.TryGetValue(version.Value, out var kept) ? kept.Edits
            : throw new MendException(MendError.VersionGone, $"Stage {options.Stage} is at version {_version} and no longer has {version}.", "Ask again at the newest version.");
    }

    /// <summary>The version with the session's candidate on top. A stage that lost the candidate must not answer for the edited model.</summary>
    private Edits CandidateOn(Session session, StageRequest request)
    {
        _ = EditsAt(request.Version);
        if (_stage!.HasEditable && session.Candidate is null)
            throw SessionLost(request.Session);
        return Stack(_active, session.Candidate?.ToDictionary(update => update.Key, update => update.Value.Times(request.Strength)));
    }

    /// <summary>Keys and values of exactly the tokens before the request's: others would give another answer.</summary>
    private KeyValueCache CacheOf(Session session, StageRequest request)
    {
        var cache = session.Cache ??= new();
        return cache.Length == request.Position ? cache : throw SessionLost(request.Session);
    }

    private MendException SessionLost(long session) => new(MendError.ShardLost,
        $"Stage {options.Stage} does not have what session {session} left with it.", "It was restarted in between; send the request again.");

    private void Ready()
    {
        if (_state != ShardState.Ready)
            throw new MendException(MendError.ShardLost, $"Stage {options.Stage} is {_state}{(_fault is null ? "" : $" ({_fault})")}.", "Load it, then ask again.");
    }

    private Session SessionOf(long id)
    {
        if (!_sessions.TryGetValue(id, out var session))
            _sessions[id] = session = new();
        return session;
    }

    /// <summary>Takes an update out of its scope; <see cref="Release"/> disposes of it.</summary>
    private static void Own(LowRankUpdate update)
    {
        update.uTilde.DetachFromDisposeScope();
        update.deltaTilde.DetachFromDisposeScope();
        update.alpha.DetachFromDisposeScope();
    }

    private static void Release(LowRankUpdate update)
    {
        update.uTilde.Dispose();
        update.deltaTilde.Dispose();
        update.alpha.Dispose();
    }

    private sealed record ActiveEdit(EditId Id, IReadOnlyDictionary<string, LowRankUpdate> Updates);

    /// <summary>The updates of one version. Owns the stacks that were made for it.</summary>
    private sealed class VersionedEdits : IDisposable
    {
        private readonly List<Tensor> _owned = [];

        public VersionedEdits(Edits edits)
        {
            Edits = new(edits.Updates.ToDictionary(entry => entry.Key, entry =>
            {
                // Aliases: a stack of one edit shares that edit's tensors, which a revert disposes of while older versions are still read.
                var update = (LowRankUpdate)entry.Value;
                return new LowRankUpdate(Own(update.uTilde), Own(update.deltaTilde), Own(update.alpha));
            }));
        }

        public Edits Edits { get; }

        public void Dispose() => _owned.ForEach(tensor => tensor.Dispose());

        private Tensor Own(Tensor tensor)
        {
            var alias = tensor.detach().DetachFromDisposeScope();
            _owned.Add(alias);
            return alias;
        }
    }

    /// <summary>What one answer or one edit needs between its calls.</summary>
    private sealed class Session : IDisposable
    {
        private readonly List<Tensor> _owned = [];

        public KeyValueCache? Cache { get; set; }

        public TokenSampler? Sampler { get; set; }

        public (Recording Recording, Activations Below, Activations Top, Tensor? Loss)? Recorded { get; private set; }

        public IReadOnlyDictionary<string, LowRankUpdate>? Candidate { get; private set; }

        /// <summary>Logits of the probes before the edit. [N, V].</summary>
        public Tensor? Before { get; private set; }

        public void Keep(Recording recording, Activations below, Activations top, Tensor? loss)
        {
            Recorded = (recording, below, top, loss);
            foreach (var tensor in new[] { below.Hidden, below.Memory, top.Hidden, top.Memory, loss })
                if (tensor is not null)
                    Own(tensor);
            foreach (var tensor in recording.Tensors)
                Own(tensor);
        }

        public void Keep(IReadOnlyDictionary<string, LowRankUpdate> candidate)
        {
            foreach (var update in candidate.Values)
                foreach (var tensor in new[] { update.uTilde, update.deltaTilde, update.alpha })
                    Own(tensor);
            Candidate = candidate;
        }

        public void Keep(Tensor before) => Before = Own(before);

        public void Dispose()
        {
            Cache?.Dispose();
            foreach (var tensor in _owned)
                tensor.Dispose();
        }

        private Tensor Own(Tensor tensor)
        {
            _owned.Add(tensor.DetachFromDisposeScope());
            return tensor;
        }
    }
}
