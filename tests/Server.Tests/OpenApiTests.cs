using MendCluster.Testing;

namespace MendCluster.Server.Tests;

public sealed class OpenApiTests
{
    [Fact]
    public async Task TheCommittedDocument_IsThatOfTheBuild_AndOfTheServer()
    {
        var committed = await File.ReadAllTextAsync(Path.Combine(FixtureFolder.Repository, "docs", "openapi.json"));
        Assert.True(committed == await File.ReadAllTextAsync(Path.Combine(FixtureFolder.Repository, "artifacts", "openapi.json")),
            "docs/openapi.json is of another server; the build wrote artifacts/openapi.json, which takes its place");
        await using var server = await TinyServer.StartAsync();
        Assert.Equal(committed, await MendServer.DescribeAsync());
        var served = await server.Client(server.ReadKey).GetStringAsync("/openapi/v1.json");
        Assert.Equal(committed, served.ReplaceLineEndings("\n") + "\n");
        Assert.StartsWith("{\n  \"openapi\": \"3.1", served, StringComparison.Ordinal);
        foreach (var endpoint in server.Server.Endpoints.Where(endpoint =>
            endpoint.RoutePattern.RawText!.StartsWith("/v1/", StringComparison.Ordinal)))
            Assert.Contains($"\"{endpoint.RoutePattern.RawText!.Replace(":long", "", StringComparison.Ordinal)}\"", served,
                StringComparison.Ordinal);
    }
}
