using MendCluster.Testing;

namespace MendCluster.Server.Tests;

public sealed class OpenApiTests
{
    /// <summary>Writes the file instead of comparing it.</summary>
    private const string Update = "MEND_UPDATE";

    private static string Committed => Path.Combine(FixtureFolder.Repository, "docs", "openapi.json");

    [Fact]
    public async Task TheCommittedDocument_IsThatOfTheServer()
    {
        await using var server = await TinyServer.StartAsync();
        var document = (await server.Client(server.ReadKey).GetStringAsync("/openapi/v1.json")).ReplaceLineEndings("\n") + "\n";
        if (Environment.GetEnvironmentVariable(Update) == "1")
            await File.WriteAllTextAsync(Committed, document);
        Assert.True(document == await File.ReadAllTextAsync(Committed),
            $"docs/openapi.json is of another server; {Update}=1 ./mend test --filter OpenApi writes it anew");
        Assert.StartsWith("{\n  \"openapi\": \"3.1", document, StringComparison.Ordinal);
        foreach (var endpoint in server.Server.Endpoints.Where(endpoint =>
            endpoint.RoutePattern.RawText!.StartsWith("/v1/", StringComparison.Ordinal)))
            Assert.Contains($"\"{endpoint.RoutePattern.RawText!.Replace(":long", "", StringComparison.Ordinal)}\"", document,
                StringComparison.Ordinal);
    }
}
