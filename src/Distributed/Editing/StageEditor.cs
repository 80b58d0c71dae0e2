using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>A stage's editor networks: factors of an edit to the candidate that the stage keeps and the ledger will have.</summary>
/// <param name="editor">Of the stage's editable weights. R kept rows, m in-features, n out-features.</param>
/// <param name="storage">How the factors are kept.</param>
/// <param name="stage">Its number, for errors.</param>
internal sealed class StageEditor(IPreparedEditor editor, FactorStorage storage, int stage) : IDisposable
{
    private readonly ISequentialEditor? _sequential = editor is ISequentialEditor { IsSequential: true } sequential ? sequential : null;
    private IReadOnlyList<ActiveEdit> _known = []; // those whose keys are in _earlier
    private Dictionary<string, EarlierKeys> _earlier = [];

    /// <summary>Whether edits go round the keys of those before them, so that these are asked for.</summary>
    public bool IsSequential => _sequential is not null;

    /// <summary>That an edit takes, at most.</summary>
    public int Rounds => editor is IIteratedEditor iterated ? iterated.Rounds : 1;

    /// <param name="edits">Of each edit (u [R, m], delta [R, n]) by weight.</param>
    /// <param name="earlier">
    /// Of the edits' rounds before, whose candidates the factors were recorded on; what is proposed has those in it. Null: the first round.
    /// </param>
    /// <param name="inForce">The edits before these, which a sequential editor goes round, in their order.</param>
    /// <exception cref="MendException"><see cref="MendError.NotFinite"/>.</exception>
    public IReadOnlyList<StageProposal> Propose(IReadOnlyList<IReadOnlyDictionary<string, GradientFactors>> edits,
        IReadOnlyList<StageProposal>? earlier = null, IReadOnlyList<ActiveEdit>? inForce = null)
    {
        using var _ = no_grad();
        if (_sequential is not null)
            GoRound(inForce ?? [], edits[0]);
        var updates = earlier is null
            ? _sequential is null ? editor.ProposeEach(edits) : [.. edits.Select(edit => _sequential.ProposeAfter(edit, null, _earlier))]
            : [.. edits.Zip(earlier).Select(edit => Again(edit.First, edit.Second))];
        if (!Devices.Numbers(updates.SelectMany(edit => edit.Values).Select(Size)).All(float.IsFinite))
            throw new MendException(MendError.NotFinite, $"The update of stage {stage} has entries that are NaN or infinite.",
                "The edit was not made. Check that editor and model belong together; with 16-bit weights try float32.");
        var alphas = new Queue<float>(Devices.Numbers(updates.SelectMany(edit => edit.Values).Select(update => update.alpha)));
        return [.. updates.Select((edit, i) => Proposal(edit, alphas, edits[i], earlier?[i]))];
    }

    private Dictionary<string, LowRankUpdate> Again(IReadOnlyDictionary<string, GradientFactors> factors, StageProposal earlier) =>
        (_sequential?.ProposeAfter(factors, earlier.Typical, _earlier) ?? ((IIteratedEditor)editor).ProposeAgain(factors, earlier.Typical))
            .ToDictionary(update => update.Key, update => LowRankUpdate.Stack([earlier.Candidate[update.Key], update.Value]));

    /// <summary>The keys of these edits are what later ones go round. They are kept, and those of one more edit are added.</summary>
    private void GoRound(IReadOnlyList<ActiveEdit> edits, IReadOnlyDictionary<string, GradientFactors> weights)
    {
        if (_earlier.Count == 0 || !_known.SequenceEqual(edits.Take(_known.Count)))
        {
            Forget();
            (_known, _earlier) = ([], weights.Keys.ToDictionary(weight => weight, _sequential!.NoEarlier));
        }
        try
        {
            foreach (var (weight, rows) in edits.Skip(_known.Count).SelectMany(edit => edit.Keys))
                if (_earlier.TryGetValue(weight, out var earlier))
                    earlier.Add(rows.On(weights[weight].u.device));
            _known = edits;
        }
        catch
        {
            Forget(); // some of the rows may be in them
            throw;
        }
    }

    private void Forget()
    {
        foreach (var keys in _earlier.Values)
            keys.Dispose();
        _earlier = [];
    }

    /// <param name="alphas">Those of the edit's weights come next, in their order.</param>
    private StageProposal Proposal(IReadOnlyDictionary<string, LowRankUpdate> updates, Queue<float> alphas,
        IReadOnlyDictionary<string, GradientFactors> factors, StageProposal? earlier)
    {
        var candidate = updates.ToDictionary(update => update.Key, update => AsStored(update.Value.Compress(storage.Kept)));
        return new(candidate, [.. candidate.Select(update =>
            new WeightChange(update.Key, Stored(update.Value.uTilde), Stored(update.Value.deltaTilde), alphas.Dequeue(),
                Keys: _sequential is null ? null : Keys(update.Key)))],
            earlier?.Typical ?? (Rounds == 1 ? new Dictionary<string, double>()
                : factors.ToDictionary(entry => entry.Key, entry => entry.Value.TypicalGradient())));

        // of the first round
        WireTensor Keys(string weight) =>
            earlier?.Changes.Single(change => change.Weight == weight).Keys ?? Stored(factors[weight].u);
    }

    /// <summary>A fitted update as the ledger keeps it.</summary>
    public IReadOnlyList<WeightChange> Changes(StageFit fit) =>
        [.. fit.Candidate.Select(update => new WeightChange(update.Key, Stored(update.Value.uTilde), Stored(update.Value.deltaTilde), 1))];

    public void Dispose()
    {
        Forget();
        editor.Dispose();
    }

    private WireTensor Stored(Tensor factor) =>
        WireTensorCodec.Encode(storage.DType == DType.BFloat16 ? factor.to_type(ScalarType.BFloat16) : factor);

    /// <summary>
    /// What <see cref="VersionedUpdates"/> would make of the stored update, to the last bit: it need not go up to the device again.
    /// </summary>
    private LowRankUpdate AsStored(LowRankUpdate update)
    {
        Tensor Of(Tensor factor) =>
            (storage.DType == DType.BFloat16 ? factor.to_type(ScalarType.BFloat16).to_type(ScalarType.Float32) : factor).contiguous();
        return update with { uTilde = Of(update.uTilde), deltaTilde = Of(update.deltaTilde), alpha = update.alpha.clone() };
    }

    /// <summary>Not finite when an entry is not. [] float32.</summary>
    private static Tensor Size(LowRankUpdate update) =>
        update.uTilde.abs().sum().Plus(update.deltaTilde.abs().sum()).Plus(update.alpha.abs());
}

/// <summary>A stage's part of an edit after one of its rounds.</summary>
/// <param name="Candidate">As tensors, of all rounds so far.</param>
/// <param name="Changes">Bit for bit the same, as it travels.</param>
/// <param name="Typical">Length of the first round's gradients by weight; none where there is no other round.</param>
internal sealed record StageProposal(IReadOnlyDictionary<string, LowRankUpdate> Candidate, IReadOnlyList<WeightChange> Changes,
    IReadOnlyDictionary<string, double> Typical);
