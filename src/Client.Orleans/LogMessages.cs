using Microsoft.Extensions.Logging;

namespace MendCluster.Client.Orleans;

/// <summary>Every message of this project's log. None has a prompt, a target or an answer in it.</summary>
internal static partial class LogMessages
{
    [LoggerMessage(1, LogLevel.Warning, "Attempt {Attempt} of a request failed; it is made again in {Pause}")]
    public static partial void Retried(this ILogger logger, Exception? exception, int attempt, TimeSpan pause);
}
