using System.IO.Enumeration;
using System.Text.RegularExpressions;
using MendCluster.Contracts;

namespace MendCluster.Engine.Models;

/// <summary>The weights that an editor may change: by the name of a model of the paper, or by patterns.</summary>
public static class EditableWeights
{
    /// <summary>By the names of the paper's configurations, of all families.</summary>
    public static IReadOnlyDictionary<string, IReadOnlyList<string>> Published { get; } =
        FamilyRegistry.All.SelectMany(kind => kind.Published).ToDictionary(entry => entry.Key, entry => entry.Value);

    /// <summary>The weights that the selectors name, in their order; within a pattern in the model's. Each weight once.</summary>
    /// <param name="selectors">
    /// Names of <see cref="Published"/>, names of weights, or patterns of such (<c>*</c> any text, <c>?</c> any letter), such as
    /// <c>transformer.h.1?.mlp.*</c>. None: the family's own choice.
    /// </param>
    /// <exception cref="MendException">A selector that finds no linear map of this model.</exception>
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
            return found.Count > 0 ? found : throw Fault.Model("editable", selector,
                $"finds no weights in this {family.Type} model; it has for example {string.Join(", ", family.DefaultEditableWeights)}");
        }
    }

    /// <summary>The second MLP matrix of every block, in the model's order.</summary>
    public static IReadOnlyList<string> DownProjections(ModelFamily family) =>
        [.. Linears(family).Where(name => Regex.IsMatch(name, $@"{family.Family.DownProjection}\.weight$", RegexOptions.CultureInvariant))];

    /// <summary>The down-projection of a block.</summary>
    /// <param name="block">From 0 in the model's order, an encoder's blocks first; below 0 from the end.</param>
    /// <exception cref="MendException">There is no such block.</exception>
    public static string DownProjection(ModelFamily family, int block)
    {
        var all = DownProjections(family);
        return block < all.Count && block >= -all.Count ? all[block < 0 ? all.Count + block : block]
            : throw Fault.Model("block", $"{block}",
                $"is not in this {family.Type} model, which has {all.Count}; choose 0 to {all.Count - 1}, or -1 to {-all.Count} from the end");
    }

    private static List<string> Linears(ModelFamily family)
    {
        using var shapes = Stage.LoadWhole(family, new WeightShapes(), []);
        return [.. shapes.Linears().Select(linear => linear.Name)];
    }
}
