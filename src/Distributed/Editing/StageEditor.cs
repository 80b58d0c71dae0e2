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
    /// <summary>The candidate as tensors and, bit for bit the same, as it travels.</summary>
    /// <param name="factors">(u [R, m], delta [R, n]) by weight.</param>
    /// <exception cref="MendException"><see cref="MendError.NotFinite"/>.</exception>
    public (IReadOnlyDictionary<string, LowRankUpdate> Candidate,
        List<WeightChange> Changes) Propose(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        using var _ = no_grad();
        var updates = editor.Propose(factors);
        if (!Devices.Numbers(updates.Values.Select(Size)).All(float.IsFinite))
            throw new MendException(MendError.NotFinite, $"The update of stage {stage} has entries that are NaN or infinite.",
                "The edit was not made. Check that editor and model belong together; with 16-bit weights try float32.");
        var alpha = Devices.Numbers(updates.Values.Select(update => update.alpha));
        var candidate = updates.ToDictionary(update => update.Key, update => AsStored(update.Value.Compress(storage.Kept)));
        return (candidate, [.. candidate.Select((update, i) =>
            new WeightChange(update.Key, Stored(update.Value.uTilde), Stored(update.Value.deltaTilde), alpha[i]))]);
    }

    public void Dispose() => editor.Dispose();

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
