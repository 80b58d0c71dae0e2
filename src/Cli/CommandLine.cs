using System.CommandLine;
using System.CommandLine.Help;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary>
/// All commands, and how each of them ends: with a result, or with one line that has the error's code, what and where, and what to do.
/// </summary>
internal static class CommandLine
{
    private const int Failed = 1, Defective = 70, Interrupted = 130;

    /// <summary>Shows where in the program an unforeseen error came from.</summary>
    private const string TraceVariable = "MEND_TRACE";

    public static RootCommand Root()
    {
        var root = new RootCommand("MendCluster: edits what a language model knows, as a transaction.")
        {
            DemoCommand.Create(),
            EditCommands.Edit(),
            EditCommands.Ask(),
            EditCommands.Revert(),
            EditCommands.Consolidate(),
            EditCommands.Ledger(),
            ClusterCommands.Create(),
            ServeCommand.Create(),
            KeyCommand.Create(),
            OpenApiCommand.Create(),
            EvalCommand.Create(),
            SequentialCommand.Create(),
            PlanCommand.Create(),
            DataCommand.Create(),
            PretrainCommand.Create(),
            TrainCommand.Create(),
            TuneLayersCommand.Create(),
            PreserveCommand.Create(),
            TrainRouterCommand.Create(),
            ReproduceCommand.Create(),
            ModelCommands.Export(),
            ModelCommands.Import(),
            FetchCommand.Create(),
        };
        foreach (var option in root.Options.OfType<HelpOption>())
            foreach (var alias in option.Aliases.Where(alias => alias.StartsWith('/')).ToList())
                option.Aliases.Remove(alias); // "/h" is a prompt
        Values.Check(root);
        return root;
    }

    /// <returns>The process's exit code: 0, 1 after an error, 70 after one that nobody foresaw, 130 when the command was stopped.</returns>
    public static async Task<int> RunAsync(string[] arguments)
    {
        using var output = new CheckedOutput(Console.Out);
        Console.SetOut(output);
        AnsiConsole.Console = AnsiConsole.Create(new());
        if (Console.IsOutputRedirected)
        {
            AnsiConsole.Profile.Width = 160; // a file has no width: do not wrap tables at a guess of 80
            AnsiConsole.Profile.Capabilities.Ansi = false;
            AnsiConsole.Profile.Capabilities.ColorSystem = ColorSystem.NoColors;
        }
        var code = await InvokeAsync(arguments);
        if (output.Failure is not { } failure)
            return code;
        Say.Error(MendError.FileUnusable, $"The standard output cannot be written: {failure}",
            "What the command did is done; what it had to say is lost. Make room, or send it elsewhere.");
        return Failed;
    }

    private static async Task<int> InvokeAsync(string[] arguments)
    {
        try
        {
            if (!Directory.Exists(".")) // libtorch's libraries end the process there
                throw new MendException(MendError.FileUnusable, "The current folder is gone.", "Go to one that is there.");
            // No response files: a prompt may begin with @.
            var parsed = Root().Parse(arguments, new ParserConfiguration { ResponseFileTokenReplacer = null });
            if (parsed.Errors.Count > 0 && parsed.Action is not HelpAction)
            {
                var command = Spelled(parsed.CommandResult.Command);
                Say.Error(MendError.InvalidOption, string.Join(' ', parsed.Errors.Select(error => error.Message).Distinct()),
                    $"{command} --help lists the options.");
                return Failed;
            }
            return await parsed.InvokeAsync(new()
            {
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = TimeSpan.FromMinutes(1)
            });
        }
        catch (TypeInitializationException e)
        {
            // with a LIBTORCH or MEND_THREADS that cannot be used nothing of Engine begins, what Named calls included
            return Report(e.GetBaseException());
        }
        catch (Exception e)
        {
            return Report(Named(e));
        }
    }

    /// <summary>What happened, under the wrappings; libtorch tells of memory in prose.</summary>
    private static Exception Named(Exception e) => e switch
    {
        AggregateException { InnerExceptions: [var only] } => Named(only),
        _ => DeviceMemory.Named(e),
    };

    /// <summary>With the commands that it is below.</summary>
    private static string Spelled(Command command) =>
        command is RootCommand ? "mend" : $"{Spelled(command.Parents.OfType<Command>().First())} {command.Name}";

    /// <summary>What a user can put right is said with what to do; anything else is a defect.</summary>
    private static int Report(Exception e)
    {
        switch (e)
        {
            case OperationCanceledException:
                Say.Line($"Stopped.");
                return Interrupted;
            case MendException known:
                Say.Error(known.Error, known.What, known.Hint);
                break;
            case InvalidDataException or JsonException:
                Say.Error(MendError.InvalidData, e.Message, "Correct what is named.");
                break;
            case IOException or UnauthorizedAccessException:
                Say.Error(MendError.FileUnusable, e.Message, "Name a file or folder that is there and that this process may use.");
                break;
            default:
                Say.Line(Console.Error, $"Defect: {e.GetType().Name}: {e.Message} {TraceVariable}=1 shows where; please report it.");
                if (Environment.GetEnvironmentVariable(TraceVariable) == "1")
                    Console.Error.WriteLine(e);
                return Defective;
        }
        return Failed;
    }
}
