using System.CommandLine;
using MendCluster.Cli;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;
using Spectre.Console;

if (Console.IsOutputRedirected)
{
    AnsiConsole.Profile.Width = 160; // a file has no width: do not wrap tables at a guess of 80
    AnsiConsole.Profile.Capabilities.Ansi = false;
    AnsiConsole.Profile.Capabilities.ColorSystem = ColorSystem.NoColors;
}
try
{
    return await Root().Parse(args).InvokeAsync(new() { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = TimeSpan.FromMinutes(1) });
}
catch (OperationCanceledException)
{
    AnsiConsole.MarkupLine("[yellow]Stopped.[/]");
    return 130;
}
// What a user can put right is said in one line; anything else is a defect and shows its trace.
catch (Exception e) when (Named(e) is MendException or ModelException or CheckpointException or TokenizerException or EditorException or InvalidDataException or IOException)
{
    AnsiConsole.MarkupLineInterpolated($"[red]{(Named(e) is MendException known ? known.Error.ToString() : "Error")}:[/] {Named(e).Message}");
    return 1;
}

// With a LIBTORCH that it cannot use, nothing of Engine begins.
static Exception Named(Exception e) => e is TypeInitializationException ? e.GetBaseException() : DeviceMemory.Named(e);

static RootCommand Root() => new("MendCluster: edits what a language model knows, as a transaction.")
{
    DemoCommand.Create(),
    EditCommands.Edit(),
    EditCommands.Ask(),
    EditCommands.Revert(),
    EditCommands.Ledger(),
    ClusterCommands.Create(),
    EvalCommand.Create(),
    SequentialCommand.Create(),
    PlanCommand.Create(),
    DataCommand.Create(),
    PretrainCommand.Create(),
    TrainCommand.Create(),
    ReproduceCommand.Create(),
    ModelCommands.Export(),
    ModelCommands.Import(),
};
