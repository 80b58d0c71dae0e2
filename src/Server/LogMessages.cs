using Microsoft.Extensions.Logging;

namespace MendCluster.Server;

/// <summary>
/// Every message of the server's log. Prompts and targets are in none of them but those that <see cref="ServerSettings.LogTexts"/> switches
/// on.
/// </summary>
internal static partial class LogMessages
{
    /// <summary>Category of what was changed and what was refused.</summary>
    public const string Audit = "MendCluster.Audit";

    [LoggerMessage(100, LogLevel.Information, "{Action} by {Caller} from {Remote}: {What}, version {Version}")]
    public static partial void Changed(ILogger logger, string action, string caller, string? remote, string what, long version);

    [LoggerMessage(101, LogLevel.Warning, "{Action} by {Caller} from {Remote} refused: {Error} ({Status})")]
    public static partial void Refused(ILogger logger, string action, string caller, string? remote, string error, int status);

    [LoggerMessage(102, LogLevel.Information, "{Action} by {Caller}: prompt {Prompt}, target {Target}")]
    public static partial void Texts(ILogger logger, string action, string caller, string prompt, string? target);

    [LoggerMessage(200, LogLevel.Error, "{Method} {Path} failed in a way that nobody foresaw")]
    public static partial void Defect(ILogger logger, Exception e, string method, string path);

    [LoggerMessage(201, LogLevel.Warning, "{Method} {Path} failed: {Error}")]
    public static partial void Failed(ILogger logger, Exception e, string method, string path, string error);

    [LoggerMessage(202, LogLevel.Debug, "The caller of {Method} {Path} has gone")]
    public static partial void Gone(ILogger logger, Exception e, string method, string path);

    [LoggerMessage(300, LogLevel.Information, "{Count} API keys read from {File}")]
    public static partial void KeysRead(ILogger logger, int count, string file);

    [LoggerMessage(301, LogLevel.Error, "{File} cannot be used, the keys read before stay in force: {Why}")]
    public static partial void KeysUnusable(ILogger logger, Exception e, string file, string why);

    [LoggerMessage(302, LogLevel.Warning, "Anybody on this machine may do everything without a key (Anonymous)")]
    public static partial void Anonymous(ILogger logger);

    [LoggerMessage(303, LogLevel.Information, "The certificate in {File} is in use; it ends {Until}")]
    public static partial void CertificateRead(ILogger logger, string file, DateTime until);

    [LoggerMessage(304, LogLevel.Error, "The certificate in {File} cannot be used, the one read before stays in force: {Why}")]
    public static partial void CertificateUnusable(ILogger logger, Exception e, string file, string why);

    [LoggerMessage(305, LogLevel.Debug, "A token was refused: {Why}")]
    public static partial void TokenRefused(ILogger logger, Exception e, string why);

    [LoggerMessage(400, LogLevel.Warning, "The cluster does not tell its state: {Why}")]
    public static partial void StateUnknown(ILogger logger, Exception e, string why);

    [LoggerMessage(500, LogLevel.Information, "Listening on {Address}; health and metrics on {Management}")]
    public static partial void Listening(ILogger logger, string address, string management);

    [LoggerMessage(501, LogLevel.Information, "Stopping: not ready any more, {Edits} edits under way")]
    public static partial void Stopping(ILogger logger, int edits);
}
