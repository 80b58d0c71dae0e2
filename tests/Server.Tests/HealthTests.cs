using System.Net;
using MendCluster.Contracts;

namespace MendCluster.Server.Tests;

public sealed class HealthTests
{
    internal const string Edit = $$"""{"prompt": "{{TinyServer.Prompt}}", "target": "{{TinyServer.Target}}"}""";

    [Fact]
    public async Task HealthSaysWhatAServerWaitsFor_ThatItIsReady_AndThatItStops()
    {
        await using var server = await TinyServer.StartAsync((settings, _) => settings with { Drain = TimeSpan.FromSeconds(1) });
        var http = server.ManagementClient();
        var cluster = server.Served.Cluster!;
        server.Served.Waits("waits for the membership's database");
        Assert.Equal((503, "waits for the membership's database"), await HealthAsync("startup"));
        Assert.Equal(503, (await HealthAsync("ready")).Status);
        Assert.Equal((200, "live"), await HealthAsync("live"));
        var early = await (await server.Client(server.ReadKey).GetAsync("/v1/status")).ProblemAsync();
        Assert.Equal((MendError.Unavailable, 503, true), (early.Code, early.Status, early.Transient));

        server.Served.Opened(cluster);
        await UntilAsync(async () => await HealthAsync("ready") == (200, "ready"));
        Assert.Equal((200, "started"), await HealthAsync("startup"));
        Assert.Contains("\"stage\":1", await http.GetStringAsync("/healthz/ready"), StringComparison.Ordinal);
        Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync("/healthz/other")).StatusCode);

        var stopping = server.Server.StopAsync();
        await UntilAsync(async () => await HealthAsync("ready") == (503, "stops"));
        Assert.Equal(200, (await HealthAsync("live")).Status);
        // until whoever sends requests has heard of it
        Assert.Equal(HttpStatusCode.OK, (await server.Client(server.EditKey).PostAsync("/v1/ask", """{"prompt": "red"}""")).StatusCode);
        Assert.Equal(MendError.Unavailable, (await (await server.Client(server.EditKey).PostAsync("/v1/edits", Edit)).ProblemAsync()).Code);
        await stopping;

        async Task<(int Status, string State)> HealthAsync(string of)
        {
            using var answer = await http.GetAsync($"/healthz/{of}");
            return ((int)answer.StatusCode, (await answer.JsonAsync()).GetProperty("state").GetString()!);
        }
    }

    [Fact]
    public async Task AStop_WaitsForEditsUnderWay_AndEndsThoseThatTakeTooLong()
    {
        var gate = new TaskCompletionSource();
        foreach (var isOpened in new[] { true, false })
        {
            await using var server =
                await TinyServer.StartAsync((settings, _) => settings with { ShutdownTimeout = TimeSpan.FromSeconds(isOpened ? 20 : 0.5) },
                cluster => new Waiting(cluster, isOpened ? gate.Task : Task.Delay(Timeout.Infinite)));
            var edit = server.Client(server.EditKey).PostAsync("/v1/edits", Edit);
            while (server.Served.Cluster is Waiting { Count: 0 })
                await Task.Delay(10);
            var stopping = server.Server.StopAsync();
            await Task.Delay(100);
            Assert.False(edit.IsCompleted);
            if (isOpened)
            {
                gate.SetResult();
                Assert.Equal(HttpStatusCode.Created, (await edit).StatusCode);
            }
            else
            {
                await Assert.ThrowsAnyAsync<HttpRequestException>(() => edit);
                Assert.Empty(await server.Cluster.LedgerAsync());
            }
            await stopping;
        }
    }

    [Fact]
    public async Task TheManagementPort_IsOnItsPortAlone_WhateverHostIsNamed()
    {
        await using var server = await TinyServer.StartAsync();
        foreach (var path in new[] { "/metrics", "/healthz/ready", "/healthz/live" })
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { Host = server.Server.Management.Authority } };
            Assert.Equal(HttpStatusCode.Unauthorized, (await server.Client().SendAsync(request)).StatusCode);
            using var known = new HttpRequestMessage(HttpMethod.Get, path) { Headers = { Host = server.Server.Management.Authority } };
            Assert.Equal(HttpStatusCode.NotFound, (await server.Client(server.AdminKey).SendAsync(known)).StatusCode);
        }
        using var api = new HttpRequestMessage(HttpMethod.Get, "/v1/status") { Headers = { Host = server.Server.Address.Authority } };
        Assert.Equal(HttpStatusCode.NotFound, (await server.ManagementClient().SendAsync(api)).StatusCode);
    }

    internal static async Task UntilAsync(Func<Task<bool>> holds)
    {
        for (var i = 0; !await holds(); i++)
        {
            Assert.True(i < 200, "it did not come to that in 10 s");
            await Task.Delay(50);
        }
    }
}
