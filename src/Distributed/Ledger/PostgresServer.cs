using System.Net.Sockets;
using MendCluster.Contracts;
using Npgsql;

namespace MendCluster.Distributed.Ledger;

/// <summary>
/// A database, and the one place where what it answers becomes a <see cref="MendException"/>. No message of it has the password.
/// </summary>
internal sealed class PostgresServer : IAsyncDisposable
{
    private readonly NpgsqlDataSource _source;
    private readonly PostgresSchema _schema;

    private PostgresServer(NpgsqlDataSource source, PostgresSchema schema, string place) =>
        (_source, _schema, Place) = (source, schema, place);

    /// <summary>Host, port and database, for errors.</summary>
    public string Place { get; }

    /// <param name="schema">The tables that are asked for.</param>
    /// <exception cref="MendException">The connection string is none.</exception>
    public static PostgresServer Of(string connection, PostgresSchema schema)
    {
        try
        {
            // A record is no part of a transaction of its caller: appending it is a commit of its own.
            var settings = new NpgsqlConnectionStringBuilder(connection) { Enlist = false };
            settings.ApplicationName ??= "mend";
            return new(NpgsqlDataSource.Create(settings), schema,
                $"PostgreSQL {settings.Host}:{settings.Port}/{settings.Database ?? settings.Username}");
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidCastException or NotSupportedException)
        {
            // The text of the failure may hold a part of the string, and with it the password.
            throw new MendException(MendError.InvalidOption, $"The connection string of the {schema.Name}'s database cannot be read.",
                "It is for example Host=db;Database=mend;Username=mend; the password is best left to PGPASSWORD or a password file.");
        }
    }

    /// <exception cref="MendException">There is no connection.</exception>
    public async Task<NpgsqlConnection> ConnectAsync(CancellationToken cancellation)
    {
        try
        {
            return await _source.OpenConnectionAsync(cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (IsOfServer(e))
        {
            throw Failure(e);
        }
    }

    /// <summary>Asks on a connection of its own.</summary>
    /// <exception cref="MendException">The server cannot be reached, or refuses.</exception>
    public async Task<T> AskAsync<T>(Func<NpgsqlConnection, Task<T>> ask, CancellationToken cancellation)
    {
        await using var connection = await ConnectAsync(cancellation).ConfigureAwait(false);
        try
        {
            return await ask(connection).ConfigureAwait(false);
        }
        catch (Exception e) when (IsOfServer(e))
        {
            throw Failure(e);
        }
    }

    public static bool IsOfServer(Exception e) => e is NpgsqlException or SocketException or IOException or TimeoutException;

    public MendException Failure(Exception e)
    {
        var refusal = e as PostgresException;
        if (refusal is null ? e is not NpgsqlException { IsTransient: false } : refusal.IsTransient || IsShutdown(refusal))
            return new(_schema.Unreachable, $"{Place} does not answer: {Message(e)}.",
                "Look whether the server runs and can be reached from here, then try again.", e);
        return new(_schema.Unusable, $"{Place} refuses: {Message(e)}.", refusal?.SqlState switch
        {
            PostgresErrorCodes.InvalidPassword or PostgresErrorCodes.InvalidAuthorizationSpecification or null =>
                "Check user and password: in the connection string, PGPASSWORD or a password file.",
            PostgresErrorCodes.InsufficientPrivilege => $"The role needs USAGE on the schema, and {_schema.Rights}.",
            PostgresErrorCodes.InvalidCatalogName => "Make the database first: createdb.",
            PostgresErrorCodes.DuplicateTable =>
                "Tables of that name are there which this command did not make: use another database, or another schema (Search Path=...).",
            _ => "Nothing was changed. The server's log may say more.",
        }, e);
    }

    public static string Message(Exception e) => e is PostgresException refusal ? $"{refusal.MessageText} ({refusal.SqlState})"
        : e.InnerException is { } inner ? $"{e.Message}: {inner.Message}" : e.Message;

    public ValueTask DisposeAsync() => _source.DisposeAsync();

    // ended by the server: shutdown, idle in a transaction
    private static bool IsShutdown(PostgresException e) => e.SqlState.StartsWith("57P", StringComparison.Ordinal) || e.SqlState == "25P03";
}
