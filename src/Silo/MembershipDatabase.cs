using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using MendCluster.Distributed.Membership;
using MendCluster.Grains.Interfaces;
using MendCluster.Server;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace MendCluster.Silo;

/// <summary>
/// The database that a silo joins its cluster through. The silo starts when it answers, since after a power failure silos may be up before
/// it is, and when no silo is there that speaks another version of the protocol. Meanwhile health says what the silo waits for.
/// </summary>
internal sealed class MembershipDatabase(
    string connection, string cluster, string silo, ServedCluster served, TimeProvider time,
    ILogger<MembershipDatabase> logger) : IHostedService
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(2);

    /// <exception cref="MendException">It refuses, or its tables are missing or of another version.</exception>
    public async Task StartAsync(CancellationToken cancellationToken)
    {
        for (string? said = null; await WhyNotAsync(cancellationToken).ConfigureAwait(false) is { } why;)
        {
            served.Waits(why.Short);
            if (said != why.Long)
                logger.Waits(said = why.Long);
            await Task.Delay(Pause, time, cancellationToken).ConfigureAwait(false);
        }
        served.Waits("joins its cluster");
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private async Task<(string Short, string Long)?> WhyNotAsync(CancellationToken cancellation)
    {
        try
        {
            await PostgresSchema.Membership.CheckAsync(connection, cancellation).ConfigureAwait(false);
            var others = await SiloProtocols.EnterAsync(connection, cluster, silo, WireProtocol.Version, cancellation)
                .ConfigureAwait(false);
            if (others.Count == 0)
                return null;
            var waits = $"waits until silos of other releases have gone: {string.Join(", ", others.Select(other => $"{other.Silo} speaks version {other.Version}"))} of the protocol, this one {WireProtocol.Version}";
            return (waits, $"The silo {waits}. Restart those with this release, or this one with theirs.");
        }
        catch (MendException e) when (e.Error == MendError.MembershipUnreachable)
        {
            return ("waits for the membership's database", $"{e.Message} The silo waits for it.");
        }
    }
}
