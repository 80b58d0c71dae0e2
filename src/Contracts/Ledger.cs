using Orleans;

namespace MendCluster.Contracts;

public enum LedgerKind
{
    Edit,
    Revert,
}

/// <summary>One thing that was done to a model.</summary>
/// <param name="Version">That it made; entries count from 1 without a gap.</param>
/// <param name="Edit">The edit that was made or taken back.</param>
/// <param name="Prompt">Of an edit; null in a revert, like what follows up to the mode.</param>
/// <param name="Scope">See <see cref="EditOptions.Scope"/>.</param>
/// <param name="Confidence">See <see cref="EditOptions.Confidence"/>; what is needed to compute the edit anew.</param>
/// <param name="Mode">Of a revert.</param>
/// <param name="Recomputed">Later edits that a revert computed anew.</param>
[GenerateSerializer, Immutable, Alias("mend.LedgerEntry")]
public sealed record LedgerEntry(
    [property: Id(0)] ModelVersion Version, [property: Id(1)] DateTimeOffset Time, [property: Id(2)] LedgerKind Kind,
    [property: Id(3)] EditId Edit, [property: Id(4)] string? Prompt = null, [property: Id(5)] string? Target = null,
    [property: Id(6)] string? Author = null, [property: Id(7)] string? IdempotencyKey = null, [property: Id(8)] EditFigures? Figures = null,
    [property: Id(9)] string? Scope = null, [property: Id(10)] double? Confidence = null, [property: Id(11)] RevertMode? Mode = null,
    [property: Id(12)] int? Recomputed = null);

/// <summary>What one edit changes about one weight W [n, m]: W' = W - alpha deltaTilde^T uTilde.</summary>
/// <param name="Weight">Its name in the checkpoint.</param>
/// <param name="UTilde">[R, m] float32 or bfloat16.</param>
/// <param name="DeltaTilde">[R, n] of the same type.</param>
/// <param name="Replaces">In a revert that recomputes: the earlier edit whose change of this weight it takes the place of.</param>
[GenerateSerializer, Immutable, Alias("mend.WeightChange")]
public sealed record WeightChange(
    [property: Id(0)] string Weight, [property: Id(1)] WireTensor UTilde, [property: Id(2)] WireTensor DeltaTilde,
    [property: Id(3)] float Alpha, [property: Id(4)] EditId? Replaces = null);

/// <summary>An entry with all that is needed to do it again.</summary>
/// <param name="Changes">Of an edit; in a revert, those of the later edits that it computed anew.</param>
[GenerateSerializer, Immutable, Alias("mend.LedgerRecord")]
public sealed record LedgerRecord([property: Id(0)] LedgerEntry Entry, [property: Id(1)] IReadOnlyList<WeightChange> Changes);
