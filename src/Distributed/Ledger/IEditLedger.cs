using MendCluster.Contracts;

namespace MendCluster.Distributed.Ledger;

/// <summary>
/// The durable, ordered list of everything done to one model. Appending is the commit of an edit: after it the edit happened, before it
/// nothing did.
/// </summary>
public interface IEditLedger : IAsyncDisposable
{
    /// <summary>All entries, oldest first: a snapshot.</summary>
    IReadOnlyList<LedgerEntry> Entries { get; }

    /// <summary>Makes the record durable.</summary>
    /// <exception cref="MendException">It is not durable, and the ledger is as before.</exception>
    Task AppendAsync(LedgerRecord record, CancellationToken cancellation = default);

    /// <summary>The records after a version, in order, with their factors.</summary>
    Task<IReadOnlyList<LedgerRecord>> ReadAfterAsync(ModelVersion version, CancellationToken cancellation = default);
}
