using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors.Baselines;

/// <summary>
/// ENN (Sinitsin et al., 2020; mend-spec 7.3): an edit is a plain gradient step with a learned size for each weight, and the model itself
/// is trained so that such steps edit it well and harm nothing. All its weights change in training, so the result is another model.
/// </summary>
public sealed class Enn : IEditor, IDisposable
{
    private readonly IReadOnlyList<EditableWeight> _weights;

    /// <param name="weights">That an edit changes.</param>
    /// <param name="editLrs">[K] float32, in the order of the weights; copied, and on their device. Null: as the options say.</param>
    /// <param name="device">Of new ones; null: the CPU.</param>
    public Enn(EnnOptions options, IReadOnlyList<EditableWeight> weights, Tensor? editLrs = null, Device? device = null)
    {
        (Options, _weights) = (options.Validated(), weights);
        if (editLrs is not null && editLrs.shape[0] != weights.Count)
            throw Fault.Editor($"edit_lrs has {editLrs.shape[0]} entries for {weights.Count} editable weights");
        EditLrs = (editLrs is not null ? editLrs.KeptCopy(ScalarType.Float32)
            : NewTensor.Full([weights.Count], options.EditLr, device: device)).requires_grad_().DetachFromDisposeScope();
    }

    public EnnOptions Options { get; }

    /// <summary>[K] float32, trained with the model.</summary>
    public Tensor EditLrs { get; }

    /// <summary>One step: W' = W - lr delta^T u. For <see cref="EnnOptions.EditSteps"/> of 1.</summary>
    public IReadOnlyDictionary<string, LowRankUpdate> Propose(IReadOnlyDictionary<string, GradientFactors> factors)
    {
        using var _ = no_grad();
        return _weights.Index().Where(weight => factors.ContainsKey(weight.Item.Name)).ToDictionary(weight => weight.Item.Name,
            weight => new LowRankUpdate(factors[weight.Item.Name].u, factors[weight.Item.Name].delta, EditLrs.select(0, weight.Index)));
    }

    /// <summary>One step from where a weight stands: R - lr dL/dR, with the graph of both.</summary>
    /// <param name="R">What earlier steps added, [n, m].</param>
    internal Tensor Step(int weight, Tensor R, Tensor gradient) => R - gradient * EditLrs.select(0, weight);

    public void Dispose() => EditLrs.Dispose();
}
