using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// What one answer or one edit needs between its calls: the graph, the factors, the candidate. Losing it loses nothing that was promised:
/// no session holds anything that only it has.
/// </summary>
internal sealed class ShardSession : IDisposable
{
    private readonly List<Tensor> _owned = [];
    private readonly List<Tensor> _ownedByPass = [];
    private readonly List<Tensor> _ownedByBranch = [];
    private UpdatesAtVersion? _version;

    /// <summary>When it was last asked for.</summary>
    public long Touched { get; set; }

    /// <summary>Keys and values of the answer so far.</summary>
    public KeyValueRow? Cache
    {
        get;
        set
        {
            if (field != value)
                field?.Dispose();
            field = value;
        }
    }

    public TokenSampler? Sampler { get; set; }

    /// <summary>The forward half of the edit, which waits for the other.</summary>
    public (Recording Recording, StageGraph Graph)? Recorded { get; private set; }

    /// <summary>What the forward half found below the lowest editable layer: no candidate changes it, so the tries begin there.</summary>
    public Activations? Frozen { get; private set; }

    /// <summary>Logits that the next forward half is held against. [M, V].</summary>
    public Tensor? Reference { get; private set; }

    /// <summary>The edits before this one, as its scope sees them, if its editor goes round their keys.</summary>
    public IReadOnlyList<ActiveEdit>? Before { get; set; }

    /// <summary>Of the backward half, once it was run.</summary>
    public BackwardReply? Reply { get; set; }

    /// <summary>The candidate of each example, after the edit's rounds so far; null before the first.</summary>
    public IReadOnlyList<StageProposal>? Proposals { get; private set; }

    /// <summary>Of the session's only example.</summary>
    public IReadOnlyDictionary<string, LowRankUpdate>? Candidate => Proposals is [var only] ? only.Candidate : null;

    /// <summary>One update that is being fitted to many edits; it is the candidate.</summary>
    public StageFit? Fit { get; private set; }

    /// <summary>What lies below its layer.</summary>
    public ExampleActivations BelowFit { get; } = new();

    /// <summary>The session's own history, if it has one.</summary>
    public UpdatesAtVersion? Branch { get; private set; }

    /// <summary>From now on the session is at this version, which stays as long as the session.</summary>
    public void Read(UpdatesAtVersion version)
    {
        if (_version is not null)
            _version.Readers--;
        _version = version;
        version.Readers++;
    }

    /// <param name="again">Another round of the edit, to which its candidate belongs.</param>
    public void Keep(RecordedPass pass, bool again)
    {
        if (again)
            ForgetPass();
        else
            Forget(); // of the edit before, where several are computed on one branch
        (Recorded, Frozen) = ((pass.Recording, pass.Graph()), pass.Frozen);
        _ownedByPass.AddRange(new[] { Frozen.Hidden, Frozen.Memory }.OfType<Tensor>().Select(tensor => tensor.DetachFromDisposeScope()));
    }

    /// <param name="reference">What the next forward half is held against. [M, V].</param>
    public void Keep(Tensor reference)
    {
        Reference?.Dispose();
        Reference = reference.DetachFromDisposeScope();
    }

    /// <summary>In the place of the round before.</summary>
    public void Keep(IReadOnlyList<StageProposal> proposals)
    {
        ForgetOwned();
        foreach (var update in proposals.SelectMany(proposal => proposal.Candidate.Values))
            _owned.AddRange(update.Tensors.Select(tensor => tensor.DetachFromDisposeScope()));
        Proposals = proposals;
    }

    /// <param name="proposal">What it is, which is views of its tensors.</param>
    public void Begin(StageFit fit, StageProposal proposal)
    {
        Forget();
        Fit?.Dispose();
        (Fit, Proposals) = (fit, [proposal]);
    }

    /// <param name="added">Those of the branch that no version has.</param>
    public void Keep(UpdatesAtVersion branch, IEnumerable<ActiveEdit> added)
    {
        Branch?.Dispose();
        _ownedByBranch.AddRange(added.SelectMany(edit => edit.Tensors).Select(tensor => tensor.DetachFromDisposeScope()));
        Branch = branch;
    }

    public void Dispose()
    {
        if (_version is not null)
            _version.Readers--;
        Cache = null;
        Forget();
        Fit?.Dispose();
        BelowFit.Dispose();
        Branch?.Dispose();
        _ownedByBranch.ForEach(tensor => tensor.Dispose());
    }

    private void Forget()
    {
        ForgetOwned();
        ForgetPass();
    }

    private void ForgetOwned()
    {
        _owned.ForEach(tensor => tensor.Dispose());
        _owned.Clear();
        Proposals = null;
    }

    private void ForgetPass()
    {
        Recorded?.Graph.Dispose();
        _ownedByPass.ForEach(tensor => tensor.Dispose());
        _ownedByPass.Clear();
        Reference?.Dispose();
        (Recorded, Frozen, Reference, Reply) = (null, null, null, null);
    }
}

/// <summary>The sessions of a shard, by their numbers.</summary>
internal sealed class ShardSessions(TimeProvider time) : IDisposable
{
    /// <summary>After this long without a call a session's coordinator is dead: it ends every session that it can.</summary>
    private static readonly TimeSpan MaxIdle = TimeSpan.FromMinutes(30);

    private readonly Dictionary<long, ShardSession> _sessions = [];

    /// <summary>A session, begun if it is new; then those that nobody asks for any more are dropped.</summary>
    public ShardSession this[long id]
    {
        get
        {
            var now = time.GetTimestamp();
            if (!_sessions.TryGetValue(id, out var session))
            {
                foreach (var forgotten in _sessions.Where(entry => time.GetElapsedTime(entry.Value.Touched, now) > MaxIdle)
                    .Select(entry => entry.Key).ToList())
                    End(forgotten);
                _sessions[id] = session = new();
            }
            session.Touched = now;
            return session;
        }
    }

    /// <summary>Drops a session, if there is one of the number.</summary>
    public void End(long id)
    {
        if (_sessions.Remove(id, out var ended))
            ended.Dispose();
    }

    public void Dispose()
    {
        foreach (var session in _sessions.Values)
            session.Dispose();
    }
}
