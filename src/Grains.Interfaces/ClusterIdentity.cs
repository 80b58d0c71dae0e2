namespace MendCluster.Grains.Interfaces;

/// <summary>
/// Tells a cluster from others in the same database, by Orleans' two names: silos and clients of different cluster ids never meet.
/// Nothing is kept under the service id; it is what deployments of one service share.
/// </summary>
public static class ClusterIdentity
{
    /// <summary>Of both, where none is named.</summary>
    public const string Default = "mend";

    /// <summary>Characters.</summary>
    public const int MaxLength = 150;

    /// <returns>Why it is no id; null: it is one.</returns>
    public static string? Fault(string id) =>
        id.Length is > 0 and <= MaxLength && id.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.') ? null
            : $"is '{id}'; it has 1 to {MaxLength} letters, digits, dots, dashes or underscores";
}
