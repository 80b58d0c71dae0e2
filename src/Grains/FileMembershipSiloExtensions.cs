using System.Net;
using MendCluster.Grains.Interfaces;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Configuration;
using Orleans.Messaging;

namespace MendCluster.Grains;

public static class FileMembershipSiloExtensions
{
    /// <summary>
    /// For clusters whose processes share this machine: membership in a file, and quick to notice that a process is gone.
    /// </summary>
    /// <param name="path">The same file for all silos and clients.</param>
    public static ISiloBuilder UseFileMembership(this ISiloBuilder silo, string path, int siloPort, int gatewayPort)
    {
        silo.Services.AddSingleton<IMembershipTable>(new FileMembershipTable(path))
            .AddSingleton<IGatewayListProvider>(new FileGateways(path));
        silo.ConfigureEndpoints(IPAddress.Loopback, siloPort, gatewayPort);
        return silo.Configure<ClusterMembershipOptions>(options =>
        {
            options.ProbeTimeout = options.MinProbeTimeout = options.MaxProbeTimeout = TimeSpan.FromSeconds(2);
            options.NumMissedProbesLimit = 3;
            options.NumVotesForDeathDeclaration = 1; // silos of one machine see the same
        });
    }
}
