using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using static TorchSharp.torch;

namespace MendCluster.Engine.Models;

/// <summary>Which layer of a model reads which tensor of a checkpoint.</summary>
/// <param name="Name">The weight's.</param>
/// <param name="StoredName">The tensor's; checkpoints were published with and without prefixes.</param>
/// <param name="Layer">Index into <see cref="ModelFamily.LayerNames"/>. Weights that several layers read have an entry for each.</param>
/// <param name="IsTransposed">Whether the tensor is [in, out] (Conv1D).</param>
public sealed record MappedWeight(string Name, string StoredName, int Layer, bool IsTransposed);

public static class CheckpointMap
{
    /// <summary>The tensors that a model reads, layer by layer. Reads no data.</summary>
    /// <exception cref="MendException">The checkpoint lacks one.</exception>
    /// <exception cref="MendException">One has another shape than config.json says.</exception>
    public static IReadOnlyList<MappedWeight> Of(ModelFamily family, HuggingFaceDirectory files)
    {
        var map = new List<MappedWeight>();
        for (var layer = 0; layer < family.LayerNames.Count; layer++)
        {
            using var scope = NewDisposeScope();
            var weights = new WeightShapes(files: files);
            family.Build(layer, weights);
            foreach (var (name, loaded) in weights.Loaded)
            {
                map.Add(new(name, weights.StoredNames[name], layer, loaded.IsTransposed));
                loaded.Value.Dispose();
            }
        }
        return map;
    }
}
