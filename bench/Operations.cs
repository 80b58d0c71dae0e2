using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;

namespace MendCluster.Bench;

/// <summary>
/// Floating-point operations of the matrix products that the method needs, counted by hand from the shapes (a multiply-add is two).
/// Counted: linear maps and head, forward and dL/dx above the lowest editable layer; the editor forward and backward; the low-rank
/// updates. Not counted: attention scores, norms, softmax.
/// </summary>
/// <param name="Base">In the weights' type.</param>
/// <param name="Editor">In float32: editor and updates.</param>
internal sealed record Operations(double Base, double Editor)
{
    public static Operations Edit(Stage stage, Mend mend, EditBatch batch, long rows) =>
        new(Forward(stage, batch.Inner, all: true) + Forward(stage, batch.Inner, all: false) + 2 * Head(stage, Scored(batch.Inner)),
        EditorForward(mend, rows));

    public static Operations TrainingStep(Stage stage, Mend mend, EditBatch batch, long rows)
    {
        var edit = Edit(stage, mend, batch, rows);
        // The rephrase like the edit; the locality example below once, above twice (with and without the edit) and once back, its head on
        // every token.
        var outer = Forward(stage, batch.Outer, all: true) + Forward(stage, batch.Outer, all: false) + 2 * Head(stage, Scored(batch.Outer));
        var locality = Forward(stage, batch.Locality, all: true) + 2 * Forward(stage, batch.Locality, all: false)
            + 3 * Head(stage, Tokens(batch.Locality));
        // Updates: x uTilde^T deltaTilde on both examples, then dL/dx, dL/duTilde and dL/ddeltaTilde.
        var updates = 3.0 * stage.Editable.Values.Sum(linear =>
            2.0 * (linear.InFeatures + linear.OutFeatures)) * rows / stage.Editable.Count
            * (Tokens(batch.Outer) + Tokens(batch.Locality));
        // Backward of the editor: dL/dU and dL/dV of every block, dL/dx of all but the first.
        return new(edit.Base + outer + locality, EditorForward(mend, rows) * (1 + 1 + 0.75) + updates);
    }

    /// <summary>All linear maps, or those from the lowest editable layer up.</summary>
    private static double Forward(Stage stage, LabelledInput example, bool all)
    {
        var (source, target) = (example.Input.InputIds.shape[1], (example.Input.DecoderInputIds ?? example.Input.InputIds).shape[1]);
        return stage.Linears(all).Sum(linear => 2.0 * linear.InFeatures * linear.OutFeatures
            * (linear.Name.StartsWith("encoder", StringComparison.Ordinal)
            || linear.Name.Contains("EncDecAttention.k", StringComparison.Ordinal)
                || linear.Name.Contains("EncDecAttention.v", StringComparison.Ordinal) ? source : target));
    }

    private static double Head(Stage stage, long rows) => 2.0 * rows * stage.Family.VocabularySize * stage.Linears().First().InFeatures;

    private static double EditorForward(Mend mend, long rows) =>
        mend.Parameters.Where(parameter => parameter.Name.EndsWith(".u", StringComparison.Ordinal)
        || parameter.Name.EndsWith(".v", StringComparison.Ordinal))
            .Sum(parameter => 2.0 * parameter.Value.numel()) * rows / mend.Parameters.Select(parameter => parameter.Name.Split(").")[0])
                .Distinct().Count();

    private static long Scored(LabelledInput example) => ScoredPositions.Of(example.Labels, false).Targets.shape[0];

    private static long Tokens(LabelledInput example) => (example.Input.DecoderInputIds ?? example.Input.InputIds).shape[1];
}
