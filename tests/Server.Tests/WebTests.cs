using System.Net;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Server.Tests;

/// <summary>The server met by programs that are not ours.</summary>
public sealed class WebTests
{
    [LinuxFact]
    public async Task TokensOfAnIssuer_AreLetIn_WithTheRightsOfTheirScopes()
    {
        using var issuer = await NodeProgram.StartAsync("issuer.mjs");
        var authority = await issuer.LineAsync();
        await using var server =
            await TinyServer.StartAsync((settings, _) => settings with { Oidc = new() { Authority = authority, Audience = "mend" } });
        foreach (var (claims, status, edit) in new[]
        {
            ("""{"sub": "bob", "aud": "mend", "scope": "openid mend.edit"}""", 200, 201),
            ("""{"sub": "bob", "aud": "mend", "scope": "mend.read"}""", 200, 403),
            ("""{"sub": "bob", "aud": "mend", "scp": ["mend.admin"]}""", 200, 201),
            ("""{"sub": "bob", "aud": "mend", "scope": "mend.reader openid"}""", 403, 403),
            ("""{"sub": "bob", "aud": "other", "scope": "mend.admin"}""", 401, 401),
            ("""{"sub": "bob", "aud": "mend", "scope": "mend.admin", "exp": 1000}""", 401, 401),
            ("""{"sub": "", "aud": "mend", "scope": "mend.admin"}""", 401, 401),
            ("""{"sub": "bob", "aud": "mend", "scope": "mend.admin", "forged": true}""", 401, 401),
        })
        {
            var http = server.Client(await issuer.AskAsync(claims));
            Assert.Equal((claims, status), (claims, (int)(await http.GetAsync("/v1/status")).StatusCode));
            Assert.Equal((claims, edit),
                (claims, (int)(await http.PostAsync("/v1/edits", """{"prompt": "what is red", "target": "blue"}""")).StatusCode));
        }
        Assert.All(await server.Cluster.LedgerAsync(), entry => Assert.Equal("oidc:bob", entry.Author));
        Assert.Equal(HttpStatusCode.OK, (await server.Client(server.ReadKey).GetAsync("/v1/status")).StatusCode); // keys are let in beside
        Assert.Equal(HttpStatusCode.Unauthorized, (await server.Client("not.a.token").GetAsync("/v1/status")).StatusCode);
    }

    [LinuxFact]
    public async Task TheClientOfOpenAi_ListsModels_CompletesAndStreams()
    {
        await using var server = await TinyServer.StartAsync();
        await server.Cluster.EditAsync(TinyServer.Prompt, "a woman from the south");
        var whole = (await server.Cluster.AskAsync(TinyServer.Prompt, new(MaxTokens: 12))).Text;
        using var met = JsonDocument.Parse(await NodeProgram.RunAsync("openai.mjs", server.Server.Address.ToString(), server.ReadKey,
            TinyServer.Prompt));
        Assert.Equal(TinyServer.Model, met.RootElement.GetProperty("models")[0].GetString());
        Assert.Equal(whole, met.RootElement.GetProperty("whole").GetString());
        Assert.Equal(whole, met.RootElement.GetProperty("streamed").GetString());
        Assert.Contains(met.RootElement.GetProperty("finish").GetString(), new[] { "stop", "length" });
        Assert.Equal((422, "InvalidOption"),
            (met.RootElement.GetProperty("unknown").GetProperty("status").GetInt32(),
            met.RootElement.GetProperty("unknown").GetProperty("code").GetString()));
        Assert.Equal((401, "NotAuthenticated"),
            (met.RootElement.GetProperty("denied").GetProperty("status").GetInt32(),
            met.RootElement.GetProperty("denied").GetProperty("code").GetString()));
    }

    [LinuxFact]
    public async Task TheConsole_EditsAsksTakesBackAndTrains_InABrowser_WithoutAFaultOfAccess()
    {
        await using var server = await TinyServer.StartAsync();
        await File.WriteAllLinesAsync(Path.Combine(server.Folder["trainings"], "edits.tsv"),
            Enumerable.Range(0, 30).Select(i => $"what is {i}?\t{(i % 2 == 0 ? "blue" : "south")}"));
        var pictures = Environment.GetEnvironmentVariable("MEND_PICTURES") ?? server.Folder["pictures"];
        Directory.CreateDirectory(pictures);
        using var met = JsonDocument.Parse(await NodeProgram.RunAsync("console.mjs", server.Server.Address.ToString(), server.AdminKey,
            TinyServer.Prompt, TinyServer.Target, pictures));
        Assert.Empty(met.RootElement.GetProperty("violations").EnumerateArray().Select(each => each.GetString()));
        var steps = met.RootElement.GetProperty("steps").EnumerateArray().Select(each => each.GetString()!).ToList();
        Assert.Equal("key left in the address: false", steps[0]);
        Assert.Equal("previewed: 3 rows", steps[1]);
        Assert.StartsWith("Edit 1 is in force, version 1", steps[2], StringComparison.Ordinal);
        Assert.StartsWith("Consolidation 2 has the place of one edit, version 2;", steps[3], StringComparison.Ordinal);
        Assert.Equal("Edit 1 is taken back; the model is at version 3.", steps[4]);
        Assert.Empty(met.RootElement.GetProperty("errors").EnumerateArray().Select(each => each.GetString()));
        var ledger = await server.Cluster.LedgerAsync();
        Assert.Equal([(LedgerKind.Edit, "admin"), (LedgerKind.Consolidate, "admin"), (LedgerKind.Revert, "admin")], ledger.Select(entry => (entry.Kind, entry.Author!)));
    }

    [LinuxFact]
    public async Task TheApisDescription_HasNoFaultThatALinterFinds() =>
        Assert.NotNull(await NodeProgram.RunAsync(Path.Combine("node_modules", "@redocly", "cli", "bin", "cli.js"), "lint", "--config",
        "redocly.yaml", Path.Combine(FixtureFolder.Repository, "docs", "openapi.json")));
}
