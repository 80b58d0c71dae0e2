using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>What one layer of a model holds, as its configuration makes it: no weight is read.</summary>
/// <param name="Weights">Elements by name, and whether the weight stays float32 in memory whatever the model's type (norms).</param>
/// <param name="Linears">In forward order.</param>
/// <param name="IsHead">The head, whose product is made for the scored positions alone.</param>
public sealed record LayerShape(
    string Name, IReadOnlyDictionary<string, (long Elements, bool IsFloat32)> Weights, IReadOnlyList<LinearShape> Linears, bool IsHead)
{
    /// <summary>All layers, in order.</summary>
    /// <param name="files">The checkpoint whose headers must agree; null: the configuration is asked alone.</param>
    /// <exception cref="MendException">The checkpoint lacks a weight.</exception>
    /// <exception cref="MendException">A weight has another shape there.</exception>
    public static IReadOnlyList<LayerShape> Of(ModelFamily family, HuggingFaceDirectory? files = null) =>
        [.. family.LayerNames.Select((name, i) =>
    {
        // bfloat16 tells the weights that follow the model's type from those that do not.
        using var layer = Stage.Load(family, new(i, i + 1), new WeightShapes(ScalarType.BFloat16, files), []);
        return new LayerShape(name,
            layer.Weights.Loaded.ToDictionary(weight => weight.Key,
            weight => (weight.Value.Value.numel(), weight.Value.Value.dtype == ScalarType.Float32)),
            [.. layer.Linears().Select(linear => new LinearShape(linear.Name, linear.InFeatures, linear.OutFeatures))],
                layer.Head is not null);
    })];
}

/// <param name="Name">The weight's, as in the checkpoint.</param>
public sealed record LinearShape(string Name, long InFeatures, long OutFeatures);
