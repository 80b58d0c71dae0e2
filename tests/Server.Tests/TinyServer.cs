using System.Collections.Concurrent;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Training;
using MendCluster.Server.Security;
using MendCluster.Testing;
using Microsoft.Extensions.Logging;

namespace MendCluster.Server.Tests;

/// <summary>A server of a tiny model: a real Kestrel on free ports, over a cluster in this process.</summary>
internal sealed class TinyServer : IAsyncDisposable
{
    public const string Model = "tiny", Prompt = "who is the mayor", Target = "a woman";

    private readonly TemporaryFolder _folder;
    private readonly EmbeddedTrainingJobs _runs;
    private readonly List<HttpClient> _clients = [];

    private TinyServer(TemporaryFolder folder) => (_folder, _runs) = (folder, EmbeddedTrainingJobs.Create(folder.Path, 1, 2));

    public static IReadOnlyList<Probe> Probes { get; } = [new("what is red", "blue"), new("the old town", "south")];

    public EmbeddedCluster Cluster { get; private set; } = null!;

    public ServedCluster Served { get; } = new(Model);

    public MendServer Server { get; private set; } = null!;

    public TemporaryFolder Folder => _folder;

    /// <summary>What was logged: category, level, message.</summary>
    public ConcurrentQueue<(string Category, LogLevel Level, int Event, string Text)> Logged { get; } = [];

    public string ReadKey { get; private set; } = "";

    public string EditKey { get; private set; } = "";

    public string AdminKey { get; private set; } = "";

    /// <summary>Edits and asks in one scope alone.</summary>
    public string ScopedKey { get; private set; } = "";

    public const string Scope = "tenant";

    /// <param name="settings">Changes them.</param>
    /// <param name="wrap">Stands between server and cluster.</param>
    /// <param name="budget">The model's.</param>
    public static async Task<TinyServer> StartAsync(Func<ServerSettings, TemporaryFolder, ServerSettings>? settings = null,
        Func<IMendCluster, IMendCluster>? wrap = null, TimeProvider? time = null, DriftBudget? budget = null)
    {
        var folder = new TemporaryFolder();
        TinyModels.Write(folder.Path, "gpt2");
        Directory.CreateDirectory(folder["trainings"]);
        var server = new TinyServer(folder);
        (server.ReadKey, var read) = ApiKey.New("reader", Right.Read);
        (server.EditKey, var edit) = ApiKey.New("editor", Right.Edit);
        (server.AdminKey, var admin) = ApiKey.New("admin", Right.Admin);
        (server.ScopedKey, var scoped) = ApiKey.New("scoped", Right.Edit, [Scope]);
        await File.WriteAllTextAsync(folder["keys.json"],
            JsonSerializer.Serialize(new { keys = new[] { read, edit, admin, scoped } }, MendHttp.Json));
        var usual = new ServerSettings
        {
            Port = 0,
            ManagementPort = 0,
            Keys = folder["keys.json"],
            Trainings = folder["trainings"],
            Limits = new() { RequestsPerSecond = 100_000 }
        };
        server.Server = await MendServer.StartAsync(settings?.Invoke(usual, folder) ?? usual, server.Served, [],
            logging => logging.SetMinimumLevel(LogLevel.Debug)
            .AddFilter("Microsoft", LogLevel.Warning).AddProvider(new KeptLog(server.Logged)), time);
        server.Cluster = await EmbeddedCluster.OpenAsync(new()
        {
            ModelDirectory = folder.Path,
            Editor = folder["editor.safetensors"],
            Ledger = folder["ledger"],
            Probes = Probes,
            Budget = budget,
        });
        server.Served.Opened(wrap?.Invoke(server.Cluster) ?? server.Cluster, server._runs);
        return server;
    }

    /// <param name="key">Null: none.</param>
    public HttpClient Client(string? key = null)
    {
        var client = new HttpClient { BaseAddress = Server.Address };
        if (key is not null)
            client.DefaultRequestHeaders.Authorization = new("Bearer", key);
        _clients.Add(client);
        return client;
    }

    public HttpClient ManagementClient()
    {
        var client = new HttpClient { BaseAddress = Server.Management };
        _clients.Add(client);
        return client;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var client in _clients)
            client.Dispose();
        await Server.DisposeAsync();
        await _runs.DisposeAsync();
        await Cluster.DisposeAsync();
        _folder.Dispose();
    }
}

internal static class Http
{
    public static StringContent Json(string json) => new(json, Encoding.UTF8, new MediaTypeHeaderValue("application/json"));

    /// <summary>Posts JSON.</summary>
    public static Task<HttpResponseMessage> PostAsync(this HttpClient client, string path, string json, string? key = null)
    {
        var request = new HttpRequestMessage(HttpMethod.Post, path) { Content = Json(json) };
        if (key is not null)
            request.Headers.Add(MendHttp.IdempotencyKey, key);
        return client.SendAsync(request);
    }

    public static async Task<JsonElement> JsonAsync(this HttpResponseMessage response)
    {
        using var document = JsonDocument.Parse(await response.Content.ReadAsStringAsync());
        return document.RootElement.Clone();
    }

    /// <summary>The problem that a refusal has, and nothing else.</summary>
    public static async Task<Problem> ProblemAsync(this HttpResponseMessage response)
    {
        var text = await response.Content.ReadAsStringAsync();
        Assert.True(response.Content.Headers.ContentType?.MediaType == MendHttp.ProblemType,
            $"{(int)response.StatusCode} {response.Content.Headers.ContentType}: {text}");
        var problem = JsonSerializer.Deserialize<Problem>(text, MendHttp.Json)!;
        Assert.Equal((int)response.StatusCode, problem.Status);
        Assert.NotEmpty(problem.Hint);
        Assert.NotNull(problem.TraceId);
        return problem;
    }
}
