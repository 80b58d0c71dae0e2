using System.Net;
using System.Net.Sockets;
using MendCluster.Distributed;
using MendCluster.Grains;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace MendCluster.Orleans.Tests;

/// <summary>A silo in this process as the program makes it, with sockets, and membership as the test wants it.</summary>
internal sealed class HostedSilo : IAsyncDisposable
{
    private readonly IHost _host;

    private HostedSilo(IHost host) => _host = host;

    public IGrainFactory Grains => _host.Services.GetRequiredService<IGrainFactory>();

    /// <summary>Starts it, and waits until its shards are loaded.</summary>
    /// <param name="membership">Is given the silo, and ports for silos and for clients.</param>
    public static async Task<HostedSilo> StartAsync(ClusterSettings settings, string name, Action<ISiloBuilder, int, int> membership)
    {
        var builder = Host.CreateEmptyApplicationBuilder(new());
        builder.Logging.SetMinimumLevel(LogLevel.Error);
        builder.UseOrleans(silo => membership(silo.AddMendCluster(settings, name), FreePort(), FreePort()));
        var host = builder.Build();
        await host.StartAsync();
        await host.Services.GetRequiredService<ShardHost>().LoadAsync();
        return new(host);
    }

    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    public async ValueTask DisposeAsync()
    {
        await _host.StopAsync();
        await ((IAsyncDisposable)_host).DisposeAsync();
    }
}
