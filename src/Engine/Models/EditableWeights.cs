using System.IO.Enumeration;
using System.Text.RegularExpressions;

namespace MendCluster.Engine.Models;

/// <summary>The weights that an editor may change: by the name of a model of the paper, or by patterns.</summary>
public static partial class EditableWeights
{
    /// <summary>By the names of the paper's configurations, each in its order, which numbers an editor's modes (mend-spec 5.1).</summary>
    public static IReadOnlyDictionary<string, IReadOnlyList<string>> Published { get; } = new Dictionary<string, IReadOnlyList<string>>
    {
        ["bert-base"] = Of("model.encoder.layer", [9, 10, 11], "intermediate.dense", "output.dense"),
        ["bart-base"] = [.. Of("model.encoder.layers", [4, 5], "fc1", "fc2"), .. Of("model.decoder.layers", [4, 5], "fc1", "fc2")],
        ["distilgpt2"] = Of("transformer.h", [3, 4, 5], "mlp.c_fc", "mlp.c_proj"), // this one in forward order, the larger ones not
        ["gpt2"] = Of("transformer.h", [9, 10, 11], "mlp.c_proj", "mlp.c_fc"),
        ["gpt2medium"] = Of("transformer.h", [21, 22, 23], "mlp.c_proj", "mlp.c_fc"),
        ["gpt2large"] = Of("transformer.h", [33, 34, 35], "mlp.c_proj", "mlp.c_fc"),
        ["gpt2xl"] = Of("transformer.h", [45, 46, 47], "mlp.c_proj", "mlp.c_fc"),
        ["gptneo27"] = Of("transformer.h", [29, 30, 31], "mlp.c_fc", "mlp.c_proj"),
        ["gptj"] = Of("transformer.h", [25, 26, 27], "mlp.fc_in", "mlp.fc_out"),
        ["t5small"] = T5([6, 7], "wi_0"),
        ["t5large"] = T5([22, 23], "wi"),
        ["t5xl"] = T5([22, 23], "wi_0"),
        ["t5xxl"] = T5([22, 23], "wi_0"),
    };

    /// <summary>The weights that the selectors name, in their order; within a pattern in the model's. Each weight once.</summary>
    /// <param name="selectors">
    /// Names of <see cref="Published"/>, names of weights, or patterns of such (<c>*</c> any text, <c>?</c> any letter), such as
    /// <c>transformer.h.1?.mlp.*</c>. None: the family's own choice.
    /// </param>
    /// <exception cref="ModelException">A selector that finds no linear map of this model.</exception>
    public static IReadOnlyList<string> Select(ModelFamily family, IReadOnlyList<string> selectors)
    {
        if (selectors.Count == 0)
            return family.DefaultEditableWeights;
        var names = Linears(family);
        return [.. selectors.SelectMany(Find).Distinct()];

        IEnumerable<string> Find(string selector)
        {
            var found = Published.TryGetValue(selector, out var published)
                ? published.All(names.Contains) ? published : []
                : names.Where(name => FileSystemName.MatchesSimpleExpression(selector, name, ignoreCase: false)).ToList();
            return found.Count > 0 ? found : throw new ModelException("editable", selector,
                $"finds no weights in this {family.Type} model; it has for example {string.Join(", ", family.DefaultEditableWeights)}");
        }
    }

    /// <summary>The second MLP matrix of every block, in the model's order.</summary>
    public static IReadOnlyList<string> DownProjections(ModelFamily family) => [.. Linears(family).Where(name => DownProjection().IsMatch(name))];

    /// <summary>The down-projection of a block.</summary>
    /// <param name="block">From 0 in the model's order, an encoder's blocks first; below 0 from the end.</param>
    /// <exception cref="ModelException">There is no such block.</exception>
    public static string DownProjection(ModelFamily family, int block)
    {
        var all = DownProjections(family);
        return block < all.Count && block >= -all.Count ? all[block < 0 ? all.Count + block : block]
            : throw new ModelException("block", $"{block}", $"is not in this {family.Type} model, which has {all.Count}; choose 0 to {all.Count - 1}, or -1 to {-all.Count} from the end");
    }

    private static List<string> Linears(ModelFamily family)
    {
        using var shapes = Stage.LoadWhole(family, new WeightShapes(), []);
        return [.. shapes.Linears().Select(linear => linear.Name)];
    }

    [GeneratedRegex(@"(DenseReluDense\.wo|mlp\.c_proj|mlp\.fc_out|\.fc2|layer\.\d+\.output\.dense)\.weight$", RegexOptions.CultureInvariant)]
    private static partial Regex DownProjection();

    private static string[] Of(string stack, int[] blocks, params string[] maps) =>
        [.. blocks.SelectMany(block => maps.Select(map => $"{stack}.{block}.{map}.weight"))];

    private static string[] T5(int[] blocks, string first) =>
    [
        .. Of("encoder.block", blocks, $"layer.1.DenseReluDense.{first}", "layer.1.DenseReluDense.wo"),
        .. Of("decoder.block", blocks, $"layer.2.DenseReluDense.{first}", "layer.2.DenseReluDense.wo"),
    ];
}
