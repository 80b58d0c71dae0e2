using System.CommandLine;

namespace MendCluster.Cli;

internal static class CancellableCommand
{
    /// <summary>
    /// An action that a signal stops in order. Signals are listened to once an action waits for something; one that computes from the first
    /// line on would be killed by Ctrl-C.
    /// </summary>
    public static void SetCancellableAction(this Command command, Func<ParseResult, CancellationToken, Task> action) =>
        command.SetAction(async (parsed, cancellation) =>
    {
        await Task.Yield();
        await action(parsed, cancellation);
    });
}
