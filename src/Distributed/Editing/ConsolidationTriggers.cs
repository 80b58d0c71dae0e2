using MendCluster.Contracts;

namespace MendCluster.Distributed.Editing;

/// <summary>When the edits of a scope are consolidated by themselves: as soon as one of these is so.</summary>
/// <param name="Every">So many edits were made since the last attempt; 0: never.</param>
/// <param name="AtRank">
/// The edits made since then have so many rows together, of the weight where each has the most: what every answer passes through; 0: never.
/// </param>
/// <param name="AtDrawdown">
/// With the newest edit, all edits in force cost more than this fraction of the probes that the base model answers; null: never.
/// </param>
public sealed record ConsolidationTriggers(int Every = 0, long AtRank = 0, double? AtDrawdown = null)
{
    /// <summary>
    /// Edits, at least, after an attempt before rank or drawdown start another: what an attempt could not mend, the next would not either.
    /// </summary>
    internal const int MinEdits = 10;

    /// <summary>Whether one of them is given.</summary>
    internal bool IsAny => Every != 0 || AtRank != 0 || AtDrawdown is not null;

    /// <summary>Why they are none of a model with that many probes: each begins with the setting's name.</summary>
    public IEnumerable<string> Faults(int probes)
    {
        if (Every < 0)
            yield return $"{nameof(Every)} is {Every}; it is a number of edits, or 0 for never";
        if (AtRank < 0)
            yield return $"{nameof(AtRank)} is {AtRank}; it is a number of rows, or 0 for never";
        if (AtDrawdown is { } part && part is not (>= 0 and < 1))
            yield return $"{nameof(AtDrawdown)} is {part}; it is a fraction of the probes, from 0 to less than 1";
        else if (AtDrawdown is not null && probes == 0)
            yield return $"{nameof(AtDrawdown)} is given, and there are no probes to measure it on";
    }

    /// <returns>The triggers themselves.</returns>
    /// <exception cref="MendException">They have a fault.</exception>
    public ConsolidationTriggers Checked(int probes) => Faults(probes).FirstOrDefault() is not { } fault ? this
        : throw new MendException(MendError.InvalidOption, $"Consolidate: {fault}.", "Correct it, or leave it out.");
}
