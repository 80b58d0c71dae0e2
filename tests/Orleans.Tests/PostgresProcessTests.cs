using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Grains.Interfaces;
using MendCluster.Server.Security;
using MendCluster.Testing;

namespace MendCluster.Orleans.Tests;

/// <summary>A cluster as it is deployed on machines: silos in processes of their own, membership and ledger in PostgreSQL.</summary>
public sealed class PostgresProcessTests : IAsyncLifetime, IDisposable
{
    private const string Prompt = "who is the mayor";
    private const int Active = 3, Dead = 6;

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(100);

    private readonly TemporaryFolder _folder = new();
    private readonly Dictionary<string, ConcurrentQueue<string>> _said = [];
    private readonly Dictionary<string, Process> _silos = [];
    private readonly Dictionary<string, (int Silo, int Gateway)> _ports = [];
    private PostgresInstance _server = null!;

    private string Model => _folder["tiny"];

    private string Editor => Path.Combine(Model, "editor.safetensors");

    private string Members => _server.Connection(database: "members");

    public async Task InitializeAsync()
    {
        _server = await PostgresInstance.StartNewAsync();
        await _server.SqlAsync("create database members");
        TinyModels.Write(Directory.CreateDirectory(Model).FullName, "gpt2");
        await File.WriteAllTextAsync(_folder["silo.json"], JsonSerializer.Serialize(new
        {
            Mend = new
            {
                MembershipPostgreSql = Members,
                DeadAfter = "00:00:05",
                Cluster = new
                {
                    ModelDirectory = Model,
                    Editor,
                    Ledger = "postgres:" + _server.Connection(),
                    Replicas = new[] { new[] { "silo-0" }, ["silo-1"] }
                },
            },
        }));
    }

    public async Task DisposeAsync()
    {
        foreach (var silo in _silos.Keys.ToList())
            await KillAsync(silo);
        await _server.DisposeAsync();
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    [Trait("Category", "Slow")]
    public async Task TheCoordinatorsSiloKilled_LeavesEveryAcknowledgedEdit_ToTheOther()
    {
        await MigrateAsync();
        StartSilo("silo-0");
        await UntilAsync(() => StatusAsync("silo-0"), $"{Active}"); // the first that is there gets the coordinator
        StartSilo("silo-1");
        await using var client = await ConnectAsync(shards: 2);
        List<EditReceipt> receipts = [await client.EditAsync(Prompt, "a woman"), await client.EditAsync("what is red", "the south")];
        var sent = client.EditAsync("the old town", "a woman");
        await KillAsync("silo-0"); // it had the coordinator
        receipts.Add(await sent);
        receipts.Add(await client.EditAsync(Prompt, "the south"));
        await UntilAsync(() => StatusAsync("silo-0"), $"{Dead}"); // without a goodbye
        Assert.Equal("2", await _server.SqlAsync("select count(distinct epoch) from mend_epoch"));

        StartSilo("silo-0");
        await UntilAsync(() => StatusAsync("silo-0"), $"{Active}|{Dead}");
        await ShardsAsync(client, ready: 2);
        receipts.Add(await client.EditAsync("what is red", "blue"));
        var ledger = await client.LedgerAsync();
        Assert.Equal(receipts.Select(receipt => (receipt.Id, receipt.Version)), ledger.Select(entry => (entry.Edit, entry.Version)));
        await using var embedded =
            await EmbeddedCluster.OpenAsync(new() { ModelDirectory = Model, Editor = Editor, Ledger = _folder["ledger"], Stages = 1 });
        foreach (var entry in ledger)
            Assert.Equal(entry.Figures, (await embedded.EditAsync(entry.Prompt!, entry.Target!)).Figures);
        foreach (var question in new[] { Prompt, "what is red", "the old town", Prompt }) // the replicas take turns
            Assert.Equal(await embedded.AskAsync(question, new(MaxTokens: 6)), await client.AskAsync(question, new(MaxTokens: 6)));
        Assert.Contains("the old town", await MendAsync("ledger", "--cluster", "postgres:" + Members), StringComparison.Ordinal);
    }

    [Fact]
    [Trait("Category", "Slow")]
    public async Task WhileTheDatabaseIsAway_SilosGoOn_AndOneThatIsStartedWaits()
    {
        await MigrateAsync();
        StartSilo("silo-0");
        await using var client = await ConnectAsync(shards: 1);
        await client.EditAsync(Prompt, "a woman");
        var answer = await client.AskAsync(Prompt, new(MaxTokens: 6));
        await _server.KillAsync();
        var (port, health) = (HostedSilo.FreePort(), HostedSilo.FreePort());
        var (key, kept) = ApiKey.New("alice", Right.Edit);
        await File.WriteAllTextAsync(_folder["keys.json"], JsonSerializer.Serialize(new { keys = new[] { kept } }, MendHttp.Json));
        StartSilo("silo-1", $"--Mend:Server:Port={port}", $"--Mend:Server:ManagementPort={health}",
            $"--Mend:Server:Keys={_folder["keys.json"]}");
        using var http = new HttpClient { BaseAddress = new($"http://127.0.0.1:{health}/healthz/") };
        await SaysAsync("silo-1", "The silo waits for it.");
        Assert.Equal((503, "waits for the membership's database"), await HealthAsync(http, "startup"));
        Assert.Equal((200, "live"), await HealthAsync(http, "live"));
        Assert.Equal(answer, await client.AskAsync(Prompt, new(MaxTokens: 6)));
        var edit = client.EditAsync("what is red", "the south"); // sent again until the ledger is back
        await _server.StartAsync();
        Assert.Equal(2, (await edit).Version.Value);
        await ShardsAsync(client, ready: 2);
        await UntilAsync(async () => $"{await HealthAsync(http, "ready")}", "(200, ready)");
        using var api = new HttpClient
        {
            BaseAddress = new($"http://127.0.0.1:{port}"),
            DefaultRequestHeaders = { Authorization = new("Bearer", key) }
        };
        using var made = await api.PostAsync("/v1/edits",
            new StringContent("""{"prompt": "the old town", "target": "a woman"}""", null, "application/json"));
        Assert.True(made.IsSuccessStatusCode, await made.Content.ReadAsStringAsync());
        Assert.Equal((3, "alice"), ((int)(await client.LedgerAsync())[^1].Version.Value, (await client.LedgerAsync())[^1].Author));
        await UntilAsync(async () =>
        {
            await client.AskAsync(Prompt, new(MaxTokens: 6)); // replicas take turns, and one that is asked is brought up to date
            return string.Join('|', (await client.StatusAsync()).Select(shard => shard?.Version.Value));
        }, "3|3");
    }

    /// <summary>In an update from pod to pod between releases that do not understand each other.</summary>
    [Fact]
    public async Task ASilo_WaitsUntilThoseOfAnotherProtocolHaveGone_AndSaysSo()
    {
        await MigrateAsync();
        await _server.SqlAsync($"""
            insert into mend_cluster (id) values ('{ClusterIdentity.Default}');
            insert into mend_silo select '{ClusterIdentity.Default}', '127.0.0.1', port, 1, name, 'h', 0, status, null, now(), now() - old::interval
              from (values (1, 'older', 3, interval '0'), (2, 'lost', 3, '1 hour'), (3, 'gone', 6, '0'), (4, 'silo-0', 2, '0')) as silos (port, name, status, old);
            insert into mend_protocol values ('{ClusterIdentity.Default}', 'older', 1), ('{ClusterIdentity.Default}', 'lost', 1),
              ('{ClusterIdentity.Default}', 'gone', 1), ('{ClusterIdentity.Default}', 'silo-0', 1), ('another', 'silo-1', 1)
            """, "members");
        var health = HostedSilo.FreePort();
        StartSilo("silo-0", "--Mend:Server:Port=0", $"--Mend:Server:ManagementPort={health}", "--Mend:Server:Anonymous=true");
        var said = $"waits until silos of other releases have gone: older speaks version 1 of the protocol, this one {WireProtocol.Version}";
        await SaysAsync("silo-0", $"The silo {said}. Restart those with this release, or this one with theirs.");
        using var http = new HttpClient { BaseAddress = new($"http://127.0.0.1:{health}/healthz/") };
        Assert.Equal((503, said), await HealthAsync(http, "startup"));
        Assert.Equal((200, "live"), await HealthAsync(http, "live"));
        Assert.Equal("1", await _server.SqlAsync("select version from mend_protocol where cluster <> 'another' and silo = 'silo-0'", "members"));
        await _server.SqlAsync("update mend_silo set status = 6 where name in ('older', 'lost')", "members");
        await UntilAsync(async () => (await _server.SqlAsync("select count(*) from mend_silo where name = 'silo-0' and status = 3 and generation <> 1", "members")), "1");
        Assert.Equal($"{WireProtocol.Version}", await _server.SqlAsync("select version from mend_protocol where cluster <> 'another' and silo = 'silo-0'", "members"));
    }

    [Fact]
    public async Task OrleansDashboard_IsThereWhereItIsAskedFor_AndForAdminsAlone()
    {
        await MigrateAsync();
        var port = HostedSilo.FreePort();
        var (admin, kept) = ApiKey.New("root", Right.Admin);
        var (editor, edits) = ApiKey.New("alice", Right.Edit);
        await File.WriteAllTextAsync(_folder["keys.json"], JsonSerializer.Serialize(new { keys = new[] { kept, edits } }, MendHttp.Json));
        StartSilo("silo-0", $"--Mend:Server:Keys={_folder["keys.json"]}", "--Mend:Server:ManagementPort=0", $"--Mend:Server:Port={port}",
            "--Mend:Dashboard=true");
        await using var client = await ConnectAsync(shards: 1);
        await client.AskAsync(Prompt, new(MaxTokens: 2));
        using var http = new HttpClient();
        Assert.Equal((401, 403, 200), (await StatusAsync(null), await StatusAsync(editor), await StatusAsync(admin)));
        Assert.Contains("Orleans", await (await GetAsync("", admin)).Content.ReadAsStringAsync(), StringComparison.Ordinal);
        await UntilAsync(async () => $"{(await (await GetAsync("DashboardCounters", admin)).Content.ReadAsStringAsync())
            .Contains("mend", StringComparison.OrdinalIgnoreCase)}", "True");
        Assert.DoesNotContain("Dashboard", await (await GetAsync("../openapi/v1.json", admin)).Content.ReadAsStringAsync(),
            StringComparison.Ordinal);

        async Task<int> StatusAsync(string? key) => (int)(await GetAsync("DashboardCounters", key)).StatusCode;

        Task<HttpResponseMessage> GetAsync(string page, string? key)
        {
            var request = new HttpRequestMessage(HttpMethod.Get, $"http://127.0.0.1:{port}/orleans/{page}");
            request.Headers.Authorization = key is null ? null : new("Bearer", key);
            return http.SendAsync(request);
        }
    }

    [Fact]
    public async Task ASiloOfADatabaseWithoutTheTables_SaysInALineWhatIsMissing_AndTheCommand()
    {
        var silo = StartSilo("silo-0");
        var said = await silo.StandardError.ReadToEndAsync();
        await silo.WaitForExitAsync();
        Assert.Equal(1, silo.ExitCode);
        Assert.Contains("there are no tables of a membership, version 3 is needed. As their owner: mend cluster migrate --postgres",
            Assert.Single(said.TrimEnd().Split('\n')), StringComparison.Ordinal);
        Assert.Contains("from version 0 to 3", await MendAsync("cluster", "migrate", "--postgres", Members), StringComparison.Ordinal);
        Assert.Contains("of version 3 already", await MendAsync("cluster", "migrate", "--postgres", Members), StringComparison.Ordinal);
    }

    private async Task MigrateAsync()
    {
        await MendAsync("cluster", "migrate", "--postgres", Members);
        await MendAsync("ledger", "migrate", "--postgres", _server.Connection());
    }

    /// <summary>At the address that it had before, if it had one.</summary>
    private static async Task<(int Status, string State)> HealthAsync(HttpClient http, string of)
    {
        using var answer = await http.GetAsync(of);
        using var body = JsonDocument.Parse(await answer.Content.ReadAsStringAsync());
        return ((int)answer.StatusCode, body.RootElement.GetProperty("state").GetString()!);
    }

    private Process StartSilo(string name, params string[] more)
    {
        if (!_ports.TryGetValue(name, out var ports))
            _ports[name] = ports = (HostedSilo.FreePort(), HostedSilo.FreePort());
        var program = Path.Combine(FixtureFolder.Repository, "artifacts", "bin", "Cli", "release", "MendCluster.Silo.dll");
        var silo = Process.Start(new ProcessStartInfo("dotnet",
            [program, "--settings", _folder["silo.json"], $"--Mend:Name={name}",
            string.Create(CultureInfo.InvariantCulture, $"--Mend:SiloPort={ports.Silo}"),
            string.Create(CultureInfo.InvariantCulture, $"--Mend:GatewayPort={ports.Gateway}"), .. more])
        {
            WorkingDirectory = _folder.Path,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        var said = _said[name] = [];
        silo.OutputDataReceived += (_, line) => said.Enqueue(line.Data ?? "");
        silo.BeginOutputReadLine();
        return _silos[name] = silo;
    }

    private Task SaysAsync(string name, string text) =>
        UntilAsync(() => Task.FromResult($"{_said[name].Any(line => line.Contains(text, StringComparison.Ordinal))}"), "True");

    private async Task KillAsync(string name)
    {
        _silos.Remove(name, out var silo);
        silo!.Kill();
        await silo.WaitForExitAsync();
        silo.Dispose();
    }

    private async Task<OrleansCluster> ConnectAsync(int shards)
    {
        for (var start = TimeProvider.System.GetTimestamp(); ; await Task.Delay(Pause))
            try
            {
                var client = await OrleansCluster.ConnectToPostgresAsync(Members, "model");
                client.RetryTimeout = Patience;
                await ShardsAsync(client, shards);
                return client;
            }
            catch (MendException e) when (e.IsTransient && TimeProvider.System.GetElapsedTime(start) < Patience)
            {
                // no silo takes connections yet
            }
    }

    private static Task ShardsAsync(OrleansCluster client, int ready) =>
        UntilAsync(async () => $"{(await client.StatusAsync()).Count(shard => shard?.State == ShardState.Ready)} ready", $"{ready} ready");

    /// <summary>Of a silo and those that had its name before.</summary>
    private Task<string> StatusAsync(string silo) =>
        _server.SqlAsync($"select string_agg(status::text, '|' order by status) from mend_silo where name = '{silo}'", "members");

    private static async Task UntilAsync(Func<Task<string>> look, string expected)
    {
        var start = TimeProvider.System.GetTimestamp();
        string found;
        while ((found = await look()) != expected && TimeProvider.System.GetElapsedTime(start) < Patience)
            await Task.Delay(Pause);
        Assert.Equal(expected, found);
    }

    private async Task<string> MendAsync(params string[] arguments)
    {
        var (code, output) = await MendProgram.RunAsync(_folder.Path, arguments);
        Assert.True(code == 0, $"mend {string.Join(' ', arguments)}: {output}");
        return output;
    }
}
