using MendCluster.Contracts;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// What a shard keeps of the probes from one edit to the next: what is below its lowest editable layer and, on the last stage, the logits
/// of the unedited model, of the last candidate and, once a budget asked for it, of the base model. It is of the last coordinator that asked, and goes with the shard.
/// </summary>
internal sealed class KeptProbes : IDisposable
{
    private readonly Dictionary<long, Tensor?> _logits = []; // by the pass; null below the last stage
    private Activations? _frozen;

    /// <summary>What is below the lowest editable layer; null where the pass is not known.</summary>
    public Activations? Frozen(long? pass) => Has(pass) ? _frozen : null;

    /// <summary>[M, V]; null where the pass is not known.</summary>
    public Tensor? Logits(long? pass) => Has(pass) ? _logits[pass!.Value] : null;

    /// <param name="frozen">Null where the stage has no editable layer.</param>
    /// <param name="logits">[M, V] on the last stage, otherwise null.</param>
    public void Keep(ProbePass pass, Activations? frozen, Tensor? logits)
    {
        foreach (var (old, dropped) in _logits.Where(entry => entry.Key != pass.Before && entry.Key != pass.Base).ToList())
        {
            dropped?.Dispose();
            _logits.Remove(old);
        }
        _logits[pass.Number] = logits?.DetachFromDisposeScope();
        if (pass.Before is not null)
            return;
        Forget();
        frozen?.Hidden?.DetachFromDisposeScope();
        frozen?.Memory?.DetachFromDisposeScope();
        _frozen = frozen;
    }

    public void Dispose()
    {
        foreach (var logits in _logits.Values)
            logits?.Dispose();
        Forget();
    }

    private bool Has(long? pass) => pass is { } number && _logits.ContainsKey(number);

    private void Forget()
    {
        _frozen?.Hidden?.Dispose();
        _frozen?.Memory?.Dispose();
        _frozen = null;
    }
}
