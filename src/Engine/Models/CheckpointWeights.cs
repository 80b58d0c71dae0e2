using MendCluster.Engine.Checkpoints;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>Weights read from a Hugging Face directory, each when a layer asks for it.</summary>
public sealed class CheckpointWeights(HuggingFaceDirectory directory, ScalarType dtype) : Weights(dtype)
{
    /// <summary>The head model's prefix, which checkpoints saved without a head lack (the published gpt2, for one).</summary>
    private const string HeadModelPrefix = "transformer.";

    /// <summary>Where a weight lies; its header is read and no more.</summary>
    /// <exception cref="CheckpointException">It is not there.</exception>
    /// <exception cref="ModelException">It has another shape.</exception>
    internal static StoredTensor Find(HuggingFaceDirectory directory, string name, long[] shape)
    {
        var stored = name.StartsWith(HeadModelPrefix, StringComparison.Ordinal)
            ? directory.Find(name, name[HeadModelPrefix.Length..])
            : directory.Find(name);
        return stored.Shape.SequenceEqual(shape) ? stored
            : throw new ModelException(stored.File, name,
                $"is [{string.Join(", ", stored.Shape)}], config.json makes it [{string.Join(", ", shape)}]; they belong to different models");
    }

    protected override Tensor Read(string name, long[] shape, ScalarType dtype) => TensorBytes.Load(Find(directory, name, shape), dtype);
}
