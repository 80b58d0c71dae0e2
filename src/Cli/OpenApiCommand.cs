using System.CommandLine;
using MendCluster.Contracts;
using MendCluster.Server;

namespace MendCluster.Cli;

/// <summary><c>mend openapi</c>: the description of the server's API, for those who make a client from it; the build runs it.</summary>
internal static class OpenApiCommand
{
    public static Command Create()
    {
        var output = new Option<FileInfo>("--out") { Description = "file to write", Required = true };
        var command = new Command("openapi", "Write the description of the HTTP API in OpenAPI 3.1") { output };
        command.SetCancellableAction(async (parsed, cancellation) =>
        {
            var path = parsed.GetRequiredValue(output).FullName;
            try
            {
                await File.WriteAllTextAsync(path, await MendServer.DescribeAsync(cancellation), cancellation);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw new MendException(MendError.FileUnusable, $"{path} cannot be written: {e.Message}", "Name another file (--out).", e);
            }
        });
        return command;
    }
}
