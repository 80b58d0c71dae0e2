using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Editors;

/// <summary>Weights that share what an editor has of a shape; what the authors' checkpoints call a transform.</summary>
/// <param name="Index">Among the groups of the whole editor: a part of it draws the same numbers.</param>
/// <param name="Key">The shape when shared, the weight's name otherwise.</param>
/// <param name="InFeatures">m.</param>
/// <param name="OutFeatures">n.</param>
/// <param name="Weights">In configuration order, which numbers the modes.</param>
internal sealed record WeightGroup(int Index, string Key, long InFeatures, long OutFeatures, IReadOnlyList<string> Weights)
{
    /// <summary>The groups of an editor's weights, in configuration order.</summary>
    /// <param name="isShared">Whether weights of a shape share; otherwise each has a group of its own.</param>
    /// <param name="wanted">The weights whose groups are needed; null: all.</param>
    public static IEnumerable<WeightGroup> Of(IReadOnlyList<EditableWeight> weights, bool isShared,
        IReadOnlyCollection<string>? wanted = null) => weights
        .GroupBy(weight => isShared ? $"({weight.InFeatures}, {weight.OutFeatures})" : weight.Name.Replace('.', '#'))
        .Select((group, index) =>
            new WeightGroup(index, group.Key, group.First().InFeatures, group.First().OutFeatures,
            [.. group.Select(weight => weight.Name)]))
        .Where(group => wanted is null || group.Weights.Any(wanted.Contains));

    /// <summary>What the groups share, by weight.</summary>
    /// <param name="weights">Of what a group shares.</param>
    public static IReadOnlyDictionary<string, T> ByWeight<T>(IEnumerable<T> groups, Func<T, IReadOnlyList<string>> weights) =>
        groups.SelectMany(group => weights(group).Select(weight => (weight, group))).ToDictionary();

    /// <summary>The number of a weight within the group, for each of some rows. [N] int64.</summary>
    public Tensor Modes(string weight, long rows, Device device) =>
        NewTensor.Full([rows], (long)Weights.ToList().IndexOf(weight), ScalarType.Int64, device);
}
