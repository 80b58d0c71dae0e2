using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>Token ids with the labels that they are scored on, on the host.</summary>
/// <param name="Labels">[B, T] int64, -100 where not scored.</param>
public sealed record LabelledInput(ModelInput Input, Tensor Labels)
{
    /// <summary>Of one edit: what the KnowledgeEditor reads of it, [1, T] int64. Null where nothing was given to read.</summary>
    public Tensor? Condition { get; init; }

    /// <summary>Some of the examples, as views.</summary>
    public LabelledInput Slice(long first, long count) => Each(whole => whole.narrow(0, first, count));

    /// <summary>Some of the examples, as copies.</summary>
    /// <param name="which">[N] int64, on the host.</param>
    public LabelledInput Rows(Tensor which) => Each(whole => whole.index_select(0, which));

    private LabelledInput Each(Func<Tensor, Tensor> of) => new(new(of(Input.InputIds), of(Input.AttentionMask),
        Input.DecoderInputIds is { } ids ? of(ids) : null, Input.DecoderAttentionMask is { } mask ? of(mask) : null), of(Labels));
}

/// <summary>What one training or evaluation step reads.</summary>
/// <param name="Inner">The edit itself: (x_e, y_e).</param>
/// <param name="Outer">The edit's rephrases, on which the edited model is scored: (x'_e, y'_e).</param>
/// <param name="Locality">Unrelated examples: (x_loc, y_loc).</param>
public sealed record EditBatch(LabelledInput Inner, LabelledInput Outer, LabelledInput Locality)
{
    /// <summary>The batch in portions of at most so many edits, with their share of the rephrases and of the unrelated examples.</summary>
    public IReadOnlyList<EditBatch> Split(long edits)
    {
        var least = Math.Min(Inner.Input.BatchSize, Math.Min(Outer.Input.BatchSize, Locality.Input.BatchSize));
        var portions = Math.Min((Inner.Input.BatchSize + edits - 1) / edits, least); // no portion may be empty
        return [.. Enumerable.Range(0, (int)portions).Select(i => new EditBatch(Part(Inner, i), Part(Outer, i), Part(Locality, i)))];

        LabelledInput Part(LabelledInput whole, int i)
        {
            var (first, end) = (whole.Input.BatchSize * i / portions, whole.Input.BatchSize * (i + 1) / portions);
            return whole.Slice(first, end - first);
        }
    }
}
