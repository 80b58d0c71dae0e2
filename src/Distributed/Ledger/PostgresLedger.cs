using System.Data;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using MendCluster.Contracts;
using Npgsql;
using NpgsqlTypes;

namespace MendCluster.Distributed.Ledger;

/// <summary>
/// A ledger in PostgreSQL, for coordinators that may move from machine to machine. One database keeps the ledgers of many models.
///
/// Promise: that of <see cref="FileLedger"/>. A record whose append returned is there, whole, as long as the database keeps what it
/// committed; a record whose append failed is not there.
///
/// Append. The record is inserted, then committed. What fails before the commit was sent is surely not durable: the server undoes it. When
/// the answer to the commit is lost, the ledger asks before it answers: it takes the lock that the insert held, which it gets only when
/// that transaction has ended in one way or the other, and looks for the record. While the server does not answer, it tries again; when its
/// patience ends the append fails with <see cref="MendError.LedgerInDoubt"/>, and the next one finds out before it does anything else.
///
/// Fence. Whoever opens the ledger takes the next epoch, and every insert says the epoch that it is of. A trigger lets it through only if
/// no later epoch is there, under a lock that epochs and records share: after a ledger was opened, nothing is added but by it, and it has
/// read all that was. The coordinator before it meets <see cref="MendError.LedgerInUse"/>. The same trigger lets only the next version in.
///
/// The record is stored in the bytes of a ledger file, with their checksum. The other columns are for people who query; nothing reads them.
/// </summary>
public sealed class PostgresLedger : IEditLedger
{
    private const string Prefix = "postgres:";
    private const string Fenced = "ME001"; // by the triggers of Postgres/001-ledger.sql
    private const string IdempotencyConstraint = "mend_record_idempotency";

    private static readonly TimeSpan DefaultPatience = TimeSpan.FromSeconds(20); // more than the server's patience with a lock, 15 s
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(250);

    private readonly PostgresServer _server;
    private readonly byte[] _model;
    private readonly long _epoch;
    private readonly TimeProvider _time;
    private readonly TimeSpan _patience;
    private readonly SemaphoreSlim _turn = new(1);
    private volatile LedgerEntry[] _entries;
    private (IReadOnlyList<LedgerEntry> Entries, byte[] LastFrame)? _doubt;

    private PostgresLedger(PostgresServer server, byte[] model, long epoch, LedgerEntry[] entries, TimeProvider time, TimeSpan patience) =>
        (_server, _model, _epoch, _entries, _time, _patience) = (server, model, epoch, entries, time, patience);

    public IReadOnlyList<LedgerEntry> Entries => _entries;

    private ModelVersion Version => _entries.Length == 0 ? ModelVersion.Base : _entries[^1].Version;

    /// <summary>The connection string in <c>postgres:CONNECTION</c>, or null where a ledger's name is a file's.</summary>
    public static string? ConnectionIn(string ledger) => ledger.StartsWith(Prefix, StringComparison.Ordinal) ? ledger[Prefix.Length..]
        : null;

    /// <summary>Opens the ledger of a model, and takes it from whoever has it.</summary>
    /// <param name="fingerprint">Of the model; 32 bytes.</param>
    /// <exception cref="MendException">
    /// The server cannot be reached or refuses, the tables are missing or of another version, or an entry is damaged.
    /// </exception>
    public static Task<PostgresLedger> OpenAsync(string connection, byte[] fingerprint, TimeProvider time,
        CancellationToken cancellation = default) =>
        OpenAsync(connection, fingerprint, time, DefaultPatience, cancellation);

    /// <param name="patience">With a server that does not say how a commit ended.</param>
    internal static async Task<PostgresLedger> OpenAsync(string connection, byte[] fingerprint, TimeProvider time, TimeSpan patience,
        CancellationToken cancellation = default)
    {
        var server = PostgresServer.Of(connection, PostgresSchema.Ledger);
        try
        {
            return await server.AskAsync(async database =>
            {
                await PostgresSchema.Ledger.CheckAsync(server, database, cancellation).ConfigureAwait(false);
                var epoch = await TakeAsync(database, fingerprint, cancellation).ConfigureAwait(false);
                var entries = await ReadEntriesAsync(server, database, fingerprint, cancellation).ConfigureAwait(false);
                return new PostgresLedger(server, fingerprint, epoch, entries, time, patience);
            }, cancellation).ConfigureAwait(false);
        }
        catch
        {
            await server.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public async Task AppendAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default)
    {
        await _turn.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            if (_doubt is (var earlier, var bytes) && await EndDoubtAsync(earlier[^1].Version, bytes).ConfigureAwait(false))
            {
                _entries = [.. _entries, .. earlier];
                if (records[0].Entry.Version == earlier[0].Version) // made by one who could not know
                    throw WriteFailed($"version {earlier[^1].Version} was written by the request before, whose answer was lost");
            }
            foreach (var (i, record) in records.Index())
                if (record.Entry.Version.Value != Version.Value + 1 + i)
                    throw new InvalidOperationException($"version {record.Entry.Version} cannot follow {Version}");
            var (entries, frames) = (records.Select(record => record.Entry).ToList(), records.Select(LedgerRecordFormat.Frame).ToList());
            if (await CommitAsync(entries, frames).ConfigureAwait(false) is { } unanswered)
            {
                _doubt = (entries, frames[^1]); // all of them or none: the last says which
                if (!await EndDoubtAsync(entries[^1].Version, frames[^1]).ConfigureAwait(false))
                    throw WriteFailed(PostgresServer.Message(unanswered), unanswered);
            }
            _entries = [.. _entries, .. entries];
        }
        finally
        {
            _turn.Release();
        }
    }

    public Task<IReadOnlyList<LedgerRecord>> ReadAfterAsync(ModelVersion version, CancellationToken cancellation = default) =>
        _server.AskAsync(async database =>
    {
        var (records, last) = (new List<LedgerRecord>(), Version);
        await using var select =
            new NpgsqlCommand("select version, record from mend_record where model = $1 and version > $2 and version <= $3 order by version", database)
            {
                Parameters = { Bytes(_model), Number(version.Value), Number(last.Value) },
            };
        var due = version;
        await using (var reader = await select.ExecuteReaderAsync(CommandBehavior.SequentialAccess, cancellation).ConfigureAwait(false))
            while (await reader.ReadAsync(cancellation).ConfigureAwait(false))
            {
                due = due.Next();
                CheckVersion(_server, due, reader.GetInt64(0));
                var record = LedgerRecordFormat.ReadFrame(await reader.GetFieldValueAsync<byte[]>(1, cancellation).ConfigureAwait(false),
                    Place(_server, due.Value));
                CheckVersion(_server, due, record.Entry.Version.Value);
                records.Add(record);
            }
        if (due < last)
            throw Missing(_server, due.Next());
        return (IReadOnlyList<LedgerRecord>)records;
    }, cancellation);

    /// <summary>Waits for an append that is under way.</summary>
    public async ValueTask DisposeAsync()
    {
        await _turn.WaitAsync().ConfigureAwait(false);
        await _server.DisposeAsync().ConfigureAwait(false);
        _turn.Release(); // not disposed of: whoever comes too late is to find the connections closed
    }

    private static async Task<long> TakeAsync(NpgsqlConnection database, byte[] model, CancellationToken cancellation)
    {
        await using var transaction = await database.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancellation)
            .ConfigureAwait(false);
        await using var take = new NpgsqlCommand("insert into mend_epoch (model, holder) values ($1, $2) returning epoch", database,
            transaction)
        {
            Parameters = { Bytes(model), Text($"process {Environment.ProcessId} of {Environment.MachineName}") },
        };
        var epoch = (long)(await take.ExecuteScalarAsync(cancellation).ConfigureAwait(false))!;
        await transaction.CommitAsync(cancellation).ConfigureAwait(false);
        return epoch;
    }

    private static async Task<LedgerEntry[]> ReadEntriesAsync(PostgresServer server, NpgsqlConnection database, byte[] model,
        CancellationToken cancellation)
    {
        await using var select =
            new NpgsqlCommand("select version, substring(record from $2 for entry_bytes) from mend_record where model = $1 order by version", database)
            {
                Parameters = { Bytes(model), new() { Value = LedgerRecordFormat.EntryStart + 1, NpgsqlDbType = NpgsqlDbType.Integer } },
            };
        var entries = new List<LedgerEntry>();
        await using var reader = await select.ExecuteReaderAsync(cancellation).ConfigureAwait(false);
        while (await reader.ReadAsync(cancellation).ConfigureAwait(false))
        {
            var due = new ModelVersion(entries.Count + 1);
            CheckVersion(server, due, reader.GetInt64(0));
            var entry = LedgerRecordFormat.ReadEntry((byte[])reader[1], Place(server, due.Value));
            CheckVersion(server, due, entry.Version.Value);
            entries.Add(entry);
        }
        return [.. entries];
    }

    /// <returns>Null when it is durable; otherwise why the commit was not answered.</returns>
    /// <exception cref="MendException">It is surely not durable.</exception>
    private async Task<Exception?> CommitAsync(IReadOnlyList<LedgerEntry> entries, IReadOnlyList<byte[]> frames)
    {
        NpgsqlConnection database;
        try
        {
            database = await _server.ConnectAsync(CancellationToken.None).ConfigureAwait(false);
        }
        catch (MendException e)
        {
            throw WriteFailed(PostgresServer.Message(e.InnerException!), e.InnerException);
        }
        await using (database)
        {
            NpgsqlTransaction transaction;
            var entry = entries[0];
            try
            {
                transaction = await database.BeginTransactionAsync(IsolationLevel.ReadCommitted).ConfigureAwait(false);
                foreach (var (next, frame) in entries.Zip(frames))
                {
                    entry = next;
                    await using var insert = Insert(database, entry, frame);
                    await insert.ExecuteNonQueryAsync().ConfigureAwait(false);
                }
            }
            catch (Exception e) when (PostgresServer.IsOfServer(e))
            {
                throw Refused(entry, e);
            }
            try
            {
                await transaction.CommitAsync().ConfigureAwait(false);
                return null;
            }
            catch (Exception e) when (PostgresServer.IsOfServer(e))
            {
                return e;
            }
        }
    }

    private NpgsqlCommand Insert(NpgsqlConnection database, LedgerEntry entry, byte[] frame) => new(
        """
        insert into mend_record (model, version, epoch, time, kind, edit, mode, prompt, target, scope, author, idempotency_key, idempotency_sha256, figures, entry_bytes, record)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
        """, database)
    {
        Parameters =
        {
            Bytes(_model),
            Number(entry.Version.Value),
            Number(_epoch),
            new() { Value = entry.Time.UtcDateTime, NpgsqlDbType = NpgsqlDbType.TimestampTz },
            Text(entry.Kind.ToString()),
            Number(entry.Edit.Value),
            Text(entry.Mode?.ToString()),
            Text(entry.Prompt),
            Text(entry.Target),
            Text(entry.Scope),
            Text(entry.Author),
            Text(entry.IdempotencyKey),
            Bytes(entry.IdempotencyKey is null ? null : SHA256.HashData(Encoding.UTF8.GetBytes(entry.IdempotencyKey))),
            new() { Value = entry.Figures is null ? DBNull.Value : JsonSerializer.Serialize(entry.Figures),
                NpgsqlDbType = NpgsqlDbType.Jsonb },
            new() { Value = LedgerRecordFormat.EntryLength(frame), NpgsqlDbType = NpgsqlDbType.Integer },
            Bytes(frame),
        },
    };

    /// <summary>Finds out how a commit ended whose answer was lost.</summary>
    /// <returns>Whether the record is durable.</returns>
    /// <exception cref="MendException">The server did not say within the patience.</exception>
    private async Task<bool> EndDoubtAsync(ModelVersion version, byte[] frame)
    {
        for (var start = _time.GetTimestamp(); ; await Task.Delay(Pause, _time).ConfigureAwait(false))
            try
            {
                var found = await _server.AskAsync(database => FindAsync(database, version), CancellationToken.None).ConfigureAwait(false);
                _doubt = null;
                return found is not null && found.AsSpan().SequenceEqual(frame);
            }
            catch (MendException e)
            {
                // Whatever it was: only an answer ends the doubt.
                if (_time.GetElapsedTime(start) >= _patience)
                    throw InDoubt(version, e);
            }
    }

    private async Task<byte[]?> FindAsync(NpgsqlConnection database, ModelVersion version)
    {
        await using var transaction = await database.BeginTransactionAsync(IsolationLevel.ReadCommitted).ConfigureAwait(false);
        await using (var wait = new NpgsqlCommand("select mend_lock($1)", database, transaction) { Parameters = { Bytes(_model) } })
            await wait.ExecuteNonQueryAsync().ConfigureAwait(false);
        await using var select =
            new NpgsqlCommand("select record from mend_record where model = $1 and version = $2", database, transaction)
            {
                Parameters = { Bytes(_model), Number(version.Value) },
            };
        return (byte[]?)await select.ExecuteScalarAsync().ConfigureAwait(false);
    }

    private MendException Refused(LedgerEntry entry, Exception e) => e switch
    {
        PostgresException { SqlState: Fenced } fence =>
            new(MendError.LedgerInUse, $"Ledger {_server.Place}, version {entry.Version}: {fence.MessageText}.",
            "The edit was not made. One coordinator at a time has a ledger, the one that opened it last: send the edit there, or stop it and open the ledger anew.", e),
        PostgresException { ConstraintName: IdempotencyConstraint } => new(MendError.IdempotencyKeyReused,
            $"The idempotency key '{entry.IdempotencyKey}' is in the ledger already.", "Use a new key for another edit.", e),
        _ => WriteFailed(PostgresServer.Message(e), e),
    };

    private MendException WriteFailed(string why, Exception? inner = null) =>
        new(MendError.LedgerWriteFailed, $"Ledger {_server.Place} could not be written: {why}.",
        "The edit was not made. Look after the server, then send it again.", inner);

    private MendException InDoubt(ModelVersion version, Exception inner) => new(MendError.LedgerInDoubt,
        $"Ledger {_server.Place}: the connection was lost in the commit of version {version}, and the server has not answered for {_patience.TotalSeconds:0} s.",
        "Whether the edit was made is not known. When the server is back, send it again with the same idempotency key.", inner);

    private static void CheckVersion(PostgresServer server, ModelVersion due, long found)
    {
        if (found != due.Value)
            throw found > due.Value ? Missing(server, due)
                : LedgerRecordFormat.Unusable(Place(server, due.Value), $"the record is of version {found}",
                "Restore the database from a copy.");
    }

    private static MendException Missing(PostgresServer server, ModelVersion version) =>
        LedgerRecordFormat.Unusable(Place(server, version.Value), "the record is missing", "Restore the database from a copy.");

    private static string Place(PostgresServer server, long version) => $"{server.Place}, version {version}";

    private static NpgsqlParameter Bytes(byte[]? value) =>
        new() { Value = (object?)value ?? DBNull.Value, NpgsqlDbType = NpgsqlDbType.Bytea };

    private static NpgsqlParameter Number(long value) => new() { Value = value, NpgsqlDbType = NpgsqlDbType.Bigint };

    /// <summary>PostgreSQL's text cannot hold U+0000; the record has it as it was.</summary>
    private static NpgsqlParameter Text(string? value) =>
        new() { Value = (object?)value?.Replace('\0', '\uFFFD') ?? DBNull.Value, NpgsqlDbType = NpgsqlDbType.Text };
}
