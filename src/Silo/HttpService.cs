using MendCluster.Server;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace MendCluster.Silo;

/// <summary>A silo's HTTP server: it listens before anything else starts, and has stopped before anything else stops.</summary>
internal sealed class HttpService(
    ServerSettings settings, ServedCluster served, AdminPages? pages, ILoggerFactory logs) : IHostedLifecycleService
{
    private MendServer? _server;

    public async Task StartAsync(CancellationToken cancellationToken) =>
        _server = await MendServer.StartAsync(settings, served, [], logging => logging.AddProvider(new Forwarded(logs)),
        pages: pages, cancellation: cancellationToken).ConfigureAwait(false);

    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        if (_server is not null)
            await _server.DisposeAsync().ConfigureAwait(false);
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>The silo's log is the server's.</summary>
    private sealed class Forwarded(ILoggerFactory logs) : ILoggerProvider
    {
        public ILogger CreateLogger(string categoryName) => logs.CreateLogger(categoryName);

        public void Dispose()
        {
            // The factory is the silo's.
        }
    }
}
