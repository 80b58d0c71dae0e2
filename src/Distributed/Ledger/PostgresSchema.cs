using System.Data;
using MendCluster.Contracts;
using Npgsql;

namespace MendCluster.Distributed.Ledger;

/// <summary>
/// Tables in PostgreSQL: those of ledgers or those of membership, each by itself, in one database or in two. They are made and changed by a
/// command and never by a program that uses them. Each change is a numbered file, Postgres/NNN-NAME.sql; one that was released is not
/// edited any more.
/// </summary>
public sealed class PostgresSchema
{
    private const long Lock = 0x6D656E64; // "mend": one migration at a time

    private readonly string _versions;
    private readonly string _command;
    private readonly (int Version, string Sql)[] _steps;

    private PostgresSchema(string name, string versions, string command, string rights, MendError unreachable, MendError unusable)
    {
        (Name, _versions, _command, Rights, Unreachable, Unusable) = (name, versions, command, rights, unreachable, unusable);
        _steps = [.. typeof(PostgresSchema).Assembly.GetManifestResourceNames()
            .Where(resource => resource.StartsWith(name + "/", StringComparison.Ordinal))
            .Order(StringComparer.Ordinal).Select((resource, i) => (i + 1, Read(resource)))];
    }

    /// <summary>What a cluster's coordinator writes.</summary>
    public static PostgresSchema Ledger { get; } = new("ledger", "mend_schema", "mend ledger migrate",
        "SELECT and INSERT on mend_record and mend_epoch, SELECT on mend_schema", MendError.LedgerUnreachable, MendError.LedgerUnusable);

    /// <summary>Where the silos of a cluster find each other.</summary>
    public static PostgresSchema Membership { get; } = new("membership", "mend_membership_schema", "mend cluster migrate",
        "SELECT, INSERT and UPDATE on mend_cluster, these and DELETE on mend_silo, SELECT, INSERT and UPDATE on mend_protocol, SELECT on mend_member, OrleansQuery and mend_membership_schema",
        MendError.MembershipUnreachable, MendError.MembershipUnusable);

    /// <summary>That this program reads and writes.</summary>
    public int Version => _steps.Length;

    internal string Name { get; }

    /// <summary>That a program needs which uses the tables, besides USAGE on the schema.</summary>
    internal string Rights { get; }

    internal MendError Unreachable { get; }

    internal MendError Unusable { get; }

    /// <summary>
    /// Brings the tables to <see cref="Version"/>, all steps or none, in the schema that the connection's <c>Search Path</c> names, which
    /// is made where it is missing. Needs the right to make tables.
    /// </summary>
    /// <returns>The version before and after; 0 where there were no tables.</returns>
    /// <exception cref="MendException">The server cannot be reached or refuses, or the tables are of a newer version.</exception>
    public async Task<(int From, int To)> MigrateAsync(string connection, CancellationToken cancellation = default)
    {
        await using var server = PostgresServer.Of(connection, this);
        return await server.AskAsync(async database =>
        {
            await using var transaction = await database.BeginTransactionAsync(IsolationLevel.ReadCommitted, cancellation)
                .ConfigureAwait(false);
            await ExecuteAsync(database, $"select pg_advisory_xact_lock({Lock})", cancellation).ConfigureAwait(false);
            if (new NpgsqlConnectionStringBuilder(connection).SearchPath is { Length: > 0 }
                && await MissingSchemaAsync(database, cancellation).ConfigureAwait(false) is { } missing)
                await ExecuteAsync(database, $"create schema {missing}", cancellation).ConfigureAwait(false);
            var found = await FindAsync(database, cancellation).ConfigureAwait(false);
            if (found > Version)
                throw Newer(server, found);
            foreach (var (version, sql) in _steps.Where(step => step.Version > found))
                await ExecuteAsync(database, $"{sql}; insert into {_versions} (version) values ({version})", cancellation)
                    .ConfigureAwait(false);
            await transaction.CommitAsync(cancellation).ConfigureAwait(false);
            return (found, Version);
        }, cancellation).ConfigureAwait(false);
    }

    /// <exception cref="MendException">
    /// The server cannot be reached or refuses, or the tables are of another version, or not there.
    /// </exception>
    public async Task CheckAsync(string connection, CancellationToken cancellation = default)
    {
        await using var server = PostgresServer.Of(connection, this);
        await server.AskAsync(async database =>
        {
            await CheckAsync(server, database, cancellation).ConfigureAwait(false);
            return true;
        }, cancellation).ConfigureAwait(false);
    }

    /// <exception cref="MendException">The tables are of another version, or not there.</exception>
    internal async Task CheckAsync(PostgresServer server, NpgsqlConnection database, CancellationToken cancellation)
    {
        var found = await FindAsync(database, cancellation).ConfigureAwait(false);
        if (found > Version)
            throw Newer(server, found);
        if (found < Version)
            throw Refused(server, found == 0 ? $"there are no tables of a {Name}, version {Version} is needed"
                : $"the tables of the {Name} are of version {found}, {Version} is needed",
                $"As their owner: {_command} --postgres \"Host=...;Database=...;Username=...\".");
    }

    private MendException Newer(PostgresServer server, int found) =>
        Refused(server, $"the tables of the {Name} are of version {found}, this program knows {Version}",
        "Use the version of MendCluster that made them, or a newer one.");

    private MendException Refused(PostgresServer server, string what, string hint) => new(Unusable, $"{server.Place}: {what}.", hint);

    private async Task<int> FindAsync(NpgsqlConnection database, CancellationToken cancellation)
    {
        await using var look = new NpgsqlCommand($"select to_regclass('{_versions}') is not null", database);
        if (await look.ExecuteScalarAsync(cancellation).ConfigureAwait(false) is not true)
            return 0;
        await using var ask = new NpgsqlCommand($"select coalesce(max(version), 0) from {_versions}", database);
        return (int)(await ask.ExecuteScalarAsync(cancellation).ConfigureAwait(false))!;
    }

    /// <returns>The first of the search path, as an identifier, where none of the path is there.</returns>
    private static async Task<string?> MissingSchemaAsync(NpgsqlConnection database, CancellationToken cancellation)
    {
        await using var look = new NpgsqlCommand("select split_part(current_setting('search_path'), ',', 1) where current_schema() is null",
            database);
        return (string?)await look.ExecuteScalarAsync(cancellation).ConfigureAwait(false);
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
