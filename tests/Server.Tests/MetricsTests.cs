using System.Text.RegularExpressions;
using MendCluster.Testing;

namespace MendCluster.Server.Tests;

[Collection(nameof(Alone))]
public sealed partial class MetricsTests
{
    [Fact]
    public async Task EveryMetricInTheDocs_IsScraped_AndTheOtherWayRound()
    {
        await using var server = await TinyServer.StartAsync();
        var http = server.Client(server.EditKey);
        await HealthTests.UntilAsync(async () =>
            (await server.ManagementClient().GetStringAsync("/metrics")).Contains("mend_shard_ready{", StringComparison.Ordinal));
        var first = await server.ManagementClient().GetStringAsync("/metrics");
        foreach (var outcome in new[] { "made", "refused", "cancelled", "failed" })
            Assert.Matches($"mend_edits_total{{[^}}]*outcome=\"{outcome}\"[^}}]*}} ", first); // there from the start
        await http.PostAsync("/v1/edits", HealthTests.Edit);
        using var stream = new HttpRequestMessage(HttpMethod.Post,
            "/v1/ask")
        { Content = Http.Json($$"""{"prompt": "{{TinyServer.Prompt}}"}""") };
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
        Assert.Matches("http_server_request_duration_seconds_bucket", scrape);
        Assert.DoesNotContain("le=\"5\"",
            string.Join('\n', scrape.Split('\n').Where(line => line.StartsWith("mend_edit_drawdown", StringComparison.Ordinal))),
            StringComparison.Ordinal);
    }

    [GeneratedRegex(@"^# TYPE (?<name>\w+) ", RegexOptions.Multiline)]
    private static partial Regex Family();

    [GeneratedRegex(@"^\| `mend\.[\w.]+` \| `(?<name>\w+)` \|", RegexOptions.Multiline)]
    private static partial Regex Documented();
}
