using MendCluster.Contracts;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace MendCluster.Server.Telemetry;

/// <summary>
/// Health and metrics, on a port of their own and without a key. Which port a request came by is known from its connection: its Host header
/// says what its sender likes.
/// </summary>
internal static class Management
{
    /// <summary>Marks a connection to the management port.</summary>
    public static ConnectionDelegate Mark(ConnectionDelegate next) => connection =>
    {
        connection.Features.Set(new Connection());
        return next(connection);
    };

    public static void Map(IApplicationBuilder app) => app.MapWhen(http => http.Features.Get<Connection>() is not null, management =>
    {
        management.UseOpenTelemetryPrometheusScrapingEndpoint();
        management.Run(HealthAsync);
    });

    private static async Task HealthAsync(HttpContext http)
    {
        var (served, watch) = (http.RequestServices.GetRequiredService<ServedCluster>(),
            http.RequestServices.GetRequiredService<ClusterWatch>());
        // A silo whose own stages are loading is not ready though another replica serves: an update would go on to that one.
        var own = served.Own is null ? null : await served.Own(http.RequestAborted);
        var (isServed, missing) = own is null ? (watch.IsServed, "no replica has all its stages")
            : (own.All(shard => shard.Status?.State == ShardState.Ready), "a stage of this silo is not ready");
        var faulted = own?.Select(shard => shard.Status?.Fault).FirstOrDefault(why => why is not null);
        (bool IsWell, string State)? health = http.Request.Path.Value switch
        {
            "/healthz/live" => (true, "live"),
            "/healthz/startup" => served.Fault is { } fault ? (false, fault) : served.Waiting is { } waiting ? (false, waiting)
                : !isServed ? (false, faulted ?? "loads") : (true, "started"),
            "/healthz/ready" => served.IsStopping ? (false, "stops") : served.Waiting is { } waiting ? (false, waiting)
                : isServed ? (true, "ready") : (false, missing),
            _ => null,
        };
        if (health is not { } known)
        {
            http.Response.StatusCode = StatusCodes.Status404NotFound;
            return;
        }
        http.Response.StatusCode = known.IsWell ? StatusCodes.Status200OK : StatusCodes.Status503ServiceUnavailable;
        http.Response.Headers.CacheControl = "no-store";
        await http.Response.WriteAsJsonAsync(new Health(known.State, own ?? watch.Shards ?? []), MendHttp.Json, http.RequestAborted);
    }

    private sealed class Connection;

    private sealed record Health(string State, IReadOnlyList<ShardReport> Shards);
}
