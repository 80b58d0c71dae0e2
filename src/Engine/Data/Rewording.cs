using System.Text.RegularExpressions;

namespace MendCluster.Engine.Data;

/// <summary>
/// Other wordings of an English question by rules, for training sets that have none. They keep the meaning where the question has one of
/// the usual forms ("What is the Y of X?"); any other question gets a frame around it.
/// </summary>
public static partial class Rewording
{
    /// <summary>Different wordings, none of them the question itself; always at least two.</summary>
    public static IReadOnlyList<string> Of(string question)
    {
        var plain = question.Trim().TrimEnd('?', '.', ' ');
        var wordings = new List<string>();
        if (AttributeOf().Match(plain) is { Success: true } of)
        {
            var (verb, attribute, subject) = (of.Groups["verb"].Value, of.Groups["attribute"].Value, of.Groups["subject"].Value);
            wordings.AddRange([$"What {verb} {subject}'s {attribute}?", $"{subject}'s {attribute} {verb} what?",
                $"Name the {attribute} of {subject}.", $"The {attribute} of {subject} {verb}?"]);
        }
        else if (Possessive().Match(plain) is { Success: true } own)
        {
            var (verb, attribute, subject) = (own.Groups["verb"].Value, own.Groups["attribute"].Value, own.Groups["subject"].Value);
            wordings.AddRange([$"What {verb} the {attribute} of {subject}?", $"Name the {attribute} of {subject}.",
                $"{subject}'s {attribute} {verb} what?"]);
        }
        if (plain.StartsWith("What ", StringComparison.Ordinal) && !plain.StartsWith("What is ", StringComparison.Ordinal))
            wordings.Add($"Which {plain[5..]}?");
        if (plain.StartsWith("Which ", StringComparison.Ordinal))
            wordings.Add($"What {plain[6..]}?");
        if (plain.Length > 0)
        {
            var lower = char.ToLowerInvariant(plain[0]) + plain[1..];
            wordings.AddRange([$"Tell me, {lower}?", $"{lower}", $"Do you know {lower}?"]);
        }
        return [.. wordings.Where(wording => wording != question).Distinct()];
    }

    [GeneratedRegex("^(What|Who|Which) (?<verb>is|was|are|were) the (?<attribute>[^,]{2,40}?) of (?<subject>.{2,})$")]
    private static partial Regex AttributeOf();

    [GeneratedRegex("^(What|Who|Which) (?<verb>is|was|are|were) (?<subject>[^']{2,})'s (?<attribute>[^,]{2,40})$")]
    private static partial Regex Possessive();
}
