using System.Text.RegularExpressions;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>Weights read from a Hugging Face directory, each when a layer asks for it.</summary>
public sealed partial class CheckpointWeights(HuggingFaceDirectory directory, ScalarType dtype, Device? device = null)
    : WeightSource(dtype, device)
{
    private static readonly string[] HeadModelPrefixes = [.. FamilyRegistry.All.SelectMany(kind => kind.HeadModelPrefixes).Distinct()];

    /// <summary>Bytes that are compared at a time.</summary>
    private const long Piece = 16 << 20;

    public override bool Has(string name) => NameIn(directory, name) is not null;

    /// <summary>Of a tensor as it is stored; null: there is none.</summary>
    public IReadOnlyList<long>? ShapeOf(string name) => NameIn(directory, name) is { } stored ? directory.Find(stored).Shape : null;

    /// <summary>A tensor as it is stored, in the caller's hands.</summary>
    /// <exception cref="MendException">The checkpoint lacks it, or has it in another shape or of no floating type.</exception>
    public Tensor Read(string name, long[] shape) => Read(name, shape, DType);

    protected override Tensor Read(string name, long[] shape, ScalarType dtype)
    {
        var stored = Find(directory, name, shape, CopiesOf(name));
        var value = TensorBytes.Load(stored, dtype, Device);
        RequireFinite(value, stored, name);
        var own = NameIn(directory, name, CopiesOf(name));
        foreach (var copy in CopiesOf(name).Select(copy => NameIn(directory, copy)).OfType<string>().Where(copy => copy != own))
            RequireSame(value, directory.Find(copy), name, copy);
        return value;
    }

    /// <summary>The name under which a checkpoint keeps a weight; null: it has none.</summary>
    /// <param name="copies">Further names of a tied weight.</param>
    internal static string? NameIn(HuggingFaceDirectory directory, string name, params IEnumerable<string> copies) =>
        copies.Prepend(name).SelectMany(Spellings).FirstOrDefault(directory.Contains);

    /// <summary>Where a weight lies; its header is read and no more.</summary>
    /// <exception cref="MendException">The checkpoint lacks it.</exception>
    /// <exception cref="MendException">It has another shape, or no floating type.</exception>
    internal static StoredTensor Find(HuggingFaceDirectory directory, string name, long[] shape, params IEnumerable<string> copies)
    {
        if (NameIn(directory, name, copies) is null && ClassifierOnly().IsMatch(name))
            throw Fault.File(directory.Source, name,
                "no such tensor: this BERT has no classifier, it was saved before it was trained for a task; "
                + "train one on it (mend pretrain --task fc --from), or give a fine-tuned one (BertForSequenceClassification, or the paper's "
                + "fact checker)");
        var stored = directory.Find([.. copies.Prepend(name).SelectMany(Spellings)]);
        if (!stored.Shape.SequenceEqual(shape))
            throw Fault.Model(stored.File, name,
                $"is [{string.Join(", ", stored.Shape)}], config.json makes it [{string.Join(", ", shape)}]; they belong to different models");
        return stored.Type.IsFloating() ? stored : throw Fault.Model(stored.File, name,
            $"is {stored.Type.Name()}; weights are F32, BF16, F16 or F64, so this is a quantised model: give the one that it was made from");
    }

    /// <summary>One bad number would answer every question with noise, and no later error could name its place.</summary>
    private static void RequireFinite(Tensor value, StoredTensor stored, string name)
    {
        using var scope = NewDisposeScope();
        // NaN and infinity survive a sum; no copy is made
        if (double.IsFinite(value.sum().to_type(ScalarType.Float64).Host().item<double>()))
            return;
        var bad = (value - value).Ne(0).reshape(-1).nonzero(); // x - x is 0 unless x is NaN or infinite
        if (bad.shape[0] > 0)
            throw Fault.Model(stored.File, name,
                $"has {bad.shape[0]} of {value.numel()} entries that are NaN or infinite as {value.dtype}, "
                + $"the first at {bad.select(0, 0).Host().item<long>()}; the file is damaged, or its training failed");
    }

    /// <summary>
    /// The copies of a tied weight must be equal: transformers 4 reads one of them for all, transformers 5 each by itself.
    /// </summary>
    private static void RequireSame(Tensor value, StoredTensor stored, string name, string copy)
    {
        var isSame = stored.Shape.SequenceEqual(value.shape) && stored.Type.IsFloating();
        var step = isSame ? Math.Max(1, Piece / (stored.ByteLength / stored.Shape[0])) : 1;
        for (long first = 0; isSame && first < stored.Shape[0]; first += step)
        {
            using var scope = NewDisposeScope();
            var rows = TensorBytes.Load(stored.Rows(first, Math.Min(step, stored.Shape[0] - first)), value.dtype, value.device);
            isSame = value.narrow(0, first, rows.shape[0]).eq(rows).all().Host().item<bool>();
        }
        if (!isSame)
            throw Fault.Model(stored.File, name,
                $"is tied to {copy} by config.json, but the checkpoint holds two different tensors of these names; "
                + "an untied model of this kind is not supported");
    }

    /// <summary>The names under which checkpoints are known to keep a weight, the proper one first.</summary>
    private static IEnumerable<string> Spellings(string name)
    {
        yield return name;
        foreach (var prefix in HeadModelPrefixes)
            if (name.StartsWith(prefix, StringComparison.Ordinal))
                yield return name[prefix.Length..];
        yield return "model." + name; // of a training module around the model: the paper's fact checker and question answering model
        if (name.EndsWith(".LayerNorm.weight", StringComparison.Ordinal)) // converted from TensorFlow
            foreach (var old in Spellings(name[..^"weight".Length] + "gamma"))
                yield return old;
        if (name.EndsWith(".LayerNorm.bias", StringComparison.Ordinal))
            foreach (var old in Spellings(name[..^"bias".Length] + "beta"))
                yield return old;
    }

    [GeneratedRegex(@"^(classifier|(bert|model)\.pooler\.dense)\.(weight|bias)$", RegexOptions.CultureInvariant)]
    private static partial Regex ClassifierOnly();
}
