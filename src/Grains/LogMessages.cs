using MendCluster.Contracts;
using Microsoft.Extensions.Logging;

namespace MendCluster.Grains;

/// <summary>Every message of this project's log; what an edit or a training comes to is in that of Distributed, under other numbers.</summary>
internal static partial class LogMessages
{
    [LoggerMessage(40, LogLevel.Information, "The coordinator of {Model} has opened the ledger")]
    public static partial void LedgerOpened(this ILogger logger, string model);

    [LoggerMessage(41, LogLevel.Error, "The coordinator of {Model} could not open the ledger; the next request tries again")]
    public static partial void LedgerNotOpened(this ILogger logger, Exception exception, string model);

    [LoggerMessage(42, LogLevel.Warning, "The coordinator of {Model} gives way to one that opens the ledger anew: {Error}")]
    public static partial void GivesWay(this ILogger logger, string model, MendError error);

    [LoggerMessage(43, LogLevel.Debug, "A shard's state is not known")]
    public static partial void StateUnknown(this ILogger logger, Exception exception);
}
