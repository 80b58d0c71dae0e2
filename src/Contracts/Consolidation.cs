using Orleans;

namespace MendCluster.Contracts;

/// <summary>How the edits in force are to be consolidated.</summary>
[GenerateSerializer, Immutable, Alias("mend.ConsolidateOptions")]
public sealed record ConsolidateOptions
{
    /// <summary>The edits of this scope; null: those for everybody.</summary>
    [Id(0)]
    public string? Scope { get; init; }

    /// <summary>
    /// Most that the search may take. What was found by then is tried; if it is made, another call goes on from it where no edit was made
    /// in between, and begins anew where some were.
    /// </summary>
    /// <value>More than 0, at most an hour.</value>
    [Id(1)]
    public TimeSpan MaxTime { get; init; } = TimeSpan.FromMinutes(1);

    /// <summary>Part of the time in which it computes; the rest is left to edits and answers.</summary>
    /// <value>More than 0, at most 1.</value>
    [Id(2)]
    public double Share { get; init; } = 0.5;

    /// <summary>Rows of the consolidated factors of a weight, at most.</summary>
    /// <value>At least 1.</value>
    [Id(3)]
    public int MaxRank { get; init; } = 2048;

    /// <summary>Who asks; kept in the ledger.</summary>
    [Id(4)]
    public string? Author { get; init; }

    /// <summary>
    /// Edits of the scope that are taken back in the same step: the others are fitted anew without them, and readers never meet the model
    /// that those make as they are.
    /// </summary>
    [Id(5)]
    public IReadOnlyList<EditId> Without { get; init; } = [];
}

/// <summary>How well a model keeps its edits, and the rest.</summary>
/// <param name="Success">Fraction of the edits' prompts that are answered with their targets.</param>
/// <param name="Rewordings">The same of their prompts in other words, which rules make. Null: there are none.</param>
/// <param name="TotalDrawdown">Fraction of the probes that the base model answers rightly and this one does not. Null: there are none.</param>
/// <param name="TotalKl">KL divergence of the base model to this one on the probes, per token, in nats. Null: as the drawdown.</param>
[GenerateSerializer, Immutable, Alias("mend.ConsolidationFigures")]
public sealed record ConsolidationFigures(
    [property: Id(0)] double Success, [property: Id(1)] double? Rewordings, [property: Id(2)] double? TotalDrawdown,
    [property: Id(3)] double? TotalKl);

/// <summary>What a consolidation is.</summary>
/// <param name="Edits">In whose place it stands while all of them are in force.</param>
/// <param name="Before">The model that it was made on; of its edits those that the consolidation keeps.</param>
/// <param name="After">The same with the consolidation.</param>
/// <param name="Rank">Rows of its factors, the most of any weight.</param>
/// <param name="Bytes">Of the factors of all weights.</param>
[GenerateSerializer, Immutable, Alias("mend.Consolidated")]
public sealed record Consolidated(
    [property: Id(0)] IReadOnlyList<EditId> Edits, [property: Id(1)] ConsolidationFigures Before,
    [property: Id(2)] ConsolidationFigures After, [property: Id(3)] long Rank, [property: Id(4)] long Bytes);

/// <summary>A consolidation that is in force.</summary>
/// <param name="Id">What takes it back.</param>
/// <param name="Version">The first version that has it.</param>
/// <param name="Steps">Of the search.</param>
/// <param name="Time">That it took, waiting included.</param>
[GenerateSerializer, Immutable, Alias("mend.ConsolidationReceipt")]
public sealed record ConsolidationReceipt(
    [property: Id(0)] EditId Id, [property: Id(1)] ModelVersion Version, [property: Id(2)] Consolidated Consolidated,
    [property: Id(3)] int Steps, [property: Id(4)] TimeSpan Time);
