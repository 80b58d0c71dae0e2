using System.Net;
using System.Threading.RateLimiting;
using MendCluster.Contracts;
using MendCluster.Server.Api;
using MendCluster.Server.Security;
using MendCluster.Server.Telemetry;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Timeouts;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace MendCluster.Server;

/// <summary>
/// The HTTP server of a cluster: API, console, health and metrics, over whatever cluster it is given. The same in a silo, before a cluster
/// in the same process, and as a process without weights. A request passes, in this order: the management port's branch; the host that it
/// names; its errors' form; its endpoint; who asks; how much they ask for; whether they may.
/// </summary>
public sealed class MendServer : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly ServerSettings _settings;
    private readonly ServedCluster _served;
    private readonly TimeProvider _time;
    private bool _isStopped;

    private MendServer(WebApplication app, ServerSettings settings, ServedCluster served, TimeProvider time) =>
        (_app, _settings, _served, _time) = (app, settings, served, time);

    /// <summary>Where the API and the console are.</summary>
    public Uri Address => AddressOf(0);

    /// <summary>Where health and metrics are.</summary>
    public Uri Management => AddressOf(1);

    /// <summary>Everything that can be asked for.</summary>
    internal IReadOnlyList<RouteEndpoint> Endpoints =>
        [.. _app.Services.GetRequiredService<EndpointDataSource>().Endpoints.OfType<RouteEndpoint>()];

    /// <summary>Listens from here on; the cluster may come later.</summary>
    /// <param name="keys">Let in beside those of the settings' file.</param>
    /// <param name="logging">Where the log goes; null: nowhere.</param>
    /// <param name="pages">For admins, beside the API; null: none.</param>
    /// <exception cref="MendException">The settings cannot be used, or an address is taken.</exception>
    public static async Task<MendServer> StartAsync(ServerSettings settings, ServedCluster served, IEnumerable<ApiKey> keys,
        Action<ILoggingBuilder>? logging = null, TimeProvider? time = null, AdminPages? pages = null,
        CancellationToken cancellation = default)
    {
        List<ApiKey> own = [.. keys];
        List<string> faults = [.. settings.Faults()];
        if (faults.Count == 0 && settings.Keys is null && settings.Oidc is null && !settings.Anonymous && own.Count == 0)
            faults.Add($"{nameof(settings.Keys)} is missing, and so is {nameof(settings.Oidc)}; nobody could ask");
        if (faults.Count > 0)
            throw new MendException(MendError.InvalidOption, string.Join(". ", faults) + ".", "Correct the server's settings.");
        time ??= TimeProvider.System;
        var server = new MendServer(Build(settings, served, own, logging, time, pages), settings, served, time);
        try
        {
            await server._app.StartAsync(cancellation).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            await server._app.DisposeAsync().ConfigureAwait(false);
            if (e is IOException) // an address that is taken
                throw new MendException(MendError.FileUnusable, $"The server cannot listen: {e.Message}", "Name another address or port.",
                    e);
            throw;
        }
        ServerMetrics.Begin();
        LogMessages.Listening(server.Logger, server.Address.ToString(), server.Management.ToString());
        if (settings.Anonymous)
            LogMessages.Anonymous(server.Logger);
        return server;
    }

    /// <summary>The API's own description, as every server gives it.</summary>
    /// <returns>OpenAPI 3.1, as JSON.</returns>
    public static async Task<string> DescribeAsync(CancellationToken cancellation = default)
    {
        var (key, kept) = ApiKey.New("openapi", Right.Read);
        await using var server = await StartAsync(new() { Port = 0, ManagementPort = 0, Drain = TimeSpan.Zero }, new ServedCluster("model"),
            [kept], cancellation: cancellation).ConfigureAwait(false);
        using var http = new HttpClient { DefaultRequestHeaders = { Authorization = new("Bearer", key) } };
        var document = await http.GetStringAsync(new Uri(server.Address, OpenApi.Route), cancellation).ConfigureAwait(false);
        return document.ReplaceLineEndings("\n") + "\n";
    }

    /// <summary>
    /// Says that it is not ready any more, then takes no request, and ends when those under way are answered, or the time for that is over.
    /// </summary>
    public async Task StopAsync()
    {
        if (_isStopped)
            return;
        _isStopped = true;
        LogMessages.Stopping(Logger, _app.Services.GetRequiredService<EditQueue>().Count);
        _served.Stops();
        await Task.Delay(_settings.Drain, _time).ConfigureAwait(false);
        using var patience = new CancellationTokenSource(_settings.ShutdownTimeout, _time);
        await _app.StopAsync(patience.Token).ConfigureAwait(false);
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync().ConfigureAwait(false);
        await _app.DisposeAsync().ConfigureAwait(false);
    }

    private ILogger Logger => _app.Services.GetRequiredService<ILogger<MendServer>>();

    private Uri AddressOf(int listener) =>
        new(_app.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.ElementAt(listener));

    /// <summary>A bucket for two seconds' requests, filled ten times a second, or with each single one where they are fewer.</summary>
    internal static TokenBucketRateLimiterOptions RateOf(int requestsPerSecond)
    {
        var tokens = Math.Max(1, requestsPerSecond / 10);
        return new()
        {
            TokenLimit = 2 * requestsPerSecond,
            TokensPerPeriod = tokens,
            ReplenishmentPeriod = TimeSpan.FromSeconds((double)tokens / requestsPerSecond),
        };
    }

    private static WebApplication Build(ServerSettings settings, ServedCluster served, IReadOnlyList<ApiKey> own,
        Action<ILoggingBuilder>? logging, TimeProvider time, AdminPages? pages)
    {
        // Empty: nothing is read from variables or files but what the settings name.
        var builder = WebApplication.CreateEmptyBuilder(new()
        {
            ApplicationName = typeof(MendServer).Assembly.GetName().Name,
            ContentRootPath = AppContext.BaseDirectory
        });
        logging?.Invoke(builder.Logging);
        builder.WebHost.UseKestrelCore().UseKestrelHttpsConfiguration().ConfigureKestrel((_, kestrel) => Listen(kestrel, settings, time));
        var services = builder.Services;
        services.AddSingleton<IHostLifetime, OwnersLifetime>();
        services.AddSingleton(settings).AddSingleton(served).AddSingleton(time).AddSingleton<EditQueue>().AddSingleton<ApiContext>();
        services.AddSingleton(provider => new ApiKeys(settings.Keys, own, time, provider.GetRequiredService<ILogger<ApiKeys>>()));
        services.AddSingleton<ClusterWatch>().AddHostedService(provider => provider.GetRequiredService<ClusterWatch>());
        services.AddRouting();
        services.Configure<RouteHandlerOptions>(options => options.ThrowOnBadRequest = true);
        services.ConfigureHttpJsonOptions(options => MendHttp.Configured(options.SerializerOptions, isStrict: true));
        services.AddRequestTimeouts(options =>
        {
            options.DefaultPolicy = new() { Timeout = settings.Limits.Timeout, WriteTimeoutResponse = TimedOutAsync };
            options.AddPolicy(EditEndpoints.Timeout,
                new RequestTimeoutPolicy { Timeout = settings.Limits.EditTimeout, WriteTimeoutResponse = TimedOutAsync });
        });
        services.AddRateLimiter(options =>
        {
            options.GlobalLimiter = PartitionedRateLimiter.CreateChained(
                PartitionedRateLimiter.Create<HttpContext, string>(http =>
                RateLimitPartition.GetConcurrencyLimiter(CallerOf(http), _ => new() { PermitLimit = settings.Limits.RequestsAtOnce })),
                PartitionedRateLimiter.Create<HttpContext, string>(http =>
                    RateLimitPartition.GetTokenBucketLimiter(CallerOf(http), _ => RateOf(settings.Limits.RequestsPerSecond))));
            options.OnRejected = (rejected, _) =>
                new(Errors.RefuseAsync(rejected.HttpContext,
                new(MendError.TooBusy, "These are more requests than this server takes of one caller.",
                "Nothing was done. Wait as long as Retry-After says, then send the request again."),
                    rejected.Lease.TryGetMetadata(MetadataName.RetryAfter, out var wait) ? wait : null));
        });
        services.AddMendAuthentication(settings);
        services.AddMendTelemetry(settings);
        services.AddMendOpenApi();
        pages?.Add(services);

        var app = builder.Build();
        _ = app.Services.GetRequiredService<ApiKeys>(); // refused before anything listens
        Telemetry.Management.Map(app);
        app.UseMiddleware<Errors>();
        if (settings.Anonymous)
            app.Use(OwnHostAsync);
        app.UseRouting();
        app.UseRequestTimeouts();
        app.UseAuthentication();
        app.UseRateLimiter();
        app.UseAuthorization();
        ConsoleFiles.Map(app);
        pages?.Map(app.MapGroup("").Requires(Right.Admin).ExcludeFromDescription());
        app.MapOpenApi(OpenApi.Route).Requires(Right.Read);
        var api = app.MapGroup("/v1").AddEndpointFilter(Requests.OnlyKnownQueryAsync);
        EditEndpoints.Map(api.MapGroup("").WithTags("Edits"));
        ReadEndpoints.Map(api.MapGroup("").WithTags("Questions, ledger and state"));
        TrainingEndpoints.Map(api.MapGroup("").WithTags("Trainings"));
        OpenAiEndpoints.Map(api.MapGroup("").WithTags("In OpenAI's form"));
        return app;
    }

    private static void Listen(KestrelServerOptions kestrel, ServerSettings settings, TimeProvider time)
    {
        kestrel.AddServerHeader = false;
        kestrel.Limits.MaxRequestBodySize = settings.Limits.BodyBytes;
        kestrel.Limits.RequestHeadersTimeout = TimeSpan.FromSeconds(10);
        var logger = kestrel.ApplicationServices.GetRequiredService<ILogger<CertificateFiles>>();
        var certificate = settings.Tls is not { } tls ? null : new CertificateFiles(tls.Certificate, tls.Key, time, (read, e) =>
        {
            if (e is null)
                LogMessages.CertificateRead(logger, tls.Certificate, read.NotAfter);
            else
                LogMessages.CertificateUnusable(logger, e, tls.Certificate, e.Message);
        });
        _ = certificate?.Current; // refused before anything listens
        kestrel.Listen(IPAddress.Parse(settings.Address), settings.Port, listen =>
        {
            if (certificate is not null)
                listen.UseHttps(https => https.ServerCertificateSelector = (_, _) => certificate.Current);
        });
        kestrel.Listen(IPAddress.Parse(settings.ManagementAddress), settings.ManagementPort,
            listen => listen.Use(Telemetry.Management.Mark));
    }

    private static string CallerOf(HttpContext http) => Caller.Find(http.User)?.Name ?? $"ip:{http.Connection.RemoteIpAddress}";

    private static Task TimedOutAsync(HttpContext http) =>
        Errors.RefuseAsync(http, new(MendError.TimedOut, "The request took longer than this server allows.",
        "An edit that was not made in time is not made. Send it again, an edit with the same idempotency key."));

    /// <summary>Without keys, a page of another site could name a host that is this machine and ask in its visitor's place.</summary>
    private static Task OwnHostAsync(HttpContext http, RequestDelegate next) =>
        http.Request.Host.Host is "localhost" || (IPAddress.TryParse(http.Request.Host.Host, out var named) && IPAddress.IsLoopback(named))
        ? next(http)
            : throw new MendException(MendError.NotAllowed, $"The request is for the host '{http.Request.Host.Host}'.",
                "Without keys the server answers to localhost and its addresses alone.");

    /// <summary>Signals are the owner's, who stops the server.</summary>
    private sealed class OwnersLifetime : IHostLifetime
    {
        public Task WaitForStartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

        public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;
    }
}
