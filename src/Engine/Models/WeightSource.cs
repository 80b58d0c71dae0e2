using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>
/// Where a layer gets its weights while it is built. The quirks of checkpoints are settled here, by name: below there is one convention,
/// weight [out, in]. Keeps what it gave out, by checkpoint name, for saving and for training.
/// </summary>
/// <param name="dtype">In memory, of matrices, their biases and embeddings. Norms stay float32.</param>
/// <param name="device">Where they are held; null: the CPU.</param>
public abstract class WeightSource(ScalarType dtype, Device? device = null)
{
    private readonly Dictionary<string, LoadedWeight> _loaded = [];
    private readonly Dictionary<string, string[]> _copies = [];

    public ScalarType DType { get; } = dtype;

    public Device Device { get; } = device ?? CPU;

    /// <summary>Everything given out so far. Tied weights appear once.</summary>
    public IReadOnlyDictionary<string, LoadedWeight> Loaded => _loaded;

    /// <summary>An nn.Linear weight. [outFeatures, inFeatures].</summary>
    public Tensor Linear(string name, long outFeatures, long inFeatures) => Get(name, [outFeatures, inFeatures], DType, transposed: false);

    /// <summary>GPT-2's Conv1D keeps its weight as [in, out]; returned as [outFeatures, inFeatures], contiguous.</summary>
    public Tensor Conv1D(string name, long outFeatures, long inFeatures) => Get(name, [inFeatures, outFeatures], DType, transposed: true);

    /// <summary>A linear map's bias. [features].</summary>
    public Tensor Bias(string name, long features) => Get(name, [features], DType, transposed: false);

    /// <summary>[rows, features].</summary>
    /// <param name="copies">Further names of the same weight, where it is tied: a checkpoint may keep it under one of these alone.</param>
    public Tensor Embedding(string name, long rows, long features, params string[] copies)
    {
        _copies[name] = copies;
        return Get(name, [rows, features], DType, transposed: false);
    }

    /// <summary>A norm's scale or shift, float32. [features].</summary>
    public Tensor Norm(string name, long features) => Get(name, [features], ScalarType.Float32, transposed: false);

    /// <summary>A small table that is added to scores, float32. [rows, features].</summary>
    public Tensor Table(string name, long rows, long features) => Get(name, [rows, features], ScalarType.Float32, transposed: false);

    /// <summary>A linear map with a bias, under <c>name.weight</c> and <c>name.bias</c>.</summary>
    public EditableLinear Editable(string name, long outFeatures, long inFeatures) =>
        new(name + ".weight", Linear(name + ".weight", outFeatures, inFeatures), Bias(name + ".bias", outFeatures));

    /// <summary>Whether there is such a tensor; for those that some checkpoints lack.</summary>
    public virtual bool Has(string name) => true;

    /// <summary>The further names of a tied weight.</summary>
    protected IReadOnlyList<string> CopiesOf(string name) => _copies.GetValueOrDefault(name, []);

    private Tensor Get(string name, long[] shape, ScalarType dtype, bool transposed)
    {
        if (_loaded.TryGetValue(name, out var held))
            return held.Value;
        var value = Read(name, shape, dtype);
        if (transposed)
            value = Turn(value);
        _loaded[name] = new(value.DetachFromDisposeScope(), transposed);
        return value;
    }

    /// <summary>The transpose, contiguous; takes the place of the value.</summary>
    protected virtual Tensor Turn(Tensor value)
    {
        using (value)
        {
            using var turned = value.t();
            return turned.contiguous();
        }
    }

    /// <summary>The tensor as the checkpoint orders it, on <see cref="Device"/>.</summary>
    protected abstract Tensor Read(string name, long[] shape, ScalarType dtype);
}

/// <param name="Value">In memory: matrices as [out, in].</param>
/// <param name="IsTransposed">Whether the checkpoint's form is the transpose of <paramref name="Value"/> (Conv1D).</param>
public sealed record LoadedWeight(Tensor Value, bool IsTransposed)
{
    /// <summary>The value in the checkpoint's orientation; a view where that is free.</summary>
    public Tensor AsStored() => IsTransposed ? Value.t() : Value;
}

/// <summary>
/// Weights drawn at random from a seed, for training from scratch and for benchmarks: N(0, std), norms 1, biases 0. The same on every
/// device.
/// </summary>
/// <param name="std">By name and shape (as stored); the family's <see cref="ModelFamily.InitialStd"/> fits training from scratch.</param>
public sealed class RandomWeights(long seed, ScalarType dtype, Func<string, long[], double> std, Device? device = null)
    : WeightSource(dtype, device)
{
    private ulong _drawn;

    protected override Tensor Read(string name, long[] shape, ScalarType dtype)
    {
        if (shape.Length == 1)
            return name.EndsWith("bias", StringComparison.Ordinal) ? zeros(shape, dtype, Device) : ones(shape, dtype, Device);
        using var generator = new Generator(unchecked((ulong)seed * 1_000_003 + _drawn++));
        return NewTensor.Normal(shape, generator).Mul_(std(name, shape)).to_type(dtype).On(Device);
    }
}

/// <summary>A copy of another model's weights, of the layers that it has.</summary>
public sealed class CopiedWeights(WeightSource source) : WeightSource(source.DType, source.Device)
{
    public override bool Has(string name) => source.Has(name);

    protected override Tensor Read(string name, long[] shape, ScalarType dtype) => source.Loaded[name].AsStored().detach().clone();
}
