using System.Security.Cryptography;
using System.Text;
using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;
using Edits = MendCluster.Engine.Models.Edits;

namespace MendCluster.Distributed.Editing;

/// <summary>What a shard is made from.</summary>
/// <param name="ModelDirectory">A Hugging Face directory; only the stage's own tensors are read.</param>
/// <param name="Editor">The editor's safetensors file; null: the model can be asked but not edited.</param>
/// <param name="DType">Of the weights in memory.</param>
/// <param name="Replica">Of the model; all have the same weights.</param>
/// <param name="Factors">How the updates of edits are kept; null: as <see cref="FactorStorage"/> says by itself.</param>
/// <param name="Device">Where the stage is held and computes (<see cref="Devices.Of"/>).</param>
public sealed record ShardOptions(
    string ModelDirectory, string? Editor, int Stage, int Stages, WeightType DType = WeightType.Float32, int Replica = 0, FactorStorage? Factors = null, string Device = "cpu");

/// <summary>How an edit's factors are kept, in the ledger and in memory. What is tried and measured is what is kept.</summary>
/// <param name="Kept">Of the update's squared Frobenius norm, from 0 to 1; the rest is spared, and with it most of its rows (<see cref="LowRankUpdate.Compress"/>).</param>
/// <param name="DType">Of the factors: Float32 or BFloat16.</param>
public sealed record FactorStorage(double Kept = LowRankUpdate.UsuallyKept, WeightType DType = WeightType.Float32)
{
    public WeightType DType { get; init => field = Checked(value); } = Checked(DType);

    private static WeightType Checked(WeightType dtype) => dtype != WeightType.Float16 ? dtype
        : throw new MendException(MendError.InvalidOption, "The factors of edits were to be kept in Float16.", "Keep them in Float32 or BFloat16.");
}

/// <summary>Of weights in memory. Editor, loss, softmax, norms and activations between layers are float32 in any case.</summary>
public enum WeightType
{
    Float32,
    BFloat16,

    /// <summary>On GPUs, and in exported checkpoints.</summary>
    Float16,
}

internal static class WeightTypes
{
    /// <exception cref="MendException">The device does not compute with it.</exception>
    public static ScalarType InMemory(this WeightType type, Device device) => type switch
    {
        WeightType.BFloat16 => ScalarType.BFloat16,
        WeightType.Float16 when device.type == TorchSharp.DeviceType.CPU => throw new MendException(MendError.InvalidOption, "The weights were asked for in Float16 on the CPU.", "Use BFloat16 or Float32 there; Float16 is for GPUs."),
        WeightType.Float16 => ScalarType.Float16,
        _ => ScalarType.Float32,
    };
}

/// <summary>
/// One pipeline stage with its editor networks: a state machine over the ledger.
///
/// Its state is the base weights, which never change, and for each of the last few versions the updates that are in force, per scope and weight
/// one low-rank pair that stacks the active edits in the order of the ledger. That stack depends on the list of active edits alone, not on how
/// it came about; so a shard that applied and took back edits one by one, one that read the ledger after a restart, and one that was moved
/// compute the same bits. The editor has no part in it: a record is applied to whatever weight it names, and one that names a weight which the
/// model has not, or has in another shape, is refused. With no active edit a layer takes the same path as in the base model.
///
/// A request names its version. A shard that has not got there says <see cref="MendError.VersionBehind"/>, and the coordinator gives it the
/// records that it lacks; a version that has been dropped is <see cref="MendError.VersionGone"/>, and the caller starts anew at a younger one.
///
/// What an edit needs between its calls (the graph, the factors, the candidate) is kept under the request's session until the session is
/// ended. Losing the shard loses sessions and nothing else: no session holds anything that the ledger does not have or that was promised.
///
/// A shard that was moved or started again may have a twin that nobody ended yet. It has the same weights and could only give the same
/// answers, but sessions would be torn between the two; so requests carry the greatest epoch that was seen, and the older twin refuses.
///
/// All tensors belong to the compute thread. Methods that end in _OnComputeThread run there and nowhere else.
/// </summary>
public sealed class ModelShard(ShardOptions options, TimeProvider time) : IModelShard
{
    /// <summary>Versions that a read which is on its way may still ask for; one that has begun here keeps its own.</summary>
    private const int VersionsKept = 4;

    /// <summary>After this long without a call a session's coordinator is dead: it ends every session that it can.</summary>
    private static readonly TimeSpan SessionPatience = TimeSpan.FromMinutes(30);

    private readonly ComputeThread _thread = new($"shard {options.Replica}/{options.Stage}");
    private readonly FactorStorage _factors = options.Factors ?? new();
    private readonly Dictionary<long, Session> _sessions = [];
    private readonly SortedDictionary<long, VersionedEdits> _versions = [];
    private ShardState _state = ShardState.Cold;
    private string? _fault;
    private ModelVersion _version = ModelVersion.Base;
    private long _epoch;
    private Stage? _stage;
    private IPreparedEditor? _editor;
    private IReadOnlyDictionary<string, LinearShape> _model = new Dictionary<string, LinearShape>(); // every map of the model, on any stage
    private HashSet<string> _own = [];                                                               // those of this stage

    public Task<ShardStatus> LoadAsync(CancellationToken cancellation = default) => _thread.RunAsync(Load_OnComputeThread, cancellation);

    public Task<ShardStatus> StatusAsync(CancellationToken cancellation = default) => _thread.RunAsync(Status_OnComputeThread, cancellation);

    public Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => Apply_OnComputeThread(records), cancellation);

    public Task<StageReply> ForwardAsync(StageRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => InScope(() => Forward_OnComputeThread(request)), cancellation);

    public Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => InScope(() => Backward_OnComputeThread(request)), cancellation);

    public Task BranchAsync(BranchRequest request, CancellationToken cancellation = default) =>
        _thread.RunAsync(() => InScope(() => Branch_OnComputeThread(request)), cancellation);

    public Task EndAsync(long session, CancellationToken cancellation = default) => _thread.RunAsync(() =>
    {
        if (_sessions.Remove(session, out var ended))
            ended.Dispose();
        DropOldVersions();
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
                Release(_versions.Values.SelectMany(version => version.Active).Distinct());
                foreach (var version in _versions.Values)
                    version.Dispose();
                _editor?.Dispose();
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
        try
        {
            return work();
        }
        catch (Exception e) when (e is ModelException or EditorException or CheckpointException)
        {
            throw new MendException(MendError.ModelUnusable, e.Message, "The request was refused; it would be again.", e);
        }
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
            _model = LayerShape.Of(family).SelectMany(layer => layer.Linears).ToDictionary(linear => linear.Name);
            checkpoint?.RequireFit(family);
            IReadOnlyCollection<string> editable = checkpoint is null ? [] : [.. checkpoint.Weights.Select(weight => weight.Name)];
            var device = Devices.Of(options.Device);
            var ranges = StagePlan.Cut(family, options.Stages, options.Editor);
            _stage = Stage.Load(family, ranges[options.Stage], new CheckpointWeights(files, options.DType.InMemory(device), device), editable);
            if (_stage.HasEditable)
                _editor = checkpoint!.Prepared([.. _stage.Editable.Keys], device);
            _own = [.. _stage.Linears().Select(linear => linear.Name)];
            _versions[0] = new([], Stack);
            (_fault, _epoch) = (null, time.GetUtcNow().UtcTicks);
            Move(ShardState.Ready);
            return Status_OnComputeThread();
        }
        catch (Exception e)
        {
            _editor?.Dispose();
            _stage?.Dispose();
            (_editor, _stage, _fault) = (null, null, DeviceMemory.Named(e).Message);
            Move(ShardState.Faulted);
            if (e is ModelException or CheckpointException or EditorException or IOException)
                throw new MendException(MendError.ModelUnusable, $"Stage {options.Stage} could not be loaded: {e.Message}", "Nothing runs on it; correct the files and load again.", e);
            throw;
        }
    }

    private ShardStatus Status_OnComputeThread()
    {
        var bytes = _stage?.Weights.Loaded.Values.Sum(weight => weight.Value.numel() * weight.Value.element_size()) ?? 0;
        return new(_state, _version, _stage?.Range.First ?? 0, _stage?.Range.End ?? 0, _stage is null ? [] : [.. _stage.EditableOrder], bytes, _fault,
            _stage is null ? "" : Checksum(_versions[_version.Value].Active), _epoch);
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
        var before = _versions[_version.Value].Active;
        List<ActiveEdit> active;
        if (entry.Kind == LedgerKind.Edit)
        {
            active = [.. before, Active(entry, entry.Edit, entry.Scope, changes)];
        }
        else
        {
            if (!before.Any(edit => edit.Id == entry.Edit))
                throw new MendException(MendError.LedgerUnusable, $"Version {entry.Version} takes back edit {entry.Edit}, which is not in force.", "Restore the ledger from a copy.");
            var recomputed = changes.ToLookup(change => change.Replaces);
            active = [.. before.Where(edit => edit.Id != entry.Edit).Select(edit => recomputed.Contains(edit.Id) ? Active(entry, edit.Id, edit.Scope, recomputed[edit.Id]) : edit)];
        }
        var edits = new VersionedEdits(active, Stack);
        _ = edits.For(null); // what cannot be stacked is refused now

        foreach (var update in active.Except(before).SelectMany(edit => edit.Updates.Values))
            Own(update);
        (_version, _versions[entry.Version.Value]) = (entry.Version, edits);
        DropOldVersions();
        return true;
    }

    /// <summary>All but the newest few, and those that a session reads: an answer must not starve because edits are quicker than it.</summary>
    private void DropOldVersions()
    {
        foreach (var (version, old) in _versions.SkipLast(VersionsKept).Where(entry => entry.Value.Readers == 0).ToList())
        {
            _versions.Remove(version);
            Release(old.Active.Except(_versions.Values.SelectMany(other => other.Active)));
            old.Dispose();
        }
    }

    /// <param name="entry">Of the record that the changes are of, for errors.</param>
    private ActiveEdit Active(LedgerEntry entry, EditId id, string? scope, IEnumerable<WeightChange> changes)
    {
        List<WeightChange> own = [.. changes.Where(change => IsOwn(entry, change))];
        return new(id, scope, Updates(own), Digest(scope, own));
    }

    /// <summary>Whether a change is of this stage's part of the model.</summary>
    /// <exception cref="MendException">It is of no part.</exception>
    private bool IsOwn(LedgerEntry entry, WeightChange change)
    {
        if (!_model.TryGetValue(change.Weight, out var linear))
            throw Inapplicable(entry, $"changes {change.Weight}, which the model in {options.ModelDirectory} does not have");
        var (u, delta) = (change.UTilde.Shape, change.DeltaTilde.Shape);
        if (u is not [var rows, var m] || delta is not [var same, var n] || rows != same || (m, n) != (linear.InFeatures, linear.OutFeatures))
            throw Inapplicable(entry, $"changes {change.Weight} by factors of [{string.Join(", ", u)}] and [{string.Join(", ", delta)}], "
                + $"the weight in {options.ModelDirectory} is [{linear.OutFeatures}, {linear.InFeatures}]");
        return _own.Contains(change.Weight);
    }

    private static MendException Inapplicable(LedgerEntry entry, string why) =>
        new(MendError.LedgerUnusable, $"Version {entry.Version} of the ledger {why}.", "Open the model that the ledger was made with, or another ledger.");

    private bool Branch_OnComputeThread(BranchRequest request)
    {
        Ready();
        var session = SessionOf(request.Session);
        if (!request.Begins && session.Branch is null)
            throw SessionLost(request.Session);
        List<ActiveEdit> added = [.. request.Added.Select(record => Active(record.Entry, record.Entry.Edit, record.Entry.Scope, record.Changes))];
        session.KeepBranch([.. request.Begins ? [] : session.Branch!, .. VersionOf(request.Version).Active.Where(edit => request.Keep.Contains(edit.Id)), .. added], added);
        return true;
    }

    /// <summary>Of one edit's part on this stage. The edit's number is left out: the same updates in the same order compute the same.</summary>
    private static byte[] Digest(string? scope, IEnumerable<WeightChange> changes)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(Encoding.UTF8.GetBytes(scope ?? ""));
        foreach (var change in changes.OrderBy(change => change.Weight, StringComparer.Ordinal))
        {
            hash.AppendData(Encoding.UTF8.GetBytes(change.Weight));
            hash.AppendData(BitConverter.GetBytes(change.Alpha));
            hash.AppendData(change.UTilde.Bytes.Span);
            hash.AppendData(change.DeltaTilde.Bytes.Span);
        }
        return hash.GetHashAndReset();
    }

    private static string Checksum(IReadOnlyList<ActiveEdit> active) =>
        Convert.ToHexStringLower(SHA256.HashData([.. active.SelectMany(edit => edit.Digest)]));

    /// <summary>The part of an edit that changes this stage's weights.</summary>
    private Dictionary<string, LowRankUpdate> Updates(IReadOnlyList<WeightChange> changes) => changes.ToDictionary(change => change.Weight, change =>
        new LowRankUpdate(Factor(change.UTilde), Factor(change.DeltaTilde), tensor(change.Alpha, device: CPU).On(_stage!.Device)));

    private Tensor Factor(WireTensor wire) => WireTensorCodec.Decode(wire, _stage!.Device).to_type(ScalarType.Float32);

    /// <summary>The updates of some edits in their order, with a candidate on top if given.</summary>
    private Edits Stack(IReadOnlyList<ActiveEdit> active, IReadOnlyDictionary<string, LowRankUpdate>? candidate = null)
    {
        using var _ = no_grad();
        var stacks = new Dictionary<string, LowRankUpdate>();
        foreach (var weight in active.SelectMany(edit => edit.Updates.Keys).Concat(candidate?.Keys ?? []).Distinct())
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
        if (request.Epoch > _epoch)
            throw new MendException(MendError.ShardLost, $"This shard of stage {options.Stage} is of epoch {_epoch} and was superseded by one of {request.Epoch}.",
                "Send the request again; it goes to the other. End this one.");
        var session = SessionOf(request.Session);
        var edits = EditsOf(session, request);
        var tokens = request.Tokens;
        var input = new ModelInput(WireTensorCodec.Decode(tokens.InputIds), WireTensorCodec.Decode(tokens.AttentionMask),
            WireTensorCodec.DecodeOrNull(tokens.DecoderInputIds), WireTensorCodec.DecodeOrNull(tokens.DecoderAttentionMask));
        var below = new Activations(WireTensorCodec.DecodeOrNull(request.Hidden, _stage!.Device), WireTensorCodec.DecodeOrNull(request.Memory, _stage.Device));
        return (request.Purpose == StagePurpose.Record ? Record(request, session, edits, input, below) : Read(request, session, edits, input, below)) with { Epoch = _epoch };
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
            var last = tensor(new[] { top.Hidden!.shape[1] - 1 }, device: CPU);
            return new(null, null, NextToken: session.Sampler.Pick(_stage.Logits(top, last).squeeze(0)));
        }
        var scored = LabelRows.Of(WireTensorCodec.Decode(request.Tokens.Labels!), _stage.Family.ShiftsLabels);
        var scores = Scores(_stage.Logits(top, scored.Rows), scored);
        var rows = Losses.LocalityRows(input, _stage.Family);
        rows = rows.index_select(0, rows.Ge(request.FirstProbe * (top.Hidden!.shape[1])).nonzero().squeeze(1));
        if (rows.shape[0] == 0)
            return new(null, null, Scores: scores, Kl: 0);
        var probes = _stage.Logits(top, rows);
        if (request.Purpose == StagePurpose.TryBefore)
        {
            session.Keep(probes);
            return new(null, null, Scores: scores);
        }
        return new(null, null, Scores: scores, Kl: Losses.LocalityKl(session.Before ?? throw SessionLost(request.Session), probes).Host().item<float>());
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
        if (session.Reply is { } given) // the graph is used up; a message that arrives twice gets the same answer
            return given;
        var (recording, graph) = session.Recorded
            ?? throw SessionLost(request.Session);
        var (deltas, below) = graph.Backward(recording.Outputs, [new(request.Hidden, request.Memory)]);
        var start = time.GetTimestamp();
        var changes = Propose(session, recording, deltas);
        return session.Reply = new(below[0].Hidden, below[0].Memory, changes, time.GetElapsedTime(start));
    }

    private List<WeightChange> Propose(Session session, Recording recording, IReadOnlyList<Tensor> deltas)
    {
        if (recording.Outputs.Count == 0)
            return [];
        using var _ = no_grad();
        var updates = _editor!.Propose(recording.Factors(deltas));
        if (!Devices.Numbers(updates.Values.Select(Size)).All(float.IsFinite))
            throw new MendException(MendError.NotFinite, $"The update of stage {options.Stage} has entries that are NaN or infinite.",
                "The edit was not made. Check that editor and model belong together; with 16-bit weights try float32.");
        var alpha = Devices.Numbers(updates.Values.Select(update => update.alpha));
        var candidate = updates.ToDictionary(update => update.Key, update => AsStored(update.Value.Compress(_factors.Kept)));
        session.Keep(candidate);
        return [.. candidate.Select((update, i) => new WeightChange(update.Key, Stored(update.Value.uTilde), Stored(update.Value.deltaTilde), alpha[i]))];
    }

    private WireTensor Stored(Tensor factor) => WireTensorCodec.Encode(_factors.DType == WeightType.BFloat16 ? factor.to_type(ScalarType.BFloat16) : factor);

    /// <summary>What <see cref="Updates"/> would make of the stored update, to the last bit: it need not go up to the device again.</summary>
    private LowRankUpdate AsStored(LowRankUpdate update)
    {
        Tensor Of(Tensor factor) => (_factors.DType == WeightType.BFloat16 ? factor.to_type(ScalarType.BFloat16).to_type(ScalarType.Float32) : factor).contiguous();
        return update with { uTilde = Of(update.uTilde), deltaTilde = Of(update.deltaTilde), alpha = update.alpha.clone() };
    }

    /// <summary>Not finite when an entry is not. [] float32.</summary>
    private static Tensor Size(LowRankUpdate update) => update.uTilde.abs().sum().Plus(update.deltaTilde.abs().sum()).Plus(update.alpha.abs());

    /// <param name="logits">[N, V], of the labelled rows.</param>
    private static List<ExampleScore> Scores(Tensor logits, LabelRows labels)
    {
        var targets = labels.Targets.On(logits.device);
        var numbers = Devices.Numbers(logits.argmax(1).eq(targets).to_type(ScalarType.Float32), logits.log_softmax(-1).gather(1, targets.unsqueeze(1)).squeeze(1));
        var (right, logProbabilities) = (numbers[..(numbers.Length / 2)], numbers[(numbers.Length / 2)..]);
        var rows = labels.Sequences.Host().data<long>().ToArray().Select((sequence, row) => (sequence, row)).ToLookup(entry => entry.sequence, entry => entry.row);
        return [.. Enumerable.Range(0, (int)labels.BatchSize).Select(i =>
            new ExampleScore(rows[i].All(row => right[row] == 1), rows[i].Any() ? rows[i].Average(row => (double)logProbabilities[row]) : 0))];
    }

    private VersionedEdits VersionOf(ModelVersion version)
    {
        if (version > _version)
            throw new MendException(MendError.VersionBehind, $"Stage {options.Stage} is at version {_version}, the request at {version}.", "Give it the records that it lacks.");
        return _versions.TryGetValue(version.Value, out var kept) ? kept
            : throw new MendException(MendError.VersionGone, $"Stage {options.Stage} is at version {_version} and no longer has {version}.", "Ask again at the newest version.");
    }

    /// <summary>
    /// What a request is computed on: its version or its session's branch, as its scope sees it, with the session's candidate on top if it asks for
    /// that. A stage that lost the branch or the candidate must not answer.
    /// </summary>
    private Edits EditsOf(Session session, StageRequest request)
    {
        var version = VersionOf(request.Version);
        session.Read(version);
        if (request.Branch is { } length && session.Branch?.Count != length)
            throw SessionLost(request.Session);
        var withCandidate = request.WithCandidate || request.Purpose == StagePurpose.TryAfter;
        if (request.Branch is null && !withCandidate)
            return version.For(request.Scope);
        if (withCandidate && _stage!.HasEditable && session.Candidate is null)
            throw SessionLost(request.Session);
        var active = Seen(request.Branch is null ? version.Active : session.Branch!, request.Scope);
        return Stack(active, withCandidate ? session.Candidate?.ToDictionary(update => update.Key, update => update.Value.Times(request.Strength)) : null);
    }

    private static IReadOnlyList<ActiveEdit> Seen(IReadOnlyList<ActiveEdit> active, string? scope) =>
        [.. active.Where(edit => edit.Scope is null || edit.Scope == scope)];

    /// <summary>Keys and values of exactly the tokens before the request's: others would give another answer.</summary>
    private KeyValueCache CacheOf(Session session, StageRequest request)
    {
        if (request.Position == 0) // another answer of the session begins
        {
            session.Cache?.Dispose();
            session.Cache = null;
        }
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
        var now = time.GetTimestamp();
        if (!_sessions.TryGetValue(id, out var session))
        {
            foreach (var (forgotten, old) in _sessions.Where(entry => time.GetElapsedTime(entry.Value.Touched, now) > SessionPatience).ToList())
            {
                _sessions.Remove(forgotten);
                old.Dispose();
            }
            DropOldVersions();
            _sessions[id] = session = new();
        }
        session.Touched = now;
        return session;
    }

    /// <summary>Takes an update out of its scope; <see cref="Release"/> disposes of it.</summary>
    private static void Own(LowRankUpdate update)
    {
        update.uTilde.DetachFromDisposeScope();
        update.deltaTilde.DetachFromDisposeScope();
        update.alpha.DetachFromDisposeScope();
    }

    private static void Release(IEnumerable<ActiveEdit> edits)
    {
        foreach (var update in edits.SelectMany(edit => edit.Updates.Values))
        {
            update.uTilde.Dispose();
            update.deltaTilde.Dispose();
            update.alpha.Dispose();
        }
    }

    /// <summary>An edit in force, as far as it concerns this stage. The same object in every version that has it.</summary>
    private sealed class ActiveEdit(EditId id, string? scope, IReadOnlyDictionary<string, LowRankUpdate> updates, byte[] digest)
    {
        public EditId Id => id;

        public string? Scope => scope;

        public IReadOnlyDictionary<string, LowRankUpdate> Updates => updates;

        public byte[] Digest => digest;
    }

    /// <summary>The edits of one version, and their stacks for each scope that was asked for; it owns those.</summary>
    private sealed class VersionedEdits(IReadOnlyList<ActiveEdit> active, Func<IReadOnlyList<ActiveEdit>, IReadOnlyDictionary<string, LowRankUpdate>?, Edits> stack) : IDisposable
    {
        private readonly List<Tensor> _owned = [];
        private readonly Dictionary<string, Edits> _scopes = [];
        private Edits? _everybody;

        public IReadOnlyList<ActiveEdit> Active => active;

        /// <summary>Sessions that may ask for it again.</summary>
        public int Readers { get; set; }

        public Edits For(string? scope)
        {
            if (scope is null || !active.Any(edit => edit.Scope == scope)) // a scope without edits costs nothing
                return _everybody ??= Kept(stack(Seen(active, null), null));
            if (!_scopes.TryGetValue(scope, out var edits))
                _scopes[scope] = edits = Kept(stack(Seen(active, scope), null));
            return edits;
        }

        public void Dispose() => _owned.ForEach(tensor => tensor.Dispose());

        /// <summary>Aliases: a stack of one edit shares that edit's tensors, and what was stacked goes with the caller's scope.</summary>
        private Edits Kept(Edits edits) => new(edits.Updates.ToDictionary(entry => entry.Key, entry =>
        {
            var update = (LowRankUpdate)entry.Value;
            return new LowRankUpdate(Own(update.uTilde), Own(update.deltaTilde), Own(update.alpha));
        }));

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
        private readonly List<Tensor> _ownedByBranch = [];
        private VersionedEdits? _version;

        /// <summary>When it was last asked for.</summary>
        public long Touched { get; set; }

        public KeyValueCache? Cache { get; set; }

        public TokenSampler? Sampler { get; set; }

        public (Recording Recording, StageGraph Graph)? Recorded { get; private set; }

        /// <summary>Of the backward half, once it was run.</summary>
        public BackwardReply? Reply { get; set; }

        public IReadOnlyDictionary<string, LowRankUpdate>? Candidate { get; private set; }

        /// <summary>The session's own history, if it has one.</summary>
        public IReadOnlyList<ActiveEdit>? Branch { get; private set; }

        /// <summary>Logits of the probes before the edit. [N, V].</summary>
        public Tensor? Before { get; private set; }

        /// <summary>From now on the session is at this version, which stays as long as the session.</summary>
        public void Read(VersionedEdits version)
        {
            if (_version is not null)
                _version.Readers--;
            _version = version;
            version.Readers++;
        }

        public void Keep(Recording recording, Activations below, Activations top, Tensor? loss)
        {
            Forget(); // of the edit before, where several are computed on one branch
            Recorded = (recording, new([(below, top)], loss));
            Recorded.Value.Graph.Own(recording.Tensors);
        }

        public void Keep(IReadOnlyDictionary<string, LowRankUpdate> candidate)
        {
            foreach (var tensor in Tensors(candidate))
                Own(tensor);
            Candidate = candidate;
        }

        public void KeepBranch(IReadOnlyList<ActiveEdit> branch, IEnumerable<ActiveEdit> own)
        {
            foreach (var tensor in own.SelectMany(edit => Tensors(edit.Updates)))
                _ownedByBranch.Add(tensor.DetachFromDisposeScope());
            Branch = branch;
        }

        public void Keep(Tensor before) => Before = Own(before);

        public void Dispose()
        {
            if (_version is not null)
                _version.Readers--;
            Cache?.Dispose();
            Forget();
            _ownedByBranch.ForEach(tensor => tensor.Dispose());
        }

        private void Forget()
        {
            _owned.ForEach(tensor => tensor.Dispose());
            _owned.Clear();
            Recorded?.Graph.Dispose();
            (Recorded, Reply, Candidate, Before) = (null, null, null, null);
        }

        private static IEnumerable<Tensor> Tensors(IReadOnlyDictionary<string, LowRankUpdate> updates) =>
            updates.Values.SelectMany(update => new[] { update.uTilde, update.deltaTilde, update.alpha });

        private Tensor Own(Tensor tensor)
        {
            _owned.Add(tensor.DetachFromDisposeScope());
            return tensor;
        }
    }
}
