using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>Weights read from a Hugging Face directory, each when a layer asks for it.</summary>
public sealed class CheckpointWeights(HuggingFaceDirectory directory, ScalarType dtype, Device? device = null) : Weights(dtype, device)
{
    /// <summary>Prefixes of head models, which checkpoints saved without a head lack (the published gpt2 and bart-base, for two).</summary>
    private static readonly string[] HeadModelPrefixes = ["transformer.", "model.", "bert."];

    public override bool Has(string name) => NameIn(directory, name) is not null;

    protected override Tensor Read(string name, long[] shape, ScalarType dtype)
    {
        var stored = Find(directory, name, shape);
        var value = TensorBytes.Load(stored, dtype, Device);
        RequireFinite(value, stored, name);
        return value;
    }

    /// <summary>The name under which a checkpoint keeps a weight; null: it has none.</summary>
    internal static string? NameIn(HuggingFaceDirectory directory, string name) => Spellings(name).FirstOrDefault(directory.Contains);

    /// <summary>Where a weight lies; its header is read and no more.</summary>
    /// <exception cref="CheckpointException">The checkpoint lacks it.</exception>
    /// <exception cref="ModelException">It has another shape, or no floating type.</exception>
    internal static StoredTensor Find(HuggingFaceDirectory directory, string name, long[] shape)
    {
        var stored = directory.Find([.. Spellings(name)]);
        if (!stored.Shape.SequenceEqual(shape))
            throw new ModelException(stored.File, name,
                $"is [{string.Join(", ", stored.Shape)}], config.json makes it [{string.Join(", ", shape)}]; they belong to different models");
        return stored.Type.IsFloating() ? stored : throw new ModelException(stored.File, name,
            $"is {stored.Type}; weights are F32, BF16, F16 or F64, so this is a quantised model: give the one that it was made from");
    }

    /// <summary>One bad number would answer every question with noise, and no later error could name its place.</summary>
    private static void RequireFinite(Tensor value, StoredTensor stored, string name)
    {
        using var scope = NewDisposeScope();
        if (double.IsFinite(value.sum().to_type(ScalarType.Float64).Host().item<double>())) // NaN and infinity survive a sum; no copy is made
            return;
        var bad = (value - value).ne(0).reshape(-1).nonzero(); // x - x is 0 unless x is NaN or infinite
        if (bad.shape[0] > 0)
            throw new ModelException(stored.File, name, $"has {bad.shape[0]} of {value.numel()} entries that are NaN or infinite as {value.dtype}, "
                + $"the first at {bad.select(0, 0).Host().item<long>()}; the file is damaged, or its training failed");
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
}
