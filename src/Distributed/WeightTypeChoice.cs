using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Torch;

namespace MendCluster.Distributed;

/// <summary>
/// The type of a model's weights in memory where nobody names one: float32, unless the checkpoint itself is in bfloat16 and this CPU
/// multiplies it faster. For a model in one process; all shards of a cluster of machines have the type of its settings.
/// </summary>
/// <param name="Reason">Null: there was nothing to choose.</param>
public sealed record WeightTypeChoice(DType Type, string? Reason)
{
    /// <param name="modelDirectory">A Hugging Face directory, whose headers are read.</param>
    /// <exception cref="MendException">The model cannot be read.</exception>
    public static WeightTypeChoice Of(string modelDirectory) => Of(modelDirectory, CpuFeatures.IsBFloat16Faster);

    /// <param name="isFaster">Whether products in bfloat16 are.</param>
    internal static WeightTypeChoice Of(string modelDirectory, bool isFaster) => ModelText.Reading<WeightTypeChoice>(() =>
    {
        using var files = HuggingFaceDirectory.Open(modelDirectory);
        var matrices = files.Names.Select(name => files.Find(name)).Where(tensor => tensor.Shape.Length > 1 && tensor.Type.IsFloating());
        return matrices.Any(tensor => tensor.Type != DType.BFloat16) ? new(DType.Float32, null)
            : isFaster ? new(DType.BFloat16, "as the checkpoint has them; this CPU multiplies them faster than float32")
            : new(DType.Float32, "the checkpoint has bfloat16, which this CPU does not multiply faster");
    });
}
