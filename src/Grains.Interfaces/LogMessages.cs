using Microsoft.Extensions.Logging;

namespace MendCluster.Grains.Interfaces;

/// <summary>Every message of this project's log.</summary>
internal static partial class LogMessages
{
    [LoggerMessage(1, LogLevel.Information, "Between silos and to clients, the certificate in {File} is in use; it ends {Until}")]
    public static partial void CertificateRead(this ILogger logger, string file, DateTime until);

    [LoggerMessage(2, LogLevel.Error, "The certificate in {File} cannot be used, the one read before stays in force: {Why}")]
    public static partial void CertificateUnusable(this ILogger logger, Exception exception, string file, string why);

    [LoggerMessage(3, LogLevel.Information, "{Count} authorities in {File} are trusted")]
    public static partial void AuthoritiesRead(this ILogger logger, int count, string file);

    [LoggerMessage(4, LogLevel.Error, "The authorities in {File} cannot be used, those read before stay in force: {Why}")]
    public static partial void AuthoritiesUnusable(this ILogger logger, Exception exception, string file, string why);
}
