using MendCluster.Distributed.Ledger;
using Npgsql;

namespace MendCluster.Distributed.Membership;

/// <summary>Which version of the protocol the silos of a cluster speak, in the membership's database.</summary>
public static class SiloProtocols
{
    /// <summary>Of silos that did not say: those before there was a place for it.</summary>
    private const int Unsaid = 3;

    /// <summary>A silo that has not renewed its row for so long is gone, whatever state it is in there.</summary>
    private static readonly TimeSpan Gone = TimeSpan.FromMinutes(2);

    /// <summary>
    /// Says what a silo speaks, before it joins; not while silos are there that speak another version: neither would understand the other.
    /// </summary>
    /// <param name="connection">Of the membership's database, with its tables.</param>
    /// <returns>Those silos and their versions; none: the silo may join.</returns>
    /// <exception cref="Contracts.MendException">The server cannot be reached, or refuses.</exception>
    public static async Task<IReadOnlyList<(string Silo, int Version)>> EnterAsync(
        string connection, string cluster, string silo, int version, CancellationToken cancellation = default)
    {
        await using var server = PostgresServer.Of(connection, PostgresSchema.Membership);
        return await server.AskAsync(async database =>
        {
            await using var ask = new NpgsqlCommand("""
                with others as (
                  select distinct mend_silo.name, coalesce(mend_protocol.version, @unsaid) as version
                  from mend_silo left join mend_protocol on mend_protocol.cluster = mend_silo.cluster and silo = mend_silo.name
                  where mend_silo.cluster = @cluster and mend_silo.name <> @silo and status in (2, 3) and alive > now() - @gone
                    and coalesce(mend_protocol.version, @unsaid) <> @version),
                entered as (
                  insert into mend_protocol (cluster, silo, version) select @cluster, @silo, @version where not exists (select from others)
                  on conflict (cluster, silo) do update set version = excluded.version, time = now())
                select name, version from others order by name
                """, database)
            {
                Parameters =
                {
                    new("unsaid", Unsaid), new("cluster", cluster), new("silo", silo), new("version", version), new("gone", Gone),
                },
            };
            List<(string, int)> others = [];
            await using var rows = await ask.ExecuteReaderAsync(cancellation).ConfigureAwait(false);
            while (await rows.ReadAsync(cancellation).ConfigureAwait(false))
                others.Add((rows.GetString(0), rows.GetInt32(1)));
            return others;
        }, cancellation).ConfigureAwait(false);
    }
}
