using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Console;

namespace MendCluster.Server;

/// <summary>Where the log of a program goes that has none of its own.</summary>
public static class ServerLog
{
    /// <summary>Line by line to the standard error. What was changed and what was refused is there in any case.</summary>
    /// <param name="least">Of everything else.</param>
    public static void ToStandardError(ILoggingBuilder logging, LogLevel least)
    {
        ToStandardOutput(logging, least);
        logging.Services.Configure<ConsoleLoggerOptions>(options => options.LogToStandardErrorThreshold = LogLevel.Trace);
    }

    /// <summary>The same to the standard output.</summary>
    public static void ToStandardOutput(ILoggingBuilder logging, LogLevel least)
    {
        // With the trace that a line belongs to.
        logging.Configure(options => options.ActivityTrackingOptions = ActivityTrackingOptions.TraceId);
        logging.SetMinimumLevel(least).AddFilter(LogMessages.Audit, LogLevel.Information).AddSimpleConsole(options =>
        {
            options.IncludeScopes = true;
            (options.SingleLine, options.UseUtcTimestamp, options.TimestampFormat) = (true, true, "yyyy-MM-ddTHH:mm:ssZ ");
            options.ColorBehavior = LoggerColorBehavior.Disabled;
        });
    }
}
