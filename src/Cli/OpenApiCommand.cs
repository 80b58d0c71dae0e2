using System.CommandLine;
using MendCluster.Server;

namespace MendCluster.Cli;

/// <summary><c>mend openapi</c>: the description of the server's API, for those who make a client from it; the build runs it.</summary>
internal static class OpenApiCommand
{
    public static Command Create()
    {
        var command = new Command("openapi", "Print the description of the HTTP API in OpenAPI 3.1");
        command.SetCancellableAction(async (_, cancellation) => Console.Out.Write(await MendServer.DescribeAsync(cancellation)));
        return command;
    }
}
