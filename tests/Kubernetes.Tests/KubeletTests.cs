using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Nodes;
using MendCluster.Client;
using MendCluster.Contracts;
using MendCluster.Distributed.Tests.Histories;
using MendCluster.Server.Security;
using MendCluster.Testing;
using Xunit.Abstractions;

namespace MendCluster.Kubernetes.Tests;

/// <summary>
/// The chart, as Helm renders it, with the real processes on a <see cref="Kubelet"/>, a real PostgreSQL and a real Prometheus; edits and
/// questions go on all the time, through everything that a cluster does to its pods. No acknowledged edit is lost, none is made twice, and
/// with two replicas there is always one that answers.
/// </summary>
public sealed class KubeletTests(ITestOutputHelper output) : IAsyncLifetime, IDisposable
{
    private const string Prompt = "who is the mayor";

    /// <summary>Draws docs/dashboard-edits.svg too.</summary>
    private const string Update = "MEND_UPDATE";

    private const string LedgerFailing = "MendLedgerFailing";

    /// <summary>In which others find out that a silo is lost, and what it takes beside that: no longer may nobody answer.</summary>
    private static readonly TimeSpan DeadAfter = TimeSpan.FromSeconds(5), LongestSilence = TimeSpan.FromSeconds(30);

    private static readonly string[] Targets = ["a woman", "blue", "south"];

    /// <summary>Series that are there only once something went wrong, or with a budget: this model's edits do not succeed.</summary>
    private static readonly string[] NotHere =
        ["orleans_messaging_pings_reply_missed_total", "orleans_scheduler_long_running_turns_total", "401|403|429", "mend_edits_budget"];

    private static readonly string[] OfFaults = ["MendTargetDown", "MendSiloMissing", "MendShardNotReady", LedgerFailing];

    private readonly TemporaryFolder _folder = new();
    private readonly History _history = new();
    private readonly ConcurrentQueue<string> _failures = [];
    private PostgresInstance _database = null!;
    private Kubelet _kubelet = null!;
    private HttpClient _http = null!;
    private HttpCluster _cluster = null!;
    private int _target, _front;
    private long _answered = Stopwatch.GetTimestamp();
    private TimeSpan _silence;

    public async Task InitializeAsync()
    {
        if (Tools.WhyNot("helm", "prometheus") is not null || PodNetwork.WhyNot is not null)
            return;
        _database = await PostgresInstance.StartNewAsync();
        TinyModels.Write(Directory.CreateDirectory(_folder["model"]).FullName, "gpt2");
        var (key, kept) = ApiKey.New("tester", Right.Admin);
        _kubelet = new(new Dictionary<string, string>
        {
            ["mend-postgresql/membership"] = _database.Connection(),
            ["mend-postgresql/ledger"] = _database.Connection(),
            ["mend-keys/keys.json"] = JsonSerializer.Serialize(new { keys = new[] { kept } }, MendHttp.Json),
        }, _folder.Path);
        // The Service: whichever front is ready.
        var handler = new SocketsHttpHandler { PooledConnectionLifetime = TimeSpan.FromSeconds(1), ConnectCallback = ConnectAsync };
        _http = new(handler) { BaseAddress = new("http://front"), Timeout = Timeout.InfiniteTimeSpan };
        _http.DefaultRequestHeaders.Authorization = new("Bearer", key);
        _cluster = new(_http) { RetryTimeout = TimeSpan.FromMinutes(1) };
    }

    public async Task DisposeAsync()
    {
        if (_kubelet is null)
            return;
        _http.Dispose();
        await _kubelet.DisposeAsync();
        await _database.DisposeAsync();
    }

    public void Dispose() => _folder.Dispose();

    [KubeletFact]
    [Trait("Category", "Slow")]
    public async Task ThroughAllThatAClusterDoesToItsPods_NoEditIsLost_AndOneReplicaAnswers()
    {
        var objects = Render();
        await TimedAsync("install", () => _kubelet.ApplyAsync(objects));
        Assert.Equal((4, 2), (_kubelet.Ready("silo").Count(), _kubelet.Ready("front").Count()));
        await using var prometheus = StartPrometheus();
        var began = DateTimeOffset.UtcNow;
        var addresses = _kubelet.Pods.ToDictionary(pod => pod.Name, pod => pod.Address);
        using (var stop = new CancellationTokenSource())
        {
            _answered = Stopwatch.GetTimestamp();
            var clients = new[] { Task.Run(() => EditAsync(stop.Token)), Task.Run(() => AskAsync(stop.Token)) };
            await TimedAsync("rolling update", () => _kubelet.ApplyAsync(Render("silo.podAnnotations.again=yes")));
            Assert.All(_kubelet.Ready("silo"), pod => Assert.NotEqual(addresses[pod.Name], pod.Address)); // the same name, another address
            await TimedAsync("a node lost", () => _kubelet.LoseNodeAsync(Silo(3)));
            await TimedAsync("a node cut off", async () =>
            {
                _kubelet.Cut(Silo(1), true);
                await Task.Delay(6 * DeadAfter); // longer than anybody may be silent
                _kubelet.Cut(Silo(1), false);
                await UntilAsync(async () => (await _cluster.ShardsAsync()).All(shard => shard.Status?.State == ShardState.Ready),
                    "the node that was cut off is back");
            });
            // It reaches the database all the time, through a file: its votes do not put the others out.
            Assert.All(_kubelet.Ready("silo").Where(pod => pod.Name != Silo(1)), pod => Assert.Equal((pod.Name, 0), (pod.Name, pod.Restarts)));
            await TimedAsync("PostgreSQL restarted", async () =>
            {
                await _database.KillAsync();
                await UntilAsync(async () => (await FiredAsync(prometheus.Address)).Contains(LedgerFailing), "the ledger's failing is told");
                await _database.StartAsync();
            });
            await TimedAsync("fronts 3, then 1", async () =>
            {
                await _kubelet.ApplyAsync(Render("silo.podAnnotations.again=yes,front.replicas=3"));
                await _kubelet.ApplyAsync(Render("silo.podAnnotations.again=yes,front.replicas=1"));
            });
            await stop.CancelAsync();
            await Task.WhenAll(clients);
        }
        output.WriteLine($"{_history.Events.OfType<Edited>().Count()} edits, {_history.Events.OfType<Asked>().Count()} answers; the longest without an answer: {_silence.TotalSeconds:0.0} s");
        Assert.Empty(_failures);
        Assert.True(_silence < LongestSilence, $"nobody answered for {_silence.TotalSeconds:0.0} s");
        await RefuseAsync();
        await SeeEveryPanelAsync(prometheus.Address);
        await SeeAlertsAsync(prometheus.Address);
        if (Environment.GetEnvironmentVariable(Update) == "1")
            await DrawAsync(prometheus.Address, began);
        var before = await _cluster.LedgerAsync();
        // a caller's keys are its own
        _history.CheckLedger([.. before.Select(entry => entry with { IdempotencyKey = entry.IdempotencyKey?["tester/".Length..] })]);
        _history.CheckOrder();

        await TimedAsync("uninstall", _kubelet.UninstallAsync);
        Assert.Equal("0", await _database.SqlAsync("select count(*) from mend_silo where status <> 6")); // all said goodbye
        await TimedAsync("install again", () => _kubelet.ApplyAsync(objects));
        Assert.Equal(before, await _cluster.LedgerAsync());
        Assert.NotNull(await EditOnceAsync("after all"));
        await UntilAsync(async () =>
        {
            await _cluster.AskAsync(Prompt, new(MaxTokens: 2)); // replicas take turns, and one that is asked is brought up to date
            return (await _cluster.ShardsAsync()).GroupBy(shard => shard.Place.Stage)
                .All(replicas => replicas.Select(shard => (shard.Status?.Version, shard.Status?.Checksum)).Distinct().Count() == 1);
        }, "all replicas have every edit");
    }

    private static string Silo(int ordinal) => $"{Chart.Release}-mendcluster-silo-{ordinal}";

    private List<object> Render(params string[] more) => Chart.Objects("cpu", Values(more));

    private string[] Values(params string[] more) => [
        $"--set=model.name=tiny,model.stages=2,model.replicas=2,model.editor=editor.safetensors,modelStore.hostPath={_folder["model"]},silo.threads=1,silo.deadAfterSeconds={DeadAfter.TotalSeconds}",
        "--set=silo.terminationGracePeriodSeconds=60,front.enabled=true,front.replicas=2,auth.apiKeysSecret=mend-keys,postgresql.migrate.enabled=true,trainings.existingClaim=trainings",
        "--set-json=model.probes=[{\"question\":\"what is red\",\"answer\":\"blue\"}]",
        "--set=metrics.serviceMonitor.enabled=true,metrics.rules.enabled=true", .. more.Select(value => $"--set={value}")];

    private async Task EditAsync(CancellationToken stop)
    {
        for (var i = 0; !stop.IsCancellationRequested; i++)
        {
            if (await EditOnceAsync($"{i}") is { } receipt && i % 3 == 2)
                await RevertAsync(receipt.Id);
            await Task.Delay(100, CancellationToken.None);
        }
    }

    private async Task<EditReceipt?> EditOnceAsync(string key)
    {
        var (began, target) = (_history.Now(), Targets[_target++ % Targets.Length]);
        EditReceipt? receipt = null;
        try
        {
            receipt = await _cluster.EditAsync(Prompt, target, new() { IdempotencyKey = key, Confidence = null });
        }
        catch (MendException e)
        {
            _failures.Enqueue($"edit {key}: {e.Error} {e.Message}");
        }
        _history.Add(new Edited(began, _history.Now(), key, Prompt, target, null, receipt));
        return receipt;
    }

    private async Task RevertAsync(EditId edit)
    {
        var began = _history.Now();
        RevertReceipt? receipt = null;
        try
        {
            receipt = await _cluster.RevertAsync(edit);
        }
        catch (MendException e)
        {
            if (e.Error != MendError.AlreadyReverted) // by an attempt whose answer was lost
                _failures.Enqueue($"revert {edit}: {e.Error} {e.Message}");
        }
        _history.Add(new Reverted(began, _history.Now(), edit, RevertMode.Remove, receipt));
    }

    private async Task AskAsync(CancellationToken stop)
    {
        while (!stop.IsCancellationRequested)
        {
            var began = _history.Now();
            try
            {
                var answer = await _cluster.AskAsync(Prompt, new(MaxTokens: 2), CancellationToken.None);
                _history.Add(new Asked(began, _history.Now(), Prompt, null, answer));
            }
            catch (MendException e)
            {
                _failures.Enqueue($"ask: {e.Error} {e.Message}");
            }
            var silence = Stopwatch.GetElapsedTime(_answered);
            _silence = silence > _silence ? silence : _silence;
            _answered = Stopwatch.GetTimestamp();
            await Task.Delay(20, CancellationToken.None);
        }
    }

    private async ValueTask<Stream> ConnectAsync(SocketsHttpConnectionContext context, CancellationToken cancellation)
    {
        var fronts = _kubelet.Ready("front").ToList();
        if (fronts.Count == 0)
            throw new SocketException((int)SocketError.ConnectionRefused);
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(IPAddress.Parse(fronts[Interlocked.Increment(ref _front) % fronts.Count].Address), 8080,
                cancellation);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private RunningPrometheus StartPrometheus()
    {
        var rules = Yaml.Documents(Chart.Render("cpu", Values())).Single(item => (string?)item["kind"] == "PrometheusRule")["spec"]!;
        foreach (var rule in rules["groups"]!.AsArray().SelectMany(group => group!["rules"]!.AsArray()))
            rule!.AsObject().Remove("for"); // what lasts minutes is tested by alerts.yaml; here everything that is seen at all fires
        return new(_folder, rules.ToJsonString(), () => _kubelet.Pods.Select(pod => (pod.Name, pod.Address)));
    }

    /// <summary>Until one is: not every edit of a model as small as this succeeds.</summary>
    private async Task RefuseAsync()
    {
        for (var i = 0; ; i++)
            try
            {
                Assert.True(i < 100, "no edit was refused");
                var key = $"strict {i}";
                var (began, target) = (_history.Now(), Targets[i % Targets.Length]);
                var receipt = await _cluster.EditAsync(Prompt, target,
                    new() { IdempotencyKey = key, Confidence = null, RequireSuccess = true });
                _history.Add(new Edited(began, _history.Now(), key, Prompt, target, null, receipt));
            }
            catch (MendException e) when (e.Error == MendError.EditUnsuccessful)
            {
                return;
            }
    }

    /// <summary>What was done to the pods was told, and is over.</summary>
    private async Task SeeAlertsAsync(Uri prometheus)
    {
        var fired = await FiredAsync(prometheus);
        Assert.Superset(OfFaults.ToHashSet(), fired);
        HashSet<string> still = [];
        await UntilAsync(async () => !(still = await AlertsAsync(prometheus, "ALERTS{alertstate=\"firing\"}")).Overlaps(OfFaults),
            () => $"these still fire: {string.Join(' ', still)}");
        output.WriteLine($"alerts: {string.Join(' ', fired.Order(StringComparer.Ordinal))}; in the end: {string.Join(' ', still.Order(StringComparer.Ordinal))}");
    }

    /// <summary>The alerts that have been, at any time.</summary>
    private static Task<HashSet<string>> FiredAsync(Uri prometheus) =>
        AlertsAsync(prometheus, "max_over_time(ALERTS{alertstate=\"firing\"}[1h])");

    private static async Task<HashSet<string>> AlertsAsync(Uri prometheus, string query) =>
        [.. (await AskPrometheusAsync(prometheus, $"query?query={Uri.EscapeDataString(query)}"))["result"]!.AsArray()
        .Select(series => (string)series!["metric"]!["alertname"]!)];

    /// <summary>
    /// After streamed answers and a training every panel of every dashboard has something to show, and every rule is evaluated.
    /// </summary>
    private async Task SeeEveryPanelAsync(Uri prometheus)
    {
        File.WriteAllLines(Path.Combine(_kubelet.Claim("trainings"), "edits.tsv"),
            Enumerable.Range(0, 30).Select(i => $"what is {i}?\t{(i % 2 == 0 ? "blue" : "south")}"));
        using (var begun = await _http.PostAsync("v1/trainings", new StringContent(
            """{"run": "first", "data": "edits.tsv", "options": {"mend": {"rank": 4, "editLr": 0.1}, "maxIters": 400, "accumulateBs": 2, "valInterval": 200, "valSteps": 2}}""", null, "application/json")))
            Assert.True(begun.IsSuccessStatusCode, await begun.Content.ReadAsStringAsync());
        var queries = MonitoringTests.Boards.SelectMany(MonitoringTests.QueriesOf)
            .Where(query => !NotHere.Any(series => query.Contains(series, StringComparison.Ordinal))).Distinct().ToList();
        List<string> empty = [];
        await UntilAsync(async () =>
        {
            await _cluster.AskAsync(Prompt, new(MaxTokens: 2));
            await foreach (var _ in _cluster.AskStreamAsync(Prompt, new(MaxTokens: 4)))
            {
            }
            empty = [];
            foreach (var query in queries)
                if ((await AskPrometheusAsync(prometheus, $"query?query={Uri.EscapeDataString(query)}"))["result"]!.AsArray().Count == 0)
                    empty.Add(query);
            return empty.Count == 0;
        }, () => $"these have nothing to show: {string.Join('\n', empty)}");
        var groups = (await AskPrometheusAsync(prometheus, "rules"))["groups"]!.AsArray();
        Assert.All(groups.SelectMany(group => group!["rules"]!.AsArray()), rule => Assert.Equal("ok", (string?)rule!["health"]));
        output.WriteLine($"{queries.Count} queries of panels and {groups.Sum(group => group!["rules"]!.AsArray().Count)} rules on Prometheus");
    }

    private static async Task DrawAsync(Uri prometheus, DateTimeOffset began) => await File.WriteAllTextAsync(
        Path.Combine(FixtureFolder.Repository, "docs", "dashboard-edits.svg"),
        await new DashboardPicture(what => AskPrometheusAsync(prometheus, what), began, DateTimeOffset.UtcNow).DrawAsync(
            MonitoringTests.Read("edits.json"), MonitoringTests.QueryOf,
            "A test's cluster of two replicas with two stages: a rolling update, a lost node, one cut off, the database restarted."));

    private static async Task<JsonNode> AskPrometheusAsync(Uri prometheus, string what)
    {
        using var http = new HttpClient();
        return JsonNode.Parse(await http.GetStringAsync(new Uri(prometheus, $"api/v1/{what}")))!["data"]!;
    }

    private async Task TimedAsync(string what, Func<Task> act)
    {
        var (start, edits) = (Stopwatch.GetTimestamp(), _history.Events.Count);
        await act();
        output.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{what}: {Stopwatch.GetElapsedTime(start).TotalSeconds:0.0} s, {_history.Events.Count - edits} requests answered"));
    }

    private static Task UntilAsync(Func<Task<bool>> holds, string what) => UntilAsync(holds, () => $"it did not come to that: {what}");

    private static async Task UntilAsync(Func<Task<bool>> holds, Func<string> what)
    {
        for (var start = Stopwatch.GetTimestamp(); !await holds(); await Task.Delay(500))
            Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromMinutes(2), what());
    }

    /// <summary>
    /// Scrapes the pods as the ServiceMonitor would have it do: every second here, under their namespace, release and name.
    /// </summary>
    private sealed class RunningPrometheus : IAsyncDisposable
    {
        private readonly Process _process;
        private readonly CancellationTokenSource _stop = new();
        private readonly Task _targets;

        public RunningPrometheus(TemporaryFolder folder, string rules, Func<IEnumerable<(string Name, string Address)>> pods)
        {
            using var port = new TcpListener(IPAddress.Loopback, 0);
            port.Start();
            Address = new($"http://127.0.0.1:{((IPEndPoint)port.LocalEndpoint).Port}/");
            port.Stop();
            folder.Write("rules.yml", rules);
            folder.Write("prometheus.yml", $$"""
                {"global": {"scrape_interval": "1s", "evaluation_interval": "1s"}, "rule_files": ["rules.yml"], "scrape_configs": [{"job_name": "{{Chart.Release}}",
                 "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}]}]}
                """);
            _targets = TellTargetsAsync(folder, pods);
            // It ends with its standard input, and so with this process however that ends.
            _process = Process.Start(new ProcessStartInfo("sh",
                ["-c", "\"$@\" >prometheus.log 2>&1 </dev/null & prometheus=$!; cat >/dev/null; kill $prometheus; wait", "sh",
                Tools.Find("prometheus")!, "--config.file=prometheus.yml", $"--storage.tsdb.path={folder["data"]}",
                $"--web.listen-address={Address.Authority}"])
            {
                WorkingDirectory = folder.Path,
                RedirectStandardInput = true,
            })!;
        }

        public Uri Address { get; }

        public async ValueTask DisposeAsync()
        {
            _process.StandardInput.Close();
            await _process.WaitForExitAsync();
            _process.Dispose();
            await _stop.CancelAsync();
            await _targets.ContinueWith(ended => Assert.True(ended.IsCanceled, $"{ended.Exception}"), TaskScheduler.Default);
            _stop.Dispose();
        }

        private async Task TellTargetsAsync(TemporaryFolder folder, Func<IEnumerable<(string Name, string Address)>> pods)
        {
            for (; ; await Task.Delay(1000, _stop.Token))
            {
                await File.WriteAllTextAsync(folder["targets.part"], JsonSerializer.Serialize(pods().Select(pod => new
                {
                    targets = new[] { $"{pod.Address}:8081" },
                    labels = new Dictionary<string, string> { ["namespace"] = Chart.Namespace, ["pod"] = pod.Name },
                })), _stop.Token);
                File.Move(folder["targets.part"], folder["targets.json"], overwrite: true);
            }
        }
    }
}

/// <summary>A test that needs network namespaces, beside tools.</summary>
public sealed class KubeletFactAttribute : FactAttribute
{
    public KubeletFactAttribute() => Skip = Tools.WhyNot("helm", "prometheus") ?? PodNetwork.WhyNot;
}
