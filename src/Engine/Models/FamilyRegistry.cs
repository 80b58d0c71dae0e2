namespace MendCluster.Engine.Models;

/// <summary>What is to be known of a model family before one of its models is read. Each family's file has its own.</summary>
/// <param name="Type">The <c>model_type</c> of config.json.</param>
/// <param name="Make">The family for a configuration.</param>
public sealed record FamilyKind(string Type, Func<ConfigFile, ModelFamily> Make)
{
    /// <summary>
    /// Prefixes of weights of head models, which checkpoints saved without a head lack (the published gpt2 and bart-base, for two).
    /// </summary>
    public IReadOnlyList<string> HeadModelPrefixes { get; init; } = [];

    /// <summary>How the second MLP matrix of a block ends, as a regular expression, without <c>.weight</c>.</summary>
    public required string DownProjection { get; init; }

    /// <summary>
    /// The weights that the paper edits, by the names of its configurations, each in its order, which numbers an editor's modes (mend-spec
    /// 5.1).
    /// </summary>
    public IReadOnlyDictionary<string, IReadOnlyList<string>> Published { get; init; } = new Dictionary<string, IReadOnlyList<string>>();

    /// <summary>Names of weights: each of the maps in each of the blocks.</summary>
    internal static string[] Weights(string stack, int[] blocks, params string[] maps) =>
        [.. blocks.SelectMany(block => maps.Select(map => $"{stack}.{block}.{map}.weight"))];
}

/// <summary>The model families that are built. A new one is a file beside these, and its row here.</summary>
public static class FamilyRegistry
{
    public static IReadOnlyList<FamilyKind> All { get; } = [Gpt2.Kind, GptNeo.Kind, GptJ.Kind, T5.Kind, Bart.Kind, Bert.Kind];

    /// <summary>The family of a <c>model_type</c>; null: there is none.</summary>
    public static FamilyKind? Find(string type) => All.FirstOrDefault(kind => kind.Type == type);
}
