using MendCluster.Contracts;
using MendCluster.Distributed.Telemetry;

namespace MendCluster.Distributed.Ledger;

/// <summary>
/// The durable, ordered list of everything done to one model. Appending is the commit of an edit: after it the edit happened, before it
/// nothing did.
/// </summary>
public interface IEditLedger : IAsyncDisposable
{
    /// <summary>Opens the ledger of a model.</summary>
    /// <param name="ledger">A file's path, or <c>postgres:</c> and a connection string.</param>
    /// <param name="fingerprint">Of the model; 32 bytes.</param>
    /// <exception cref="MendException">It cannot be used.</exception>
    static Task<IEditLedger> OpenAsync(string ledger, byte[] fingerprint, TimeProvider time, CancellationToken cancellation = default) =>
        MendMetrics.ReadAsync<IEditLedger>(time, async () => PostgresLedger.ConnectionIn(ledger) is { } connection
            ? await PostgresLedger.OpenAsync(connection, fingerprint, time, cancellation).ConfigureAwait(false)
            : FileLedger.Open(ledger, fingerprint));

    /// <summary>All entries, oldest first: a snapshot.</summary>
    IReadOnlyList<LedgerEntry> Entries { get; }

    /// <summary>
    /// Makes records durable, by one write. A crash in the middle leaves all of them, none, or in a file the first ones, each whole.
    /// </summary>
    /// <param name="records">Of the next versions, in order.</param>
    /// <exception cref="MendException">They are not durable, and the ledger is as before. Only with
    /// <see cref="MendError.LedgerInDoubt"/> that is not known; nothing is appended until it is.</exception>
    Task AppendAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default);

    /// <summary>The records after a version, in order, with their factors.</summary>
    Task<IReadOnlyList<LedgerRecord>> ReadAfterAsync(ModelVersion version, CancellationToken cancellation = default);
}

internal static class EditLedgerExtensions
{
    /// <summary>The same of a single record.</summary>
    public static Task AppendAsync(this IEditLedger ledger, LedgerRecord record, CancellationToken cancellation = default) =>
        ledger.AppendAsync([record], cancellation);
}
