using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;

namespace MendCluster.Server.Tests;

/// <summary>A log that a test reads: category, level, event and text.</summary>
internal sealed class KeptLog(ConcurrentQueue<(string, LogLevel, int, string)> logged) : ILoggerProvider
{
    public ILogger CreateLogger(string categoryName) => new Logger(categoryName, logged);

    public void Dispose()
    {
    }

    private sealed class Logger(string category, ConcurrentQueue<(string, LogLevel, int, string)> logged) : ILogger
    {
        public IDisposable? BeginScope<TState>(TState state)
            where TState : notnull => null;

        public bool IsEnabled(LogLevel logLevel) => true;

        public void Log<TState>(LogLevel logLevel, EventId eventId, TState state, Exception? exception,
            Func<TState, Exception?, string> formatter) =>
            logged.Enqueue((category, logLevel, eventId.Id, $"{formatter(state, exception)} {exception}"));
    }
}
