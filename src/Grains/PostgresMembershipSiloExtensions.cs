using System.Net;
using Orleans.Configuration;

namespace MendCluster.Grains;

public static class PostgresMembershipSiloExtensions
{
    private const int MaxMissed = 5;

    /// <summary>
    /// For clusters of machines: membership in PostgreSQL, in the tables of <see cref="Distributed.Ledger.PostgresSchema.Membership"/>.
    /// </summary>
    /// <param name="connection">The same database for all silos and clients.</param>
    /// <param name="address">Where the other machines reach this one.</param>
    /// <param name="deadAfter">How long a silo may be silent before the others count it as dead.</param>
    public static ISiloBuilder UsePostgresMembership(this ISiloBuilder silo, string connection, IPAddress address, int siloPort,
        int gatewayPort, TimeSpan deadAfter) =>
        silo.UseAdoNetClustering(options => (options.Invariant, options.ConnectionString) = ("Npgsql", connection))
            .ConfigureEndpoints(address, siloPort, gatewayPort, listenOnAnyHostAddress: true)
            .Configure<ClusterMembershipOptions>(options =>
            {
                // All three, or Orleans makes it as short as the answers have lately been.
                options.ProbeTimeout = options.MinProbeTimeout = options.MaxProbeTimeout = deadAfter / MaxMissed;
                options.NumMissedProbesLimit = MaxMissed;
                // Votes are given again with every missed probe. One that outlived its silo would count beside that of the silo that was
                // started in its place: a machine that reaches the database and nobody else would vote all others out, alone.
                options.DeathVoteExpirationTimeout = deadAfter / 2;
            });
}
