using Microsoft.Extensions.Logging;

namespace MendCluster.Silo;

/// <summary>Every message of this project's log.</summary>
internal static partial class LogMessages
{
    [LoggerMessage(1, LogLevel.Warning, "{Why}")]
    public static partial void Waits(this ILogger logger, string why);
}
