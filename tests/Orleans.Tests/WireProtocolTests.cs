using System.Net;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Grains;
using MendCluster.Grains.Interfaces;
using MendCluster.Testing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Orleans.Configuration;
using Orleans.Metadata;

namespace MendCluster.Orleans.Tests;

/// <summary>Programs whose messages the other does not understand find that out before the first of them.</summary>
public sealed class WireProtocolTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(null, 1)] // before it was said
    [InlineData("9999", 9999)]
    public async Task AClientOfACluster_ThatSpeaksAnotherVersion_IsRefused_InALineThatNamesBoth(string? said, int version)
    {
        await using var silo = await StartAsync(TinyCluster.SettingsOf(_folder, "gpt2", silos: 1, stages: 1), 0, said);
        var refused = await Assert.ThrowsAsync<MendException>(() => OrleansCluster.ConnectAsync(_folder["members"], "model"));
        Assert.Equal((MendError.ProtocolMismatch, false), (refused.Error, refused.IsTransient));
        var both = $"speaks version {version} of MendCluster's protocol, this program version {WireProtocol.Version}.";
        Assert.Contains(both, refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain('\n', refused.Message);
    }

    [Fact]
    public async Task ASiloThatSpeaksAnotherVersion_IsAskedNothing()
    {
        var settings = TinyCluster.SettingsOf(_folder, "gpt2", silos: 2, stages: 2);
        await using var silo = await StartAsync(settings, 0, $"{WireProtocol.Version}");
        await using var older = await StartAsync(settings, 1, "1");
        var key = new ShardKey(settings.Model, 0, 1);
        var shard = new GrainShard(silo.Grains.GetGrain<IModelShardGrain>(key.ToString()), key);
        var refused = await Assert.ThrowsAsync<MendException>(() => shard.StatusAsync());
        Assert.Equal(MendError.ShardLost, refused.Error);
        Assert.Contains($"version {WireProtocol.Version}", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>Programs before version 2 named none and did not look. Their edit's options came to nothing, and nothing said so.</summary>
    [Fact]
    public async Task AClientThatSaysNoVersion_IsAnsweredNothing_AndChangesNothing()
    {
        var gateway = 0;
        await using var silo = await HostedSilo.StartAsync(TinyCluster.SettingsOf(_folder, "gpt2", silos: 1, stages: 1),
            TinyCluster.SiloName(0), (builder, siloPort, gatewayPort) =>
            builder.UseFileMembership(_folder["members"], siloPort, gateway = gatewayPort));
        var builder = Host.CreateEmptyApplicationBuilder(new());
        builder.UseOrleansClient(client => client.UseStaticClustering(new IPEndPoint(IPAddress.Loopback, gateway))
            .Configure<ClusterOptions>(options =>
                (options.ClusterId, options.ServiceId) = (ClusterIdentity.Default, ClusterIdentity.Default)));
        using var host = builder.Build();
        await host.StartAsync();
        var coordinator = host.Services.GetRequiredService<IGrainFactory>().GetGrain<IEditCoordinatorGrain>("model");
        var refused = await Assert.ThrowsAsync<MendException>(() => coordinator.EditAsync("what is red", "blue", null));
        Assert.Equal(MendError.ProtocolMismatch, refused.Error);
        Assert.Contains($"speaks version {WireProtocol.Version} of MendCluster's protocol, the program that asks it version 1.",
            refused.Message, StringComparison.Ordinal);
        await using var client = await OrleansCluster.ConnectAsync(_folder["members"], "model");
        Assert.Empty(await client.LedgerAsync());
    }

    private Task<HostedSilo> StartAsync(ClusterSettings settings, int silo, string? version) =>
        HostedSilo.StartAsync(settings, TinyCluster.SiloName(silo), (builder, siloPort, gatewayPort) =>
            builder.UseFileMembership(_folder["members"], siloPort, gatewayPort)
                .Services.AddSingleton<IGrainInterfacePropertiesProvider>(new Speaks(version)));

    private sealed class Speaks(string? version) : IGrainInterfacePropertiesProvider
    {
        public void Populate(Type interfaceType, GrainInterfaceType grainInterfaceType, Dictionary<string, string> properties)
        {
            properties.Remove(WellKnownGrainInterfaceProperties.Version);
            if (version is not null)
                properties[WellKnownGrainInterfaceProperties.Version] = version;
        }
    }
}
