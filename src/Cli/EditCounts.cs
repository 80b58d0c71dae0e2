using System.Globalization;
using MendCluster.Contracts;

namespace MendCluster.Cli;

/// <summary>What <c>--edits</c> asks for: numbers of edits with commas between them.</summary>
internal static class EditCounts
{
    /// <returns>Each once, in the order given.</returns>
    public static List<int> Parse(string list) =>
        [.. list.Split(',').Select(part =>
        int.TryParse(part, NumberStyles.AllowLeadingWhite | NumberStyles.AllowTrailingWhite, CultureInfo.InvariantCulture, out var count)
        && count > 0 ? count
        : throw new MendException(MendError.InvalidOption, $"--edits \"{list}\": '{part}' is no number of edits.",
        "Give numbers from 1 on with commas between them, such as 1,5,25.")).Distinct()];
}
