using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Training;

namespace MendCluster.Bench;

/// <summary>Matrix products of one shape: [Rows, In] x [In, Out].</summary>
/// <param name="InWeightsType">Of the model; those of the editor and of the updates are in float32.</param>
/// <param name="Times">How many.</param>
internal readonly record struct Product(long Rows, long In, long Out, bool InWeightsType, double Times)
{
    /// <summary>A multiply-add is two.</summary>
    public double Operations => 2.0 * Rows * In * Out * Times;
}

/// <summary>
/// The matrix products that the method needs, counted by hand from the shapes. Counted: linear maps and head, forward and dL/dx above the
/// lowest editable layer; the editor forward and backward; the low-rank updates. Not counted: attention scores, norms, softmax.
/// </summary>
internal sealed record Operations(IReadOnlyList<Product> Products)
{
    /// <summary>Floating-point operations of all of them.</summary>
    public double Total => Products.Sum(product => product.Operations);

    public static Operations EditForward(Stage stage, EditBatch batch) =>
        new([.. Maps(stage, batch.Inner, all: true), Head(stage, Scored(batch.Inner))]);

    public static Operations EditBackward(Stage stage, EditBatch batch) =>
        new([.. Back([.. Maps(stage, batch.Inner, all: false), Head(stage, Scored(batch.Inner))])]);

    /// <param name="rows">Of all weights' factors together.</param>
    public static Operations EditEditor(Mend mend, long rows) => new([.. Editors(mend, rows)]);

    public static Operations Edit(Stage stage, Mend mend, EditBatch batch, long rows) => new([.. EditForward(stage, batch).Products,
        .. EditBackward(stage, batch).Products, .. EditEditor(mend, rows).Products]);

    public static Operations TrainingStep(Stage stage, Mend mend, EditBatch batch, long rows)
    {
        // The rephrase like the edit; the locality example below once, above twice (with and without the edit) and once back, its head on
        // every token.
        List<Product> outer = [.. Maps(stage, batch.Outer, all: false), Head(stage, Scored(batch.Outer))];
        List<Product> locality = [.. Maps(stage, batch.Locality, all: false), Head(stage, Tokens(batch.Locality))];
        // Updates: x uTilde^T deltaTilde on both examples, then dL/dx, dL/duTilde and dL/ddeltaTilde.
        var (own, seen) = (rows / stage.Editable.Count, Tokens(batch.Outer) + Tokens(batch.Locality));
        var updates = stage.Editable.Values.SelectMany(linear => new[]
        {
            new Product(seen, linear.InFeatures, own, false, 1), new Product(seen, own, linear.OutFeatures, false, 1),
            new Product(seen, own, linear.InFeatures, false, 1), new Product(seen, linear.OutFeatures, own, false, 1),
            new Product(own, seen, linear.InFeatures, false, 1), new Product(own, seen, linear.OutFeatures, false, 1),
        });
        // Backward of the editor: dL/dU and dL/dV of every block, dL/dx of all but the first.
        List<Product> editor = [.. Editors(mend, rows)];
        var gradients = editor.Select(product => product with { Rows = product.Out, In = product.Rows, Out = product.In });
        var inputs = Back(editor).Select(product => product with { Times = 0.75 * product.Times });
        return new([.. Edit(stage, mend, batch, rows).Products, .. Maps(stage, batch.Outer, all: true), outer[^1], .. Back(outer),
            .. Maps(stage, batch.Locality, all: true), locality[^1], .. locality, .. Back(locality),
            .. updates, .. gradients, .. inputs]);
    }

    /// <summary>All linear maps, or those from the lowest editable layer up.</summary>
    private static IEnumerable<Product> Maps(Stage stage, LabelledInput example, bool all)
    {
        var (source, target) = (example.Input.InputIds.shape[1], Tokens(example));
        return stage.Linears(all).Select(linear => new Product(linear.Name.StartsWith("encoder", StringComparison.Ordinal)
            || linear.Name.Contains("EncDecAttention.k", StringComparison.Ordinal)
                || linear.Name.Contains("EncDecAttention.v", StringComparison.Ordinal) ? source : target,
            linear.InFeatures, linear.OutFeatures, true, 1));
    }

    private static Product Head(Stage stage, long rows) =>
        new(rows, stage.Linears().First().InFeatures, stage.Family.VocabularySize, true, 1);

    /// <summary>dL/dx of products.</summary>
    private static IEnumerable<Product> Back(IEnumerable<Product> products) =>
        products.Select(product => product with { In = product.Out, Out = product.In });

    /// <summary>Every network's, over its share of the rows: [rows, d] x [d, r] and [rows, r] x [r, d].</summary>
    private static IEnumerable<Product> Editors(Mend mend, long rows)
    {
        var networks = mend.Parameters.Select(parameter => parameter.Name.Split(").")[0]).Distinct().Count();
        return mend.Parameters.Where(parameter => parameter.Name.EndsWith(".u", StringComparison.Ordinal)
            || parameter.Name.EndsWith(".v", StringComparison.Ordinal))
            .Select(parameter => new Product(rows / networks, parameter.Value.shape[1], parameter.Value.shape[0], false, 1));
    }

    private static long Scored(LabelledInput example) => ScoredPositions.Of(example.Labels, false).Targets.shape[0];

    private static long Tokens(LabelledInput example) => (example.Input.DecoderInputIds ?? example.Input.InputIds).shape[1];
}
