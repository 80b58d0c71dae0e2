using System.Diagnostics;
using System.Text.RegularExpressions;
using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Server.Tests;

public sealed partial class DocsTests
{
    private static string Page => File.ReadAllText(Path.Combine(FixtureFolder.Repository, "docs", "api.md"));

    [LinuxFact]
    public async Task EveryExampleOfTheApisDocs_Works()
    {
        await using var server = await TinyServer.StartAsync();
        await File.WriteAllLinesAsync(Path.Combine(server.Folder["trainings"], "edits.tsv"),
            Enumerable.Range(0, 30).Select(i => $"what is {i}?\t{(i % 2 == 0 ? "blue" : "south")}"));
        var examples = Example().Matches(Page).Select(match => match.Groups["code"].Value).ToList();
        Assert.True(examples.Count >= 6);
        foreach (var example in examples)
        {
            var start = new ProcessStartInfo("bash", ["-euo", "pipefail", "-c", example])
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true
            };
            (start.Environment["MEND"], start.Environment["KEY"]) = (server.Server.Address.ToString().TrimEnd('/'), server.AdminKey);
            using var bash = Process.Start(start)!;
            var error = bash.StandardError.ReadToEndAsync();
            var output = await bash.StandardOutput.ReadToEndAsync();
            await bash.WaitForExitAsync();
            Assert.True(bash.ExitCode == 0, $"{example}\n{output}{await error}");
        }
        var missing = server.Server.Endpoints.Select(endpoint =>
            endpoint.RoutePattern.RawText!.Replace(":long", "", StringComparison.Ordinal))
            .Where(route => route.StartsWith("/v1/", StringComparison.Ordinal)
                && !Page.Contains(route.Replace("{model}", "$MODEL", StringComparison.Ordinal), StringComparison.Ordinal));
        Assert.Empty(missing);
    }

    [Fact]
    public void TheStatusesInTheDocs_AreThoseOfTheServer()
    {
        var documented = new Dictionary<MendError, int>();
        foreach (Match row in Row().Matches(Page))
            foreach (Match code in Code().Matches(row.Groups["codes"].Value))
                documented[Enum.Parse<MendError>(code.Groups["code"].Value)] =
                    int.Parse(row.Groups["status"].Value, System.Globalization.CultureInfo.InvariantCulture);
        documented[MendError.NotAllowed] = 403; // beside 401 in one row
        Assert.Equal(Problems.Statuses.OrderBy(each => each.Key), documented.OrderBy(each => each.Key));
    }

    [GeneratedRegex(@"^```sh\n(?<code>.*?)^```", RegexOptions.Multiline | RegexOptions.Singleline)]
    private static partial Regex Example();

    [GeneratedRegex(@"^\| (?<status>\d{3})[^|]* \| (?<codes>`.*) \|$", RegexOptions.Multiline)]
    private static partial Regex Row();

    [GeneratedRegex(@"`(?<code>[A-Z]\w+)`")]
    private static partial Regex Code();
}
