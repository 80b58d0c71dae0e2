using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;

namespace MendCluster.Bench;

/// <summary>
/// The fewest bytes that must pass through the device's memory, counted by hand from the shapes: each matrix once for every product that
/// needs it, editor parameters and their gradients as a step reads and writes them. Not counted: activations, norms, caches; at some 30
/// tokens they are little.
/// </summary>
internal static class Traffic
{
    private const int BytesOfWeight = 2; // bfloat16

    /// <summary>Forward through everything, back to the lowest editable layer, the editor once.</summary>
    public static double Edit(Stage stage, Mend mend) =>
        Linears(stage, all: true) + Linears(stage, all: false) + 2 * Head(stage) + Editor(mend);

    /// <summary>
    /// Of one edit in a window. The edit and its rephrase like an edit; the unrelated example below once, above twice and once back. The
    /// editor forward, dL/dx of all but the first product, and its gradient added to the window's sum (read and written); of Adam's step
    /// the window's part (parameters, two moments and the sum are read, all but the sum are written).
    /// </summary>
    public static double TrainingStep(Stage stage, Mend mend, int window) =>
        3 * Linears(stage, all: true) + 4 * Linears(stage, all: false) + 7 * Head(stage) + Editor(mend) * (1 + 0.75 + 2 + 7.0 / window);

    /// <summary>Of a token after the first: what the decoder reads.</summary>
    public static double Token(Stage stage) =>
        Bytes(stage.Linears().Where(linear => !linear.Name.StartsWith("encoder", StringComparison.Ordinal)
        && !linear.Name.EndsWith("EncDecAttention.k.weight", StringComparison.Ordinal)
            && !linear.Name.EndsWith("EncDecAttention.v.weight", StringComparison.Ordinal))) + Head(stage);

    private static double Linears(Stage stage, bool all) => Bytes(stage.Linears(all));

    private static double Bytes(IEnumerable<EditableLinear> linears) =>
        linears.Sum(linear => (double)BytesOfWeight * linear.InFeatures * linear.OutFeatures);

    private static double Head(Stage stage) => (double)BytesOfWeight * stage.Family.VocabularySize * stage.Linears().First().InFeatures;

    private static double Editor(Mend mend) => sizeof(float) * mend.Parameters.Sum(parameter => (double)parameter.Value.numel());
}
