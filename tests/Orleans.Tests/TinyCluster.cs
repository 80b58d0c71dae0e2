using System.Collections.Concurrent;
using System.Net;
using System.Net.Sockets;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Grains;
using MendCluster.Grains.Interfaces;
using MendCluster.Testing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace MendCluster.Orleans.Tests;

/// <summary>Silos in this process, with real sockets between them, that host a tiny model; and a client of theirs.</summary>
internal sealed class TinyCluster : IAsyncDisposable
{
    private readonly TemporaryFolder _folder;
    private readonly Dictionary<string, IHost> _silos = [];

    private TinyCluster(TemporaryFolder folder) => _folder = folder;

    public static IReadOnlyList<Probe> Probes { get; } = [new("what is red", "blue"), new("the old town", "south")];

    public string Model => _folder["model"];

    public string Editor => Path.Combine(Model, "editor.safetensors");

    public required ClusterSettings Settings { get; init; }

    /// <summary>A database as silos and as clients reach it. Null: membership is in a file.</summary>
    public (string OfSilos, string OfClients)? Membership { get; private init; }

    /// <summary>What the calls of a method wait for. A call of a method that is not named waits for nothing.</summary>
    public ConcurrentDictionary<string, Task> Before { get; } = [];

    /// <summary>How often each method of a grain was called.</summary>
    public ConcurrentDictionary<string, int> Calls { get; } = [];

    public OrleansCluster Client { get; private set; } = null!;

    public IGrainFactory Grains => _silos.Values.First().Services.GetRequiredService<IGrainFactory>();

    /// <summary>The cluster's shards as its coordinator sees them, replica after replica.</summary>
    public IReadOnlyList<IModelShard> Shards => [.. Settings.Replicas.SelectMany((stages, replica) => stages.Select((_, stage) => new ShardKey(Settings.Model, replica, stage)))
        .Select(key => new GrainShard(Grains.GetGrain<IModelShardGrain>(key.ToString()), key, TimeProvider.System))];

    public static async Task<TinyCluster> StartAsync(string family, int silos, int stages, IReadOnlyList<Probe>? probes = null, int replicas = 1, string? ledger = null,
        (string OfSilos, string OfClients)? membership = null, IReadOnlyList<string>? coordinators = null)
    {
        var cluster = New(family, silos, stages, probes ?? Probes, replicas, ledger, membership, coordinators ?? []);
        for (var i = 0; i < silos; i++)
            await cluster.StartSiloAsync($"silo-{i}");
        cluster.Client = membership is var (_, connection) ? await OrleansCluster.ConnectToPostgresAsync(connection, cluster.Settings.Model)
            : await OrleansCluster.ConnectAsync(cluster._folder["members"], cluster.Settings.Model);
        return cluster;
    }

    /// <summary>Starts a silo, and waits until its shards are loaded.</summary>
    public async Task StartSiloAsync(string name)
    {
        var builder = Host.CreateEmptyApplicationBuilder(new());
        builder.Logging.SetMinimumLevel(LogLevel.Error);
        builder.UseOrleans(silo =>
        {
            silo.AddMendCluster(Settings, name).AddIncomingGrainCallFilter(async call =>
            {
                Calls.AddOrUpdate(call.MethodName, 1, (_, calls) => calls + 1);
                await Before.GetValueOrDefault(call.MethodName, Task.CompletedTask);
                await call.Invoke();
            });
            if (Membership is var (connection, _))
                silo.UsePostgresMembership(connection, IPAddress.Loopback, FreePort(), FreePort(), TimeSpan.FromSeconds(5));
            else
                silo.UseFileMembership(_folder["members"], FreePort(), FreePort());
        });
        var host = builder.Build();
        _silos[name] = host;
        await host.StartAsync();
        await host.Services.GetRequiredService<ShardHost>().LoadAsync();
    }

    public async Task StopSiloAsync(string name)
    {
        _silos.Remove(name, out var silo);
        await silo!.StopAsync();
        await ((IAsyncDisposable)silo).DisposeAsync();
    }

    public Task<string> StateAsync() => ModelState.OfAsync(Model, Shards, Client);

    public async ValueTask DisposeAsync()
    {
        await Client.DisposeAsync();
        foreach (var silo in _silos.Keys.ToList())
            await StopSiloAsync(silo);
        _folder.Dispose();
    }

    public static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    private static TinyCluster New(string family, int silos, int stages, IReadOnlyList<Probe> probes, int replicas, string? ledger, (string, string)? membership,
        IReadOnlyList<string> coordinators)
    {
        var folder = new TemporaryFolder();
        var model = Directory.CreateDirectory(folder["model"]).FullName;
        TinyModels.Write(model, family);
        return new(folder)
        {
            Membership = membership,
            Settings = new()
            {
                ModelDirectory = model,
                Editor = Path.Combine(model, "editor.safetensors"),
                Ledger = ledger ?? folder["ledger"],
                Probes = probes,
                Coordinators = coordinators,
                Replicas = [.. Enumerable.Range(0, replicas).Select(replica => (IReadOnlyList<string>)[.. Enumerable.Range(0, stages).Select(stage => $"silo-{(replica * stages + stage) % silos}")])],
            },
        };
    }
}
