using System.Net;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Server.Security;
using Microsoft.AspNetCore.Authorization;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.Time.Testing;

namespace MendCluster.Server.Tests;

public sealed class AccessTests
{
    private const string Edit = $$"""{"prompt": "{{TinyServer.Prompt}}", "target": "{{TinyServer.Target}}"}""";

    [Fact]
    public async Task EveryEndpoint_RefusesWhoeverHasNotItsRight()
    {
        await using var server = await TinyServer.StartAsync();
        var (expired, kept) = ApiKey.New("late", Right.Admin, expires: DateTimeOffset.UnixEpoch);
        await AddKeyAsync(server, kept);
        var keys = new (string? Key, Right? Right)[] { (null, null), ("mend_unknown", null), ("", null), (expired, null),
            (server.ReadKey, Right.Read), (server.EditKey, Right.Edit) };
        Assert.True(server.Server.Endpoints.Count > 15);
        foreach (var endpoint in server.Server.Endpoints)
        {
            var required = endpoint.Metadata.GetMetadata<RequiredRight>()?.Right;
            if (required is null)
            {
                Assert.NotNull(endpoint.Metadata.GetMetadata<IAllowAnonymous>()); // the console's files, and nothing else
                Assert.True(endpoint.RoutePattern.RawText == "/"
                    || endpoint.RoutePattern.RawText!.StartsWith("/console/", StringComparison.Ordinal), endpoint.RoutePattern.RawText);
                continue;
            }
            foreach (var (key, right) in keys.Where(key => key.Right is null || key.Right < required))
            {
                using var http = server.Client(key);
                foreach (var method in endpoint.Metadata.GetMetadata<HttpMethodMetadata>()!.HttpMethods)
                {
                    var path = endpoint.RoutePattern.RawText!.Replace("{id:long}", "1", StringComparison.Ordinal)
                        .Replace("{run}", "r", StringComparison.Ordinal)
                        .Replace("{model}", "tiny", StringComparison.Ordinal).Replace("{documentName}", "v1", StringComparison.Ordinal);
                    using var request = new HttpRequestMessage(new(method), path);
                    using var response = await http.SendAsync(request);
                    Assert.True((int)response.StatusCode == (right is null ? 401 : 403),
                        $"{method} {path} with {right}: {(int)response.StatusCode}");
                    if (right is null)
                        Assert.Equal("Bearer", response.Headers.WwwAuthenticate.Single().Scheme);
                }
            }
        }
        // Nor does anybody learn what there is.
        Assert.Equal(HttpStatusCode.Unauthorized, (await server.Client().GetAsync("/v1/nothing")).StatusCode);
        Assert.Equal(HttpStatusCode.Unauthorized, (await server.Client().PutAsync("/v1/edits", null)).StatusCode);
        Assert.Empty(await server.Cluster.LedgerAsync());
    }

    [Fact]
    public async Task AKeyWithScopes_EditsAsksAndSeesThemAlone()
    {
        await using var server = await TinyServer.StartAsync();
        var (all, scoped) = (server.Client(server.EditKey), server.Client(server.ScopedKey));
        foreach (var scope in new[] { "", ", \"scope\": \"other\"" })
            Assert.Equal(MendError.NotAllowed, (await (await scoped.PostAsync("/v1/edits", Edit[..^1] + scope + "}")).ProblemAsync()).Code);
        // 1
        Assert.Equal(HttpStatusCode.Created, (await scoped.PostAsync("/v1/edits", Edit[..^1] + ", \"scope\": \"tenant\"}")).StatusCode);
        Assert.Equal(HttpStatusCode.Created, (await all.PostAsync("/v1/edits", Edit[..^1] + ", \"scope\": \"other\"}")).StatusCode);    // 2
        Assert.Equal(HttpStatusCode.Created, (await all.PostAsync("/v1/edits", Edit)).StatusCode);                                     // 3

        // not even that there is one
        Assert.Equal(MendError.UnknownEdit, (await (await scoped.GetAsync("/v1/edits/2")).ProblemAsync()).Code);
        Assert.Equal(MendError.UnknownEdit, (await (await scoped.PostAsync("/v1/edits/2/revert", "{}")).ProblemAsync()).Code);
        Assert.Equal(MendError.NotAllowed, (await (await scoped.PostAsync("/v1/edits/3/revert", "{}")).ProblemAsync()).Code);
        Assert.Equal(MendError.NotAllowed,
            (await (await scoped.PostAsync("/v1/ask", """{"prompt": "red", "scope": "other"}""")).ProblemAsync()).Code);
        Assert.Equal([1, 3], (await (await scoped.GetAsync("/v1/ledger")).JsonAsync()).GetProperty("entries").EnumerateArray()
            .Select(entry => entry.GetProperty("version").GetInt32()));
        Assert.Equal([1], (await (await scoped.GetAsync("/v1/ledger?scope=tenant")).JsonAsync()).GetProperty("entries").EnumerateArray()
            .Select(entry => entry.GetProperty("version").GetInt32()));
        Assert.Empty((await (await scoped.GetAsync("/v1/ledger?scope=other")).JsonAsync()).GetProperty("entries").EnumerateArray());
        Assert.Equal(HttpStatusCode.OK, (await scoped.PostAsync("/v1/edits/1/revert", "{}")).StatusCode);
    }

    [Fact]
    public async Task KeysAreReadAgain_AndAFileThatCannotBeUsed_LeavesThemInForce()
    {
        var time = new FakeTimeProvider(DateTimeOffset.UtcNow);
        using var folder = new Testing.TemporaryFolder();
        var logs = Microsoft.Extensions.Logging.Abstractions.NullLogger<ApiKeys>.Instance;
        var ((first, keptFirst), (second, keptSecond)) =
            (ApiKey.New("a", Right.Read), ApiKey.New("b", Right.Edit, ["s"], time.GetUtcNow().AddMinutes(1)));
        Write(keptFirst);
        var keys = new ApiKeys(folder["keys"], [], time, logs);
        Assert.Equal("a", keys.Find(first)!.Name);
        Assert.Null(keys.Find(second));
        Write(keptSecond);
        Assert.Null(keys.Find(second)); // looked at a moment ago
        time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(("b", Right.Edit, "s"),
            (keys.Find(second)!.Name, keys.Find(second)!.Right!.Value, keys.Find(second)!.Scopes!.Single()));
        Assert.Null(keys.Find(first)); // withdrawn
        await File.WriteAllTextAsync(folder["keys"], "{\"keys\": [");
        time.Advance(TimeSpan.FromSeconds(1));
        Assert.NotNull(keys.Find(second));
        time.Advance(TimeSpan.FromMinutes(1));
        Assert.Null(keys.Find(second)); // expired
        foreach (var bad in new[] { "", "null", "[]", "{}", "{\"keys\": [{}]}",
            "{\"keys\": [{\"name\": \"a\", \"sha256\": \"12\", \"right\": \"read\"}]}",
            "{\"keys\": [{\"name\": \"a\", \"sha256\": \"12\", \"rights\": \"read\"}]}" })
        {
            await File.WriteAllTextAsync(folder["bad"], bad);
            Assert.Equal(MendError.InvalidData, Assert.Throws<MendException>(() => new ApiKeys(folder["bad"], [], time, logs)).Error);
        }

        void Write(ApiKey key) => File.WriteAllText(folder["keys"], JsonSerializer.Serialize(new { keys = new[] { key } }, MendHttp.Json));
    }

    [Fact]
    public async Task EveryChange_AndEveryRefusal_IsOneAuditEvent()
    {
        await using var server = await TinyServer.StartAsync();
        var http = server.Client(server.EditKey);
        await http.PostAsync("/v1/edits", Edit, "k");
        Assert.Equal([(100, "edit by editor from 127.0.0.1: edit 1, version 1")], Audit());
        await http.PostAsync("/v1/edits", Edit, "k"); // nothing is done
        await http.PostAsync("/v1/ask", """{"prompt": "red"}""");
        Assert.Empty(Audit());
        await http.PostAsync("/v1/edits/1/revert", "{}");
        Assert.Equal([(100, "revert by editor from 127.0.0.1: edit 1 taken back, 0 computed anew, version 2")], Audit());
        await http.PostAsync("/v1/edits/1/revert", "{}");
        Assert.Equal([(101, "POST /v1/edits/1/revert by editor from 127.0.0.1 refused: AlreadyReverted (409)")], Audit());
        await server.Client().GetAsync("/v1/status");
        Assert.Equal([(101, "GET /v1/status by nobody from 127.0.0.1 refused: NotAuthenticated (401)")], Audit());
        await server.Client(server.ReadKey).PostAsync("/v1/edits", Edit);
        Assert.Equal([(101, "POST /v1/edits by reader from 127.0.0.1 refused: NotAllowed (403)")], Audit());
        // no text, unless it is switched on
        Assert.DoesNotContain(server.Logged, logged => logged.Text.Contains(TinyServer.Target, StringComparison.Ordinal));

        List<(int, string)> Audit()
        {
            List<(int, string)> events =
                [.. server.Logged.Where(logged => logged.Category == LogMessages.Audit).Select(logged => (logged.Event, logged.Text.Trim()))];
            server.Logged.Clear();
            return events;
        }
    }

    [Fact]
    public async Task TooMuch_IsAnsweredWithWhenToComeAgain()
    {
        await using var server = await TinyServer.StartAsync((settings, _) => settings with { Limits = new() { RequestsPerSecond = 5 } });
        var answers = await Task.WhenAll(Enumerable.Range(0, 20).Select(_ => server.Client(server.ReadKey).GetAsync("/v1/models")));
        var busy = answers.Where(answer => answer.StatusCode == HttpStatusCode.TooManyRequests).ToList();
        Assert.InRange(busy.Count, 5, 15);
        Assert.All(busy, answer => Assert.True(answer.Headers.RetryAfter!.Delta > TimeSpan.Zero));
        Assert.Equal("TooBusy", (await busy[0].JsonAsync()).GetProperty("error").GetProperty("code").GetString());
        Assert.Equal(HttpStatusCode.OK, (await server.Client(server.EditKey).GetAsync("/v1/status")).StatusCode); // another caller
    }

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(15)]
    [InlineData(100)]
    [InlineData(1009)]
    public void ARate_IsTheOneThatIsSet(int perSecond)
    {
        var rate = MendServer.RateOf(perSecond);
        Assert.Equal(perSecond, rate.TokensPerPeriod / rate.ReplenishmentPeriod.TotalSeconds, 0.01);
        Assert.Equal(2 * perSecond, rate.TokenLimit);
    }

    [Fact]
    public async Task ACallerThatFloods_GetsItsRate_AndOthersAreServed()
    {
        const int perSecond = 15;
        await using var server =
            await TinyServer.StartAsync((settings, _) => settings with { Limits = new() { RequestsPerSecond = perSecond } });
        var start = TimeProvider.System.GetTimestamp();
        using var over = new CancellationTokenSource(TimeSpan.FromSeconds(3));
        var flood = Enumerable.Range(0, 32).Select(async _ =>
        {
            var (http, met) = (server.Client(server.ReadKey), new List<HttpStatusCode>());
            while (!over.IsCancellationRequested)
            {
                using var answer = await http.GetAsync("/v1/models");
                met.Add(answer.StatusCode);
                await Task.Delay(10);
            }
            return met;
        }).ToList();
        var (other, served) = (server.Client(server.EditKey), 0);
        for (; !over.IsCancellationRequested; served++)
        {
            using var answer = await other.PostAsync("/v1/ask", """{"prompt": "red"}""");
            Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
            await Task.Delay(50);
        }
        var statuses = (await Task.WhenAll(flood)).SelectMany(met => met).CountBy(status => status).ToDictionary();
        Assert.Equal([HttpStatusCode.OK, HttpStatusCode.TooManyRequests], statuses.Keys.Order());
        var seconds = TimeProvider.System.GetElapsedTime(start).TotalSeconds;
        Assert.InRange(statuses[HttpStatusCode.OK], 2 * perSecond, perSecond * (seconds + 2)); // a bucket that is full, and what comes in
        Assert.True(served > 1);
    }

    [Fact]
    public async Task TheQueueOfEdits_IsBounded()
    {
        var gate = new TaskCompletionSource();
        await using var server =
            await TinyServer.StartAsync((settings, _) => settings with { Limits = new() { WaitingEdits = 2 } },
            cluster => new Waiting(cluster, gate.Task));
        var http = server.Client(server.EditKey);
        var taken = new[] { http.PostAsync("/v1/edits", Edit),
            http.PostAsync("/v1/edits", Edit.Replace("woman", "man", StringComparison.Ordinal)) };
        while (server.Served.Cluster is Waiting { Count: < 2 })
            await Task.Delay(10);
        using var refused = await http.PostAsync("/v1/edits", Edit);
        Assert.Equal((MendError.TooBusy, true), ((await refused.ProblemAsync()).Code, refused.Headers.RetryAfter is not null));
        Assert.Equal(HttpStatusCode.OK, (await http.PostAsync("/v1/ask", """{"prompt": "red"}""")).StatusCode); // reads wait for no edit
        gate.SetResult();
        Assert.All(await Task.WhenAll(taken), answer => Assert.Equal(HttpStatusCode.Created, answer.StatusCode));
    }

    [Fact]
    public async Task AnEditThatTakesTooLong_IsCancelled_AndNotMade()
    {
        await using var server =
            await TinyServer.StartAsync((settings, _) => settings with { Limits = new() { EditTimeout = TimeSpan.FromSeconds(0.3) } },
            cluster => new Waiting(cluster, Task.Delay(Timeout.Infinite)));
        using var late = await server.Client(server.EditKey).PostAsync("/v1/edits", Edit);
        Assert.Equal((MendError.TimedOut, 504), ((await late.ProblemAsync()).Code, (int)late.StatusCode));
        Assert.Empty(await server.Cluster.LedgerAsync());
    }

    [Theory]
    [InlineData("0.0.0.0")]
    [InlineData("192.0.2.1")]
    public async Task WithoutKeys_AServerListensOnThisMachineAlone(string address)
    {
        var served = new ServedCluster("m");
        var refused = await Assert.ThrowsAsync<MendException>(() =>
            MendServer.StartAsync(new() { Anonymous = true, Address = address, Port = 0, ManagementPort = 0 }, served, []));
        Assert.Contains("loopback", refused.Message, StringComparison.Ordinal);
        Assert.Contains("nobody could ask",
            (await Assert.ThrowsAsync<MendException>(() =>
            MendServer.StartAsync(new() { Port = 0, ManagementPort = 0 }, served, []))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WithoutKeys_ItSaysSo_AndAnswersOnlyToItsOwnNames()
    {
        await using var server = await TinyServer.StartAsync((settings, _) => settings with { Anonymous = true, Keys = null });
        Assert.Contains(server.Logged, logged => logged.Event == 302);
        Assert.Equal(HttpStatusCode.Created, (await server.Client().PostAsync("/v1/edits", Edit)).StatusCode);
        Assert.Equal("anonymous", (await server.Cluster.LedgerAsync()).Single().Author);
        // a name that a page of another site gave this machine
        using var elsewhere = new HttpRequestMessage(HttpMethod.Get, "/v1/status") { Headers = { Host = "evil.example" } };
        Assert.Equal(MendError.NotAllowed, (await (await server.Client().SendAsync(elsewhere)).ProblemAsync()).Code);
        // what such a page may send without being asked
        using var plain = await server.Client().PostAsync("/v1/edits", new StringContent(Edit, null, "text/plain"));
        Assert.Equal(HttpStatusCode.UnsupportedMediaType, plain.StatusCode);
    }

    private static async Task AddKeyAsync(TinyServer server, ApiKey key)
    {
        var file = server.Folder["keys.json"];
        var keys = System.Text.Json.Nodes.JsonNode.Parse(await File.ReadAllTextAsync(file))!;
        keys["keys"]!.AsArray().Add(JsonSerializer.SerializeToNode(key, MendHttp.Json));
        await File.WriteAllTextAsync(file, keys.ToJsonString());
        await Task.Delay(TimeSpan.FromSeconds(1.1));
    }
}
