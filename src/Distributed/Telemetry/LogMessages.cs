using MendCluster.Contracts;
using Microsoft.Extensions.Logging;

namespace MendCluster.Distributed.Telemetry;

/// <summary>Every message of this project's log. None has a prompt, a target or an answer in it.</summary>
internal static partial class LogMessages
{
    [LoggerMessage(1, LogLevel.Information, "Edit {Edit} is made: rank {Rank}, {Bytes} bytes of factors, drawdown {Drawdown}")]
    public static partial void EditMade(this ILogger logger, EditId edit, long rank, long bytes, double? drawdown);

    [LoggerMessage(2, LogLevel.Information, "An edit was not made: {Error}")]
    public static partial void EditNotMade(this ILogger logger, MendError error);

    [LoggerMessage(3, LogLevel.Error, "An edit was not made")]
    public static partial void EditFailed(this ILogger logger, Exception exception);

    [LoggerMessage(4, LogLevel.Information, "Edit {Edit} is taken back by version {Version}; {Recomputed} later edits were computed anew")]
    public static partial void EditReverted(this ILogger logger, EditId edit, ModelVersion version, int recomputed);

    [LoggerMessage(25, LogLevel.Information,
        "Consolidation {Id} stands in the place of {Edits} edits, of which {After} succeed, and {Before} did before")]
    public static partial void Consolidated(this ILogger logger, EditId id, int edits, double before, double after);

    [LoggerMessage(26, LogLevel.Warning, "Edits were not consolidated: {What}")]
    public static partial void ConsolidationFailed(this ILogger logger, string what, Exception e);

    [LoggerMessage(5, LogLevel.Warning,
        "The shard of stage {Stage} failed; its replica is passed over for {Seconds} s while another can answer")]
    public static partial void ReplicaPassedOver(this ILogger logger, int stage, double seconds, Exception exception);

    [LoggerMessage(6, LogLevel.Warning, "The shard of stage {Stage} was not told; the next request that needs it brings it up to date")]
    public static partial void StageNotTold(this ILogger logger, int stage, Exception exception);

    [LoggerMessage(7, LogLevel.Debug, "A request begins anew at the newest version: {Error}")]
    public static partial void ReadBeginsAnew(this ILogger logger, MendError error);

    [LoggerMessage(10, LogLevel.Information, "Stage {Stage} of replica {Replica} is loaded: layers {First} to {Last}, {Bytes} bytes")]
    public static partial void ShardLoaded(this ILogger logger, int stage, int replica, int first, int last, long bytes);

    [LoggerMessage(11, LogLevel.Error, "Stage {Stage} of replica {Replica} could not be loaded")]
    public static partial void ShardFaulted(this ILogger logger, int stage, int replica, Exception exception);

    [LoggerMessage(20, LogLevel.Warning, "Replica {Replica} is lost: {Why}")]
    public static partial void ReplicaLost(this ILogger logger, int replica, string why);

    [LoggerMessage(21, LogLevel.Information, "Replica {Replica} takes part from step {Step} on")]
    public static partial void ReplicaJoined(this ILogger logger, int replica, long step);

    [LoggerMessage(22, LogLevel.Warning, "The shards of replica {Replica} were not told that the run is over")]
    public static partial void RoundNotEnded(this ILogger logger, int replica, Exception exception);

    [LoggerMessage(23, LogLevel.Warning, "The run was stopped, and its last checkpoint is the one before")]
    public static partial void CheckpointNotKept(this ILogger logger, Exception exception);

    [LoggerMessage(24, LogLevel.Information, "The run ended after {Iterations} iterations: {Stopped}")]
    public static partial void RunEnded(this ILogger logger, long iterations, string stopped);
}
