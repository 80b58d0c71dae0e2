using MendCluster.Grains.Interfaces;
using Orleans.Configuration;

namespace MendCluster.Client.Orleans;

public static class MendClientExtensions
{
    /// <summary>How soon a client leaves a gateway that the silos count as dead: one that was cut off closes no connection.</summary>
    private static readonly TimeSpan GatewayRefresh = TimeSpan.FromSeconds(5);

    /// <summary>What <see cref="OrleansCluster"/> needs of an Orleans client, wherever that finds its silos.</summary>
    public static IClientBuilder AddMendClient(this IClientBuilder client) => client
        // A cancelled edit ends with what became of it, made or not; without this it is given up at once, and may still be made.
        .Configure<ClientMessagingOptions>(options => options.WaitForCancellationAcknowledgement = true)
        .Configure<GatewayOptions>(options => options.GatewayListRefreshPeriod = GatewayRefresh)
        .AddOutgoingGrainCallFilter<WireProtocol.Said>()
        .AddActivityPropagation();
}
