using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;

namespace MendCluster.Bench;

/// <summary>
/// The fewest bytes that must pass through the device's memory, counted by hand from the shapes: each matrix once for every product that
/// needs it, editor parameters and their gradients as a step reads and writes them. Not counted: activations, norms, caches; at some 30
/// tokens they are little.
/// </summary>
internal sealed class Traffic(Stage stage, Mend mend)
{
    private readonly long _bytesOfWeight = stage.Weights.Loaded[stage.Linears().First().Name].Value.element_size();

    public double EditForward => Linears(all: true) + Head;

    /// <summary>Back to the lowest editable layer.</summary>
    public double EditBackward => Linears(all: false) + Head;

    public double EditEditor => sizeof(float) * mend.Parameters.Sum(parameter => (double)parameter.Value.numel());

    public double Edit => EditForward + EditBackward + EditEditor;

    /// <summary>
    /// Of one edit in a window. The edit and its rephrase like an edit; the unrelated example below once, above twice and once back. The
    /// editor forward, dL/dx of all but the first product, and its gradient added to the window's sum (read and written); of Adam's step
    /// the window's part (parameters, two moments and the sum are read, all but the sum are written).
    /// </summary>
    public double TrainingStep(int window) =>
        3 * Linears(all: true) + 4 * Linears(all: false) + 7 * Head + EditEditor * (1 + 0.75 + 2 + 7.0 / window);

    /// <summary>Of a token after the first: what the decoder reads.</summary>
    public double Token =>
        Bytes(stage.Linears().Where(linear => !linear.Name.StartsWith("encoder", StringComparison.Ordinal)
        && !linear.Name.EndsWith("EncDecAttention.k.weight", StringComparison.Ordinal)
            && !linear.Name.EndsWith("EncDecAttention.v.weight", StringComparison.Ordinal))) + Head;

    private double Head => (double)_bytesOfWeight * stage.Family.VocabularySize * stage.Linears().First().InFeatures;

    private double Linears(bool all) => Bytes(stage.Linears(all));

    private double Bytes(IEnumerable<EditableLinear> linears) =>
        linears.Sum(linear => (double)_bytesOfWeight * linear.InFeatures * linear.OutFeatures);
}
