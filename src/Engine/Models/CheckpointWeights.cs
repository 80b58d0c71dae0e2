using MendCluster.Engine.Checkpoints;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>Weights read from a Hugging Face directory, each when a layer asks for it.</summary>
public sealed class CheckpointWeights(HuggingFaceDirectory directory, ScalarType dtype) : Weights(dtype)
{
    /// <summary>Prefixes of head models, which checkpoints saved without a head lack (the published gpt2 and bart-base, for two).</summary>
    private static readonly string[] HeadModelPrefixes = ["transformer.", "model.", "bert."];

    public override bool Has(string name) => Spellings(name).Any(directory.Contains);

    protected override Tensor Read(string name, long[] shape, ScalarType dtype)
    {
        var stored = directory.Find([.. Spellings(name)]);
        if (!stored.Shape.SequenceEqual(shape))
            throw new ModelException(stored.File, name,
                $"is [{string.Join(", ", stored.Shape)}], config.json makes it [{string.Join(", ", shape)}]; they belong to different models");
        return TensorBytes.Load(stored, dtype);
    }

    /// <summary>The names under which checkpoints are known to keep a tensor, the proper one first.</summary>
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
