using System.Text.Json.Serialization;
using Orleans;

namespace MendCluster.Contracts;

public enum LedgerKind
{
    Edit,
    Revert,

    /// <summary>Other factors in the place of those of some edits, computed for all of them together.</summary>
    Consolidate,
}

/// <summary>One thing that was done to a model.</summary>
/// <param name="Version">That it made; entries count from 1 without a gap.</param>
/// <param name="Edit">The edit or consolidation that was made or taken back.</param>
/// <param name="Prompt">Of an edit; null in a revert, like what follows up to the mode but for the author.</param>
/// <param name="Author">Who asked. Null in reverts from before it was kept.</param>
/// <param name="Scope">See <see cref="EditOptions.Scope"/>.</param>
/// <param name="Confidence">See <see cref="EditOptions.Confidence"/>; what is needed to compute the edit anew.</param>
/// <param name="Mode">Of a revert.</param>
/// <param name="Recomputed">Later edits that a revert computed anew.</param>
/// <param name="Consolidated">Of a consolidation.</param>
/// <param name="Route">Of an edit that is seen by questions that match it alone; null: by all.</param>
[GenerateSerializer, Immutable, Alias("mend.LedgerEntry")]
public sealed record LedgerEntry(
    [property: Id(0)] ModelVersion Version, [property: Id(1)] DateTimeOffset Time, [property: Id(2)] LedgerKind Kind,
    [property: Id(3)] EditId Edit, [property: Id(4)] string? Prompt = null, [property: Id(5)] string? Target = null,
    [property: Id(6)] string? Author = null, [property: Id(7)] string? IdempotencyKey = null, [property: Id(8)] EditFigures? Figures = null,
    [property: Id(9)] string? Scope = null, [property: Id(10)] double? Confidence = null, [property: Id(11)] RevertMode? Mode = null,
    [property: Id(12)] int? Recomputed = null,
    [property: Id(13)] Consolidated? Consolidated = null, [property: Id(14)] EditRoute? Route = null);

/// <summary>
/// Which questions see an edit, in a model that routes its edits: those whose own key is near one of the edit's.
/// </summary>
/// <param name="Keys">Of the edit's prompt, then of rewordings.</param>
[GenerateSerializer, Immutable, Alias("mend.EditRoute")]
public sealed record EditRoute([property: Id(0)] int Keys)
{
    /// <summary>
    /// [Keys, D] float32 of the D dimensions of the model's router, row-major, little endian, in base64. In the ledger; the HTTP interface
    /// leaves it out.
    /// </summary>
    [Id(1), JsonIgnore]
    public string Vectors { get; init; } = "";
}

/// <summary>Which entries of the ledger are wanted. All that is named must hold.</summary>
[GenerateSerializer, Immutable, Alias("mend.LedgerQuery")]
public sealed record LedgerQuery
{
    /// <summary>Entries on a page, the most and what it is by itself.</summary>
    public const int MaxEntries = 1000, DefaultEntries = 100;

    /// <summary>The page begins after this version, in the order that is asked for; null: at its beginning.</summary>
    [Id(0)]
    public ModelVersion? After { get; init; }

    /// <value>100; 1 to 1000.</value>
    [Id(1)]
    public int Limit { get; init; } = DefaultEntries;

    /// <summary>Part of the prompt or the target, in any case. A revert has those of the edit that it took back.</summary>
    [Id(2)]
    public string? Text { get; init; }

    /// <summary>Entries of this scope alone. A revert has that of its edit.</summary>
    [Id(3)]
    public string? Scope { get; init; }

    /// <summary>Entries without a scope and of these; null: of any scope.</summary>
    [Id(4)]
    public IReadOnlyList<string>? VisibleScopes { get; init; }

    [Id(5)]
    public string? Author { get; init; }

    [Id(6)]
    public LedgerKind? Kind { get; init; }

    /// <summary>The edit of this number and its revert.</summary>
    [Id(7)]
    public EditId? Edit { get; init; }

    [Id(8)]
    public bool NewestFirst { get; init; }

    /// <param name="ledger">All of it, oldest first.</param>
    /// <exception cref="MendException">The limit is out of its range.</exception>
    public IReadOnlyList<LedgerEntry> Of(IReadOnlyList<LedgerEntry> ledger)
    {
        if (Limit is < 1 or > MaxEntries)
            throw new MendException(MendError.InvalidOption, $"The limit is {Limit}.", $"A page has 1 to {MaxEntries} entries.");
        var edits = new Dictionary<EditId, LedgerEntry>(); // a revert is found by what its edit says
        foreach (var entry in ledger)
            if (entry.Kind != LedgerKind.Revert)
                edits[entry.Edit] = entry;
        var ordered = NewestFirst ? ledger.Reverse() : ledger;
        return [.. ordered.Where(entry => IsAfter(entry.Version) && Fits(entry, edits.GetValueOrDefault(entry.Edit, entry))).Take(Limit)];
    }

    private bool IsAfter(ModelVersion version) => After is not { } after || (NewestFirst ? version < after : version > after);

    private bool Fits(LedgerEntry entry, LedgerEntry edit) =>
        (Kind is null || entry.Kind == Kind) && (Author is null || entry.Author == Author) && (Edit is null || entry.Edit == Edit)
        && (Scope is null || edit.Scope == Scope) && (VisibleScopes is null || edit.Scope is null || VisibleScopes.Contains(edit.Scope))
        && (Text is null || Has(edit.Prompt) || Has(edit.Target));

    private bool Has(string? text) => text?.Contains(Text!, StringComparison.OrdinalIgnoreCase) == true;
}

/// <summary>What one edit changes about one weight W [n, m]: W' = W - alpha deltaTilde^T uTilde.</summary>
/// <param name="Weight">Its name in the checkpoint.</param>
/// <param name="UTilde">[R, m] float32 or bfloat16.</param>
/// <param name="DeltaTilde">[R, n] of the same type.</param>
/// <param name="Replaces">In a revert that recomputes: the earlier edit whose change of this weight it takes the place of.</param>
/// <param name="Keys">What the weight read in the edit, of an editor whose later edits go round that. [T, m] of the same type. Null: none does.</param>
[GenerateSerializer, Immutable, Alias("mend.WeightChange")]
public sealed record WeightChange(
    [property: Id(0)] string Weight, [property: Id(1)] WireTensor UTilde, [property: Id(2)] WireTensor DeltaTilde,
    [property: Id(3)] float Alpha, [property: Id(4)] EditId? Replaces = null, [property: Id(5)] WireTensor? Keys = null)
{
    /// <summary>Of its tensors.</summary>
    public long CountBytes() => (long)UTilde.Bytes.Length + DeltaTilde.Bytes.Length + (Keys?.Bytes.Length ?? 0);
}

/// <summary>An entry with all that is needed to do it again.</summary>
/// <param name="Changes">Of an edit or a consolidation; in a revert, those of the later edits that it computed anew.</param>
[GenerateSerializer, Immutable, Alias("mend.LedgerRecord")]
public sealed record LedgerRecord([property: Id(0)] LedgerEntry Entry, [property: Id(1)] IReadOnlyList<WeightChange> Changes);
