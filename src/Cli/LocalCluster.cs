using System.ComponentModel;
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Engine.Files;

namespace MendCluster.Cli;

/// <summary>One silo: a process that may be running.</summary>
/// <param name="Started">Tells it from another process that was given the same number later.</param>
internal sealed record SiloProcess(string Name, int SiloPort, int GatewayPort, int Pid = 0, DateTime Started = default)
{
    public Process? Find()
    {
        try
        {
            var process = Process.GetProcessById(Pid);
            if (Pid != 0 && !process.HasExited && (process.StartTime - Started).Duration() < TimeSpan.FromSeconds(2))
                return process;
            process.Dispose();
            return null;
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException or Win32Exception)
        {
            return null;
        }
    }
}

/// <summary>What was asked for when a cluster was started: every silo reads it, and so do the commands that follow.</summary>
internal sealed record LocalClusterSettings(string Model, string ModelDirectory, string? Editor, string Ledger, string DType,
    IReadOnlyList<IReadOnlyList<string>> Replicas, IReadOnlyList<Distributed.Editing.Probe> Probes,
    IReadOnlyDictionary<string, string> Devices, Distributed.Editing.DriftBudget? Budget = null,
    int MaxBatch = Distributed.Editing.ShardOptions.DefaultMaxBatch,
    int MaxGroup = Distributed.Editing.EditCoordinator.DefaultMaxGroup, Distributed.Editing.ConsolidationTriggers? Consolidate = null)
{
    /// <summary>Every shard's silo and place, replica after replica.</summary>
    [JsonIgnore]
    public IReadOnlyList<(string Silo, int Replica, int Stage)> Shards =>
        [.. Replicas.SelectMany((stages, replica) => stages.Select((silo, stage) => (silo, replica, stage)))];
}

/// <summary>A cluster of silo processes on this machine, and the folder with its settings, membership, logs and ledger.</summary>
internal sealed class LocalCluster(string folder)
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(100);
    private static readonly TimeSpan StopPatience = TimeSpan.FromSeconds(30);

    private static readonly JsonSerializerOptions Json = new()
    {
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
    };

    private const string SettingsName = "cluster.json", ProcessesName = "processes.json", MembershipName = "members.json";

    private static string Program => Path.Combine(AppContext.BaseDirectory, "MendCluster.Silo.dll");

    public string Membership => Path.Combine(folder, MembershipName);

    private string SettingsFile => Path.Combine(folder, SettingsName);

    private string ProcessesFile => Path.Combine(folder, ProcessesName);

    public IReadOnlyList<SiloProcess> Silos { get; private set; } = [];

    /// <exception cref="MendException">They are another release's.</exception>
    public LocalClusterSettings Settings
    {
        get => field ??= Read<SiloFile>(SettingsFile).Mend.Cluster;
        private init;
    }

    /// <summary>The folder, while silos are started from it.</summary>
    /// <exception cref="MendException">An earlier release's cluster is in it, or what no <c>mend cluster up</c> made.</exception>
    public static OwnFolder Take(string folder)
    {
        var path = Path.GetFullPath(folder);
        return IsIn(folder) && !File.Exists(Path.Combine(path, OwnFolder.LockFile)) ? throw OfAnotherRelease(path)
            : OwnFolder.Take(path, "mend cluster up", [SettingsName, ProcessesName, MembershipName]);
    }

    /// <summary>Whether a cluster was ever started from a folder.</summary>
    public static bool IsIn(string folder) => File.Exists(Path.Combine(Path.GetFullPath(folder), ProcessesName));

    /// <exception cref="MendException">There is none.</exception>
    public static LocalCluster Open(string folder)
    {
        var cluster = new LocalCluster(Path.GetFullPath(folder));
        if (!File.Exists(cluster.ProcessesFile))
            throw new MendException(MendError.InvalidOption, $"There is no cluster in {cluster.ProcessesFile}.",
                "Start one: mend cluster up.");
        cluster.Silos = Read<List<SiloProcess>>(cluster.ProcessesFile);
        return cluster;
    }

    private static T Read<T>(string file)
    {
        try
        {
            return JsonSerializer.Deserialize<T>(File.ReadAllBytes(file), Json)!;
        }
        catch (JsonException e)
        {
            throw OfAnotherRelease(Path.GetDirectoryName(file)!, e);
        }
    }

    private static MendException OfAnotherRelease(string folder, JsonException? inner = null)
    {
        var ledger = Path.Combine(folder, "ledger");
        var along = File.Exists(ledger) ? $"; --ledger {ledger} takes its edits along" : "";
        var which = inner is null ? "of another release" : $"whose settings this release cannot read: {inner.Message}";
        return new(MendError.OutputTaken, $"{folder} holds a cluster {which}{(which.EndsWith('.') ? "" : ".")}",
            $"End its silos (mend cluster down), and name another folder{along}.", inner);
    }

    public static LocalCluster Create(string folder, int silos, LocalClusterSettings settings)
    {
        Directory.CreateDirectory(folder);
        var cluster = new LocalCluster(Path.GetFullPath(folder)) { Settings = settings };
        var ports = FreePorts(2 * silos);
        cluster.Silos = [.. Enumerable.Range(0, silos).Select(i => new SiloProcess($"silo-{i}", ports[2 * i], ports[2 * i + 1]))];
        File.WriteAllText(cluster.SettingsFile, JsonSerializer.Serialize(new SiloFile(new(cluster.Membership, settings))));
        File.Delete(cluster.Membership);
        cluster.Save();
        return cluster;
    }

    /// <summary>Starts the silos that are not running. They go on when this process ends.</summary>
    public void Start()
    {
        Silos = [.. Silos.Select(silo =>
        {
            using var running = silo.Find();
            if (running is not null)
                return silo;
            // The shell gives way to the program, so the process is the silo; setsid takes it out of this terminal's reach.
            using var process = Process.Start("setsid", ["sh", "-c", "exec \"$@\" >\"$0\" 2>&1 </dev/null", LogOf(silo),
                Environment.ProcessPath!, Program, "--settings", SettingsFile, $"--Mend:Name={silo.Name}",
                $"--Mend:SiloPort={silo.SiloPort}", $"--Mend:GatewayPort={silo.GatewayPort}"]);
            return silo with { Pid = process.Id, Started = process.StartTime };
        })];
        Save();
    }

    /// <summary>Waits until every stage is loaded.</summary>
    /// <exception cref="MendException">A silo ended, or a stage could not be loaded.</exception>
    public async Task<IReadOnlyList<ShardStatus?>> ReadyAsync(CancellationToken cancellation)
    {
        OrleansCluster? cluster = null;
        try
        {
            for (; ; await Task.Delay(Pause, cancellation))
            {
                foreach (var silo in Silos)
                    if (silo.Find() is null)
                        throw new MendException(MendError.ShardLost, $"{silo.Name} ended: {LastLines(silo)}", $"Its log is {LogOf(silo)}.");
                if (!File.Exists(Membership))
                    continue;
                try
                {
                    cluster ??= await OrleansCluster.ConnectAsync(Membership, Settings.Model, cancellation: cancellation);
                }
                catch (MendException e) when (e.IsTransient)
                {
                    continue; // no silo takes connections yet
                }
                var shards = await cluster.StatusAsync(cancellation);
                if (shards.FirstOrDefault(shard => shard?.State == ShardState.Faulted) is { } faulted)
                    throw new MendException(MendError.ModelUnusable, $"A stage could not be loaded: {faulted.Fault}",
                        "Correct the files, then mend cluster down and up.");
                if (shards.All(shard => shard?.State == ShardState.Ready))
                    return shards;
            }
        }
        finally
        {
            if (cluster is not null)
                await cluster.DisposeAsync();
        }
    }

    /// <summary>Asks all silos to end, and ends those that do not.</summary>
    public async Task StopAsync(CancellationToken cancellation)
    {
        List<Process> running = [.. Silos.Select(silo => silo.Find()).OfType<Process>()];
        foreach (var process in running)
            using (var signal = Process.Start("sh", ["-c", $"kill -TERM {process.Id}"]))
                await signal.WaitForExitAsync(cancellation);
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        patience.CancelAfter(StopPatience);
        foreach (var process in running)
        {
            try
            {
                await process.WaitForExitAsync(patience.Token);
            }
            catch (OperationCanceledException) when (!cancellation.IsCancellationRequested)
            {
                process.Kill();
            }
            process.Dispose();
        }
    }

    /// <summary>Ends a silo at once, as a power failure would.</summary>
    public async Task KillAsync(string name, CancellationToken cancellation)
    {
        var silo = Silos.FirstOrDefault(silo => silo.Name == name)
            ?? throw new MendException(MendError.InvalidOption, $"There is no {name}.",
                $"The silos are {string.Join(", ", Silos.Select(silo => silo.Name))}.");
        using var process = silo.Find()
            ?? throw new MendException(MendError.InvalidOption, $"{name} does not run.", "mend cluster up starts it.");
        process.Kill();
        await process.WaitForExitAsync(cancellation);
    }

    private string LogOf(SiloProcess silo) => Path.Combine(folder, silo.Name + ".log");

    private string LastLines(SiloProcess silo) => File.Exists(LogOf(silo)) ? string.Join(" | ", File.ReadLines(LogOf(silo)).TakeLast(5))
        : "";

    private void Save() => File.WriteAllText(ProcessesFile, JsonSerializer.Serialize(Silos));

    private static int[] FreePorts(int count)
    {
        List<TcpListener> listeners = [.. Enumerable.Range(0, count).Select(_ => new TcpListener(IPAddress.Loopback, 0))];
        listeners.ForEach(listener => listener.Start());
        int[] ports = [.. listeners.Select(listener => ((IPEndPoint)listener.LocalEndpoint).Port)];
        listeners.ForEach(listener => listener.Stop());
        return ports;
    }

    private sealed record SiloFile(SiloSection Mend);

    private sealed record SiloSection(string MembershipFile, LocalClusterSettings Cluster);
}
