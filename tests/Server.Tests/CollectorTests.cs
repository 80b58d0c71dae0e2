using System.Collections.Concurrent;
using System.Net;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;

namespace MendCluster.Server.Tests;

[Collection(nameof(Alone))]
public sealed class CollectorTests
{
    private const string Services = "/opentelemetry.proto.collector";

    /// <summary>By OTLP over gRPC, as a collector takes it; this one keeps the messages as they are.</summary>
    [Fact]
    public async Task AnEditsTraceAndTheMetrics_GoToTheCollector()
    {
        var taken = new ConcurrentQueue<(string Path, string Text)>();
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.ConfigureKestrel(kestrel => kestrel.Listen(IPAddress.Loopback, 0, listen => listen.Protocols = HttpProtocols.Http2));
        await using var collector = builder.Build();
        collector.MapPost("/{**path}", async (HttpContext http) =>
        {
            using var body = new MemoryStream();
            await http.Request.Body.CopyToAsync(body);
            taken.Enqueue((http.Request.Path, Encoding.Latin1.GetString(body.ToArray())));
            http.Response.ContentType = "application/grpc";
            await http.Response.Body.WriteAsync(new byte[5]); // an empty message: everything was taken
            http.Response.AppendTrailer("grpc-status", "0");
        });
        await collector.StartAsync();
        await using (var server = await TinyServer.StartAsync((settings, _) => settings with { Otlp = collector.Urls.Single() }))
            Assert.Equal(HttpStatusCode.Created, (await server.Client(server.EditKey).PostAsync("/v1/edits", HealthTests.Edit)).StatusCode);
        // what was not sent yet is sent when the server stops
        var traces = string.Concat(taken.Where(message => message.Path.StartsWith($"{Services}.trace.v1", StringComparison.Ordinal))
            .Select(message => message.Text));
        foreach (var span in new[] { "POST /v1/edits", "edit", "forward", "stage", "append", "broadcast" })
            Assert.Contains($"*{(char)span.Length}{span}", traces, StringComparison.Ordinal); // field 5 of a span, and its length
        var metrics = string.Concat(taken.Where(message => message.Path.StartsWith($"{Services}.metrics.v1", StringComparison.Ordinal))
            .Select(message => message.Text));
        Assert.Contains("mend.edit.duration", metrics, StringComparison.Ordinal);
    }
}
