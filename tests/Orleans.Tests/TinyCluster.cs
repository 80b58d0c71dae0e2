using System.Collections.Concurrent;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Grains;
using MendCluster.Grains.Interfaces;
using MendCluster.Testing;
using Microsoft.Extensions.DependencyInjection;
using Orleans.TestingHost;

namespace MendCluster.Orleans.Tests;

/// <summary>
/// Orleans' test cluster with a tiny model: silos in this process, their messages bytes as between machines; and a client.
/// </summary>
internal sealed class TinyCluster : IAsyncDisposable
{
    private readonly TemporaryFolder _folder;
    private readonly InProcessTestCluster _cluster;
    private readonly Dictionary<int, InProcessSiloHandle> _silos = [];

    private TinyCluster(TemporaryFolder folder, ClusterSettings settings)
    {
        (_folder, Settings) = (folder, settings);
        var builder = new InProcessTestClusterBuilder(0);
        builder.Options.ConfigureFileLogging = false;
        builder.Options.InitializeClientOnDeploy = false;
        builder.ConfigureSilo((options, silo) => silo.AddMendCluster(settings, options.SiloName).AddIncomingGrainCallFilter(async call =>
        {
            Calls.AddOrUpdate(call.MethodName, 1, (_, calls) => calls + 1);
            await Before.GetValueOrDefault(call.MethodName, Task.CompletedTask);
            await call.Invoke();
        }));
        builder.ConfigureClient(client => client.AddMendClient());
        _cluster = builder.Build();
    }

    public static IReadOnlyList<Probe> Probes { get; } = [new("what is red", "blue"), new("the old town", "south")];

    public string Model => Settings.ModelDirectory;

    public ClusterSettings Settings { get; }

    /// <summary>What the calls of a method wait for. A call of a method that is not named waits for nothing.</summary>
    public ConcurrentDictionary<string, Task> Before { get; } = [];

    /// <summary>How often each method of a grain was called.</summary>
    public ConcurrentDictionary<string, int> Calls { get; } = [];

    public OrleansCluster Client { get; private set; } = null!;

    public IGrainFactory Grains => _silos.Values.First().SiloHost.Services.GetRequiredService<IGrainFactory>();

    /// <summary>The cluster's shards as its coordinator sees them, replica after replica.</summary>
    public IReadOnlyList<IModelShard> Shards =>
        [.. Settings.Replicas.SelectMany((stages, replica) => stages.Select((_, stage) => new ShardKey(Settings.Model, replica, stage)))
        .Select(key => new GrainShard(Grains.GetGrain<IModelShardGrain>(key.ToString()), key))];

    public static async Task<TinyCluster> StartAsync(
        string family, int silos, int stages, IReadOnlyList<Probe>? probes = null, int replicas = 1, string? ledger = null,
        params int[] coordinators)
    {
        var folder = new TemporaryFolder();
        var cluster = new TinyCluster(folder, SettingsOf(folder, family, silos, stages, replicas) with
        {
            Ledger = ledger ?? folder["ledger"],
            Probes = probes ?? Probes,
            Coordinators = [.. coordinators.Select(SiloName)],
        });
        await cluster._cluster.DeployAsync();
        for (var i = 0; i < silos; i++)
            await cluster.StartSiloAsync(i);
        await cluster._cluster.InitializeClientAsync();
        cluster.Client = new(cluster._cluster.Client, cluster.Settings.Model, TimeProvider.System);
        return cluster;
    }

    /// <summary>A tiny model in a folder, its stages on silos in turn.</summary>
    public static ClusterSettings SettingsOf(TemporaryFolder folder, string family, int silos, int stages, int replicas = 1)
    {
        var model = Directory.CreateDirectory(folder["model"]).FullName;
        TinyModels.Write(model, family);
        return new()
        {
            ModelDirectory = model,
            Editor = Path.Combine(model, "editor.safetensors"),
            Ledger = folder["ledger"],
            Probes = Probes,
            Replicas = [.. Enumerable.Range(0, replicas * stages).Select(shard => SiloName(shard % silos)).Chunk(stages)],
        };
    }

    /// <summary>As the test cluster names its silos.</summary>
    public static string SiloName(int silo) => $"Silo_{silo}";

    /// <summary>Starts a silo, and waits until its shards are loaded.</summary>
    public async Task StartSiloAsync(int silo)
    {
        _silos[silo] = await _cluster.StartSiloAsync(silo, _cluster.Options);
        await _silos[silo].SiloHost.Services.GetRequiredService<ShardHost>().LoadAsync();
    }

    public async Task StopSiloAsync(int silo)
    {
        _silos.Remove(silo, out var handle);
        await _cluster.StopSiloAsync(handle!);
    }

    public Task<string> StateAsync() => ModelState.OfAsync(Model, Shards, Client);

    public async ValueTask DisposeAsync()
    {
        await Client.DisposeAsync();
        await _cluster.StopClusterClientAsync();
        foreach (var silo in _silos.Keys.ToList())
            await StopSiloAsync(silo);
        await _cluster.DisposeAsync();
        _folder.Dispose();
    }
}
