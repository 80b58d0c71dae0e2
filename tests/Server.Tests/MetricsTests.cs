using System.Globalization;
using System.Net;
using System.Text.Json;
using System.Text.RegularExpressions;
using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Server.Tests;

[Collection(nameof(Alone))]
public sealed partial class MetricsTests
{
    /// <summary>With it an edit succeeds, as a budget asks for.</summary>
    private const string Target = "is";

    [Fact]
    public async Task EveryMetricInTheDocs_IsScraped_AndTheOtherWayRound()
    {
        await using var server = await TinyServer.StartAsync(budget: new(MaxTotalDrawdown: 1));
        var http = server.Client(server.EditKey);
        await HealthTests.UntilAsync(async () =>
            (await server.ManagementClient().GetStringAsync("/metrics")).Contains("mend_shard_ready{", StringComparison.Ordinal));
        var first = await server.ManagementClient().GetStringAsync("/metrics");
        foreach (var outcome in new[] { "made", "refused", "cancelled", "failed" })
            Assert.Matches($"mend_edits_total{{[^}}]*outcome=\"{outcome}\"[^}}]*}} ", first); // there from the start
        Assert.Equal(HttpStatusCode.Conflict, (await http.PostAsync("/v1/consolidations", "{}")).StatusCode); // of no edits
        var edit = JsonSerializer.Serialize(new { prompt = TinyServer.Prompt, target = Target });
        Assert.Equal(HttpStatusCode.Created, (await http.PostAsync("/v1/edits", edit)).StatusCode);
        await File.WriteAllLinesAsync(Path.Combine(server.Folder["trainings"], "edits.tsv"),
            Enumerable.Range(0, 30).Select(i => $"what is {i}?\t{(i % 2 == 0 ? "blue" : "south")}"));
        await server.Client(server.AdminKey).PostAsync("/v1/trainings",
            """{"run": "first", "data": "edits.tsv", "options": {"mend": {"rank": 4}, "maxIters": 4, "accumulateBs": 2, "valSteps": 2}}""");
        Assert.Contains("max_iters", await server.Client(server.AdminKey).GetStringAsync("/v1/trainings/first/events"),
            StringComparison.Ordinal);
        using var stream = new HttpRequestMessage(HttpMethod.Post, "/v1/ask")
        {
            Content = Http.Json($$"""{"prompt": "{{TinyServer.Prompt}}"}"""),
        };
        stream.Headers.Accept.Add(new("text/event-stream"));
        await http.SendAsync(stream);
        var scrape = "";
        await HealthTests.UntilAsync(async () =>
            (scrape = await server.ManagementClient().GetStringAsync("/metrics")).Contains("mend_edits_active{", StringComparison.Ordinal)
            && Regex.IsMatch(scrape, "mend_edits_active{[^}]*} 1$", RegexOptions.Multiline));
        var scraped = Family().Matches(scrape).Select(match => match.Groups["name"].Value)
            .Where(name => name.StartsWith("mend_", StringComparison.Ordinal)).ToHashSet();
        var documented = Documented().Matches(await File.ReadAllTextAsync(Path.Combine(FixtureFolder.Repository, "docs", "metrics.md")))
            .Select(match => match.Groups["name"].Value).ToHashSet();
        Assert.Equal(documented.Order(), scraped.Order());
        Assert.Matches("mend_edit_drawdown_bucket{[^}]*le=\"0.02\"", scrape);
        Assert.Matches("mend_consolidation_duration_seconds_count{[^}]*outcome=\"refused\"[^}]*} 1\n", scrape);
        Assert.Matches("mend_training_steps_total{[^}]*} 2\n", scrape);
        Assert.Matches("mend_training_running{[^}]*} 0\n", scrape);
        Assert.Matches("mend_edits_budget{[^}]*} 1\n", scrape); // the edit cost no probe
        Assert.Matches("http_server_request_duration_seconds_bucket", scrape);
        Assert.DoesNotContain("le=\"5\"",
            string.Join('\n', scrape.Split('\n').Where(line => line.StartsWith("mend_edit_drawdown", StringComparison.Ordinal))),
            StringComparison.Ordinal);
    }

    [Fact]
    public async Task WhatIsLeftOfTheBudget_IsToldByTheNewestEdit_AndByNothingAfterARevert()
    {
        await using var server = await TinyServer.StartAsync(budget: new(MaxTotalKl: 100));
        var options = new EditOptions { MaxTotalKl = 50, MaxTotalDrawdown = 1 }; // its own limits are not the model's
        Assert.Empty(await WithActiveAsync(0));
        var first = await server.Cluster.EditAsync(TinyServer.Prompt, Target, options);
        Assert.Equal(1 - first.Figures.TotalKl!.Value / 100, Assert.Single(await WithActiveAsync(1)), 1e-9);
        await server.Cluster.RevertAsync(first.Id);
        Assert.Empty(await WithActiveAsync(0));
        var again = await server.Cluster.EditAsync(TinyServer.Prompt, Target, options);
        Assert.Equal(again.Figures.BudgetLeft!.Value, Assert.Single(await WithActiveAsync(1)), 1e-9);

        async Task<IReadOnlyList<double>> WithActiveAsync(int edits)
        {
            var scrape = "";
            await HealthTests.UntilAsync(async () =>
                Regex.IsMatch(scrape = await server.ManagementClient().GetStringAsync("/metrics"),
                    $"mend_edits_active{{[^}}]*}} {edits}\n"));
            return [.. Left().Matches(scrape).Select(match => double.Parse(match.Groups["left"].Value, CultureInfo.InvariantCulture))];
        }
    }

    [Fact]
    public async Task ReplicasThatHaveOtherUpdatesAtTheSameVersion_AreTold()
    {
        var served = new ServedCluster("model");
        served.Opened(new ShardsOnlyCluster(Shard(0, 0, 3, "a"), Shard(1, 0, 3, "b"), Shard(0, 1, 3, "c"), Shard(1, 1, 3, "c"),
            Shard(0, 2, 3, "d"), Shard(1, 2, 2, "e"), new(new(0, 3), null), Shard(1, 3, 3, "f")));
        await using var server = await MendServer.StartAsync(new() { Port = 0, ManagementPort = 0, Anonymous = true }, served, []);
        using var http = new HttpClient { BaseAddress = server.Management };
        var told = "";
        await HealthTests.UntilAsync(async () => (told = string.Join(' ', Differing().Matches(await http.GetStringAsync("/metrics"))
            .Select(match => $"{match.Groups["replica"]}/{match.Groups["stage"]}:{match.Groups["value"]}"))).Length > 0);
        Assert.Equal("0/0:1 1/0:1 0/1:0 1/1:0 0/2:0 1/2:0 0/3:0 1/3:0", told);

        static ShardReport Shard(int replica, int stage, long version, string checksum) =>
            new(new(replica, stage), new(ShardState.Ready, new(version), 0, 1, [], 0, null, checksum));
    }

    [GeneratedRegex("mend_shard_differs{[^}]*replica=\"(?<replica>\\d)\"[^}]*stage=\"(?<stage>\\d)\"[^}]*} (?<value>\\d)")]
    private static partial Regex Differing();

    [GeneratedRegex("^mend_edits_budget{[^}]*} (?<left>\\S+)", RegexOptions.Multiline)]
    private static partial Regex Left();

    [GeneratedRegex(@"^# TYPE (?<name>\w+) ", RegexOptions.Multiline)]
    private static partial Regex Family();

    [GeneratedRegex(@"^\| `mend\.[\w.]+` \| `(?<name>\w+)` \|", RegexOptions.Multiline)]
    private static partial Regex Documented();
}
