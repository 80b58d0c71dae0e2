using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>
/// The token ids of a batch, on the host. B examples, S source tokens, T decoder tokens; padding is on the right, but that of answers
/// that go on together: their decoder tokens end at the same place (<see cref="KeyValueCache"/>).
/// </summary>
/// <param name="InputIds">[B, S] int64.</param>
/// <param name="AttentionMask">[B, S] int64, 1 = token, 0 = padding.</param>
/// <param name="DecoderInputIds">[B, T] int64; encoder-decoder models only.</param>
/// <param name="DecoderAttentionMask">
/// [B, T] int64, with the tokens before where they are cached; absent means that every decoder position is a token.
/// </param>
public sealed record ModelInput(
    Tensor InputIds, Tensor AttentionMask, Tensor? DecoderInputIds = null, Tensor? DecoderAttentionMask = null)
{
    public long BatchSize => InputIds.shape[0];
}

/// <summary>What travels from one layer to the next, and over the wire from one stage to the next.</summary>
/// <param name="Hidden">[B, T, C] float32; null at the entry of a stack, where the embedding makes it.</param>
/// <param name="Memory">[B, S, C] float32, the encoder's output; null in decoder-only models and before the encoder's end.</param>
public sealed record Activations(Tensor? Hidden, Tensor? Memory)
{
    public static readonly Activations None = new(null, null);
}

/// <summary>
/// One trip of a batch through a range of layers: what the layers read beside the activations. Made anew for every trip; holds what
/// the layers of one stack share (attention biases), so that each is computed once.
/// </summary>
/// <param name="input">The token ids.</param>
/// <param name="edits">Active updates by weight name; empty for the base model.</param>
/// <param name="recording">Collects (u, z) of the editable layers when the pass is an edit's.</param>
/// <param name="cache">Keys and values of the tokens before this pass, when generating.</param>
public sealed class ForwardContext(ModelInput input, WeightUpdates? edits = null, Recording? recording = null, KeyValueCache? cache = null)
{
    private readonly Dictionary<string, Tensor> _shared = [];

    public ModelInput Input { get; } = input;

    public WeightUpdates Edits { get; } = edits ?? WeightUpdates.None;

    public Recording? Recording { get; } = recording;

    public KeyValueCache? Cache { get; } = cache;

    /// <summary>Where the layers compute: the stage says it.</summary>
    internal Device Device { get; set; } = CPU;

    /// <summary>Generating the second token or a later one: the encoder has run, its keys and values are cached.</summary>
    public bool ContinuesGeneration => Cache is { Length: > 0 };

    /// <summary>
    /// Where each decoder token of the pass stands in its own row. [1, T], or [B, T] where rows begin with padding; int64, on the host.
    /// </summary>
    internal Tensor DecoderPositions(long T) => Shared("positions", () =>
    {
        var start = Cache?.Length ?? 0;
        return Cache is null || Cache.Padding.All(slots => slots == 0) ? NewTensor.Arange(start, start + T, device: CPU).unsqueeze(0)
            : NewTensor.Of([.. Cache.Padding.SelectMany(slots => Range(start - slots, T))], Cache.Padding.Count, T);

        static IEnumerable<long> Range(long first, long count) =>
            Enumerable.Range(0, (int)count).Select(i => Math.Max(0, first + i)); // padding has none
    });

    /// <summary>0 or <see cref="Layers.Masked"/> for the keys of the source. [B, 1, 1, S] float32.</summary>
    internal Tensor SourceBias => Shared("source bias", () => Layers.PaddingBias(Input.AttentionMask.On(Device)));

    /// <summary>0 or <see cref="Layers.Masked"/> for causal self-attention: later keys, and padding where there is a mask for it.</summary>
    /// <returns>[B or 1, 1, T, S] float32; queries are the last T of S tokens.</returns>
    internal Tensor CausalBias(long T, long S, long? window = null) => Shared($"causal bias {window}", () =>
    {
        var mask = Input.DecoderInputIds is null ? Input.AttentionMask : Input.DecoderAttentionMask;
        var causal = Layers.CausalBias(T, S, Device, window);
        return mask is null ? causal : causal.Plus(Layers.PaddingBias(mask.On(Device)));
    });

    /// <summary>A tensor that all layers of a stack use, made by the first that asks.</summary>
    internal Tensor Shared(string name, Func<Tensor> make)
    {
        if (!_shared.TryGetValue(name, out var tensor))
            _shared[name] = tensor = make().MoveToOuterDisposeScope(); // out of the layer's scope, into the pass's
        return tensor;
    }
}

/// <summary>
/// The updates that are in force, by the name of the weight they change. Immutable: a version of the model is one of these.
/// </summary>
public sealed class WeightUpdates(IReadOnlyDictionary<string, WeightUpdate> updates)
{
    public static readonly WeightUpdates None = new(new Dictionary<string, WeightUpdate>());

    /// <summary>Of updates that an editor made.</summary>
    public WeightUpdates(IReadOnlyDictionary<string, LowRankUpdate> updates)
        : this(updates.ToDictionary(update => update.Key, update => (WeightUpdate)update.Value))
    {
    }

    public IReadOnlyDictionary<string, WeightUpdate> Updates { get; } = updates;

    public WeightUpdate? For(string weight) => Updates.GetValueOrDefault(weight);
}

/// <summary>
/// What an edit's forward pass keeps of each editable layer: its input u and its output z, so that delta = dL/dz can be asked of
/// autograd for those tensors alone. No gradient of a weight is ever computed.
/// </summary>
public sealed class Recording
{
    private readonly List<(string Weight, Tensor u, Tensor z)> _kept = [];

    /// <summary>The recorded outputs z, in forward order; the inputs of the autograd call.</summary>
    public IReadOnlyList<Tensor> Outputs => _kept.Select(kept => kept.z).ToList();

    public IReadOnlyList<string> Weights => _kept.Select(kept => kept.Weight).ToList();

    /// <summary>Their u [..., m], by weight.</summary>
    public IReadOnlyList<(string Weight, Tensor u)> Inputs => [.. _kept.Select(kept => (kept.Weight, kept.u))];

    /// <summary>Everything that is kept, for whoever keeps the recording beyond a dispose scope.</summary>
    public IEnumerable<Tensor> Tensors => _kept.SelectMany(kept => new[] { kept.u, kept.z });

    /// <summary>Keeps u and z. The lowest recorded z has no graph below it and becomes a leaf.</summary>
    internal Tensor Keep(string weight, Tensor u, Tensor z)
    {
        if (!z.requires_grad)
            z = z.detach().requires_grad_();
        _kept.Add((weight, u.detach().MoveToOuterDisposeScope(), z.MoveToOuterDisposeScope())); // out of the layer's scope, into the pass's
        return z;
    }

    /// <summary>The same of each example of the batch, by itself.</summary>
    public IReadOnlyList<IReadOnlyDictionary<string, GradientFactors>> FactorsOfEach(IReadOnlyList<Tensor> deltas)
    {
        var examples = (int)_kept[0].u.shape[0];
        var factors = GradientFactors.FromRows([.. Enumerable.Range(0, examples).SelectMany(example =>
            _kept.Select((kept, i) => (kept.u.select(0, example), deltas[i].select(0, example))))]);
        return [.. Enumerable.Range(0, examples).Select(example =>
            _kept.Select((kept, i) => (kept.Weight, Factors: factors[example * _kept.Count + i]))
                .ToDictionary(entry => entry.Weight, entry => entry.Factors))];
    }

    /// <summary>Pairs each kept u with its delta.</summary>
    /// <param name="deltas">dL/dz for <see cref="Outputs"/>, in that order.</param>
    public IReadOnlyDictionary<string, GradientFactors> Factors(IReadOnlyList<Tensor> deltas)
    {
        var factors = GradientFactors.FromRows([.. _kept.Select((kept, i) => (kept.u, deltas[i]))]);
        return _kept.Select((kept, i) => (kept.Weight, Factors: factors[i])).ToDictionary(entry => entry.Weight, entry => entry.Factors);
    }
}
