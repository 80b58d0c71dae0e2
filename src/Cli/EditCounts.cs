using System.Globalization;

namespace MendCluster.Cli;

/// <summary>What <c>--edits</c> asks for: numbers of edits with commas between them.</summary>
internal static class EditCounts
{
    /// <returns>Each once, in the order given.</returns>
    public static List<int> Parse(string list) => [.. list.Split(',').Select(part => int.TryParse(part, CultureInfo.InvariantCulture, out var count) ? count
        : throw new InvalidDataException($"--edits \"{list}\": '{part}' is no number; expected numbers with commas between them, such as 1,5,25")).Distinct()];
}
