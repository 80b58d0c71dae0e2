using MendCluster.Distributed;
using MendCluster.Distributed.Training;
using MendCluster.Grains.Interfaces;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.DependencyInjection.Extensions;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Orleans.Configuration;
using Orleans.Versions.Compatibility;

namespace MendCluster.Grains;

public static class MendClusterSiloExtensions
{
    /// <summary>
    /// Makes a silo part of a cluster that hosts a model. Everything that a silo needs of this project is registered here.
    /// </summary>
    /// <param name="name">The silo's; it decides which stages are here.</param>
    public static ISiloBuilder AddMendCluster(this ISiloBuilder silo, ClusterSettings settings, string name)
    {
        silo.Configure<ClusterOptions>(options => (options.ClusterId, options.ServiceId) = (settings.ClusterId, settings.ServiceId));
        silo.Configure<SiloOptions>(options => options.SiloName = name);
        // Probes share these connections with tensors: several, so that one of them is free.
        silo.Configure<ConnectionOptions>(options => options.ConnectionsPerEndpoint = 4);
        silo.Configure<SiloMessagingOptions>(options =>
        {
            options.WaitForCancellationAcknowledgement = true;
            options.MaxMessageBodySize = int.MaxValue; // WireTensorFieldCodec.MaxMessageBytes comes first, and does no harm to others
        });
        // A probe by way of another silo never ends for one that is cut off: it waits there for that acknowledgement. Two silos vote in any
        // case.
        silo.Configure<ClusterMembershipOptions>(options => options.EnableIndirectProbes = false);
        silo.Configure<GrainVersioningOptions>(options => options.DefaultCompatibilityStrategy = nameof(StrictVersionCompatible));
        silo.AddActivityPropagation();
        silo.Services.TryAddSingleton(TimeProvider.System);
        silo.Services
            .AddSingleton(settings)
            .AddSingleton<IOutgoingGrainCallFilter, WireProtocol.Said>()
            .AddSingleton<IIncomingGrainCallFilter, WireProtocol.Required>()
            .AddSingleton<InFlightCalls>()
            .AddSingleton<IIncomingGrainCallFilter>(provider => provider.GetRequiredService<InFlightCalls>())
            .AddSingleton(provider => new ShardHost(
                settings.ShardsOf(name), provider.GetRequiredService<TimeProvider>(), provider.GetRequiredService<ILogger<ShardHost>>()))
            .AddSingleton(provider => new TrainingShardHost(settings.TrainingShardsOf(name), GrainTrainingShard.In(
                provider.GetRequiredService<IGrainFactory>(), settings.Model)))
            .AddHostedService<ShardLoader>();
        return silo.AddPlacementDirector<PinnedPlacement, PinnedPlacementDirector>();
    }

    /// <summary>Loads this silo's shards when it starts; until then they say that they are loading.</summary>
    private sealed class ShardLoader(ShardHost shards) : BackgroundService
    {
        protected override Task ExecuteAsync(CancellationToken stoppingToken) => shards.LoadAsync(stoppingToken);
    }
}
