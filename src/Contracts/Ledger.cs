namespace MendCluster.Contracts;

public enum LedgerKind
{
    Edit,
    Revert,
}

/// <summary>One thing that was done to a model.</summary>
/// <param name="Version">That it made; entries count from 1 without a gap.</param>
/// <param name="Edit">The edit that was made or taken back.</param>
/// <param name="Prompt">Of an edit; null in a revert, like the rest.</param>
public sealed record LedgerEntry(
    ModelVersion Version, DateTimeOffset Time, LedgerKind Kind, EditId Edit,
    string? Prompt = null, string? Target = null, string? Author = null, string? IdempotencyKey = null, EditFigures? Figures = null);

/// <summary>What one edit changes about one weight W [n, m]: W' = W - alpha deltaTilde^T uTilde.</summary>
/// <param name="Weight">Its name in the checkpoint.</param>
/// <param name="UTilde">[R, m] float32.</param>
/// <param name="DeltaTilde">[R, n] float32.</param>
public sealed record WeightChange(string Weight, WireTensor UTilde, WireTensor DeltaTilde, float Alpha);

/// <summary>An entry with all that is needed to do it again.</summary>
/// <param name="Changes">Of an edit; empty in a revert.</param>
public sealed record LedgerRecord(LedgerEntry Entry, IReadOnlyList<WeightChange> Changes);
