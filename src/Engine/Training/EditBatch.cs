using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>Token ids with the labels that they are scored on.</summary>
/// <param name="Labels">[B, T] int64, -100 where not scored.</param>
public sealed record LabelledInput(ModelInput Input, Tensor Labels)
{
    /// <summary>Of one edit: what the KnowledgeEditor reads of it, [1, T] int64. Null where nothing was given to read.</summary>
    public Tensor? Condition { get; init; }
}

/// <summary>What one training or evaluation step reads.</summary>
/// <param name="Inner">The edit itself: (x_e, y_e).</param>
/// <param name="Outer">The edit's rephrases, on which the edited model is scored: (x'_e, y'_e).</param>
/// <param name="Locality">Unrelated examples: (x_loc, y_loc).</param>
public sealed record EditBatch(LabelledInput Inner, LabelledInput Outer, LabelledInput Locality);
