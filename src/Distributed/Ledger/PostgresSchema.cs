using System.Data;
using MendCluster.Contracts;
using Npgsql;

namespace MendCluster.Distributed.Ledger;

/// <summary>
/// The tables of the ledger in PostgreSQL. They are made and changed by a command and never by a program that opens the ledger. Each change is
/// a numbered file, Postgres/NNN-NAME.sql; one that was released is not edited any more.
/// </summary>
public static class PostgresSchema
{
    private const long Lock = 0x6D656E64; // "mend": one migration at a time

    private static readonly (int Version, string Sql)[] Steps = [.. typeof(PostgresSchema).Assembly.GetManifestResourceNames()
        .Where(name => name.EndsWith(".sql", StringComparison.Ordinal)).Order(StringComparer.Ordinal).Select((name, i) => (i + 1, Read(name)))];

    /// <summary>That this program reads and writes.</summary>
    public static int Version => Steps.Length;

    /// <summary>Brings the tables to <see cref="Version"/>, all steps or none. Needs the right to make tables.</summary>
    /// <returns>The version before and after; 0 where there were no tables.</returns>
    /// <exception cref="MendException">The server cannot be reached or refuses, or the tables are of a newer version.</exception>
    public static async Task<(int From, int To)> MigrateAsync(string connection, CancellationToken cancellation = default)
    {
        await using var server = PostgresServer.Of(connection);
        return await server.AskAsync(async database =>
        {
            await using var transaction = await database.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancellation).ConfigureAwait(false);
            await ExecuteAsync(database, $"select pg_advisory_xact_lock({Lock})", cancellation).ConfigureAwait(false);
            var found = await FindAsync(database, cancellation).ConfigureAwait(false);
            if (found > Version)
                throw Newer(server, found);
            foreach (var (version, sql) in Steps.Where(step => step.Version > found))
                await ExecuteAsync(database, $"{sql}; insert into mend_schema (version) values ({version})", cancellation).ConfigureAwait(false);
            await transaction.CommitAsync(cancellation).ConfigureAwait(false);
            return (found, Version);
        }, cancellation).ConfigureAwait(false);
    }

    /// <exception cref="MendException">The tables are of another version, or not there.</exception>
    internal static async Task CheckAsync(PostgresServer server, NpgsqlConnection database, CancellationToken cancellation)
    {
        var found = await FindAsync(database, cancellation).ConfigureAwait(false);
        if (found > Version)
            throw Newer(server, found);
        if (found < Version)
            throw LedgerRecordFormat.Unusable(server.Place, found == 0 ? $"there are no tables of a ledger, version {Version} is needed" : $"the tables are of version {found}, {Version} is needed",
                "As their owner: mend ledger migrate --postgres \"Host=...;Database=...;Username=...\".");
    }

    private static MendException Newer(PostgresServer server, int found) => LedgerRecordFormat.Unusable(server.Place,
        $"the tables are of version {found}, this program knows {Version}", "Use the version of MendCluster that made them, or a newer one.");

    private static async Task<int> FindAsync(NpgsqlConnection database, CancellationToken cancellation)
    {
        await using var look = new NpgsqlCommand("select to_regclass('mend_schema') is not null", database);
        if (await look.ExecuteScalarAsync(cancellation).ConfigureAwait(false) is not true)
            return 0;
        await using var ask = new NpgsqlCommand("select coalesce(max(version), 0) from mend_schema", database);
        return (int)(await ask.ExecuteScalarAsync(cancellation).ConfigureAwait(false))!;
    }

    private static async Task ExecuteAsync(NpgsqlConnection database, string sql, CancellationToken cancellation)
    {
        await using var command = new NpgsqlCommand(sql, database);
        await command.ExecuteNonQueryAsync(cancellation).ConfigureAwait(false);
    }

    private static string Read(string resource)
    {
        using var reader = new StreamReader(typeof(PostgresSchema).Assembly.GetManifestResourceStream(resource)!);
        return reader.ReadToEnd();
    }
}
