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
public sealed record LedgerEntry(
    ModelVersion Version, DateTimeOffset Time, LedgerKind Kind, EditId Edit,
    string? Prompt = null, string? Target = null, string? Author = null, string? IdempotencyKey = null, EditFigures? Figures = null,
    string? Scope = null, double? Confidence = null, RevertMode? Mode = null, int? Recomputed = null);

/// <summary>What one edit changes about one weight W [n, m]: W' = W - alpha deltaTilde^T uTilde.</summary>
/// <param name="Weight">Its name in the checkpoint.</param>
/// <param name="UTilde">[R, m] float32 or bfloat16.</param>
/// <param name="DeltaTilde">[R, n] of the same type.</param>
/// <param name="Replaces">In a revert that recomputes: the earlier edit whose change of this weight it takes the place of.</param>
public sealed record WeightChange(string Weight, WireTensor UTilde, WireTensor DeltaTilde, float Alpha, EditId? Replaces = null);

/// <summary>An entry with all that is needed to do it again.</summary>
/// <param name="Changes">Of an edit; in a revert, those of the later edits that it computed anew.</param>
public sealed record LedgerRecord(LedgerEntry Entry, IReadOnlyList<WeightChange> Changes);
