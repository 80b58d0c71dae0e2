using System.CommandLine;
using MendCluster.Engine.Data;
using MendCluster.Engine.Recipes;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend data generate</c>: sets for the paper's three tasks, in the published file forms.</summary>
internal static class DataCommand
{
    public static Option<EditTaskKind> TaskOption() => new("--task")
    {
        Description = "qa: question answering (zsRE), fc: fact checking (FEVER), gen: generation (Wikitext)",
        Required = true,
    };

    public static Command Create()
    {
        var task = TaskOption();
        var output = new Option<DirectoryInfo>("--out") { Description = "folder of the files", Required = true };
        var model = new Option<DirectoryInfo?>("--model") { Description = "with gen: the model that the edits' continuations are drawn from; without it the texts to train one on are written" };
        var seed = new Option<ulong>("--seed") { DefaultValueFactory = _ => 1, Description = "of the world of facts" };
        var generate = new Command("generate", "Write a set about a made-up world, in the form in which the task's data is published") { task, output, model, seed };
        generate.SetLongAction((parsed, cancellation) =>
        {
            var (folder, chosen, from) = (parsed.GetRequiredValue(output).FullName, parsed.GetValue(task), parsed.GetValue(seed));
            switch (chosen)
            {
                case EditTaskKind.Qa:
                    SyntheticTasks.WriteQuestionAnswering(folder, from);
                    break;
                case EditTaskKind.Fc:
                    SyntheticTasks.WriteFactChecking(folder, from);
                    break;
                case EditTaskKind.Gen when parsed.GetValue(model) is { } directory:
                    AnsiConsole.Progress().Start(progress =>
                    {
                        var bar = progress.AddTask("continuations");
                        SyntheticTasks.WriteContinuations(folder, directory.FullName, from, (done, all) => (bar.Value, bar.MaxValue) = (done, all), cancellation: cancellation);
                    });
                    break;
                default:
                    SyntheticTasks.WriteTexts(folder, from);
                    AnsiConsole.MarkupLineInterpolated($"[grey]Next: mend pretrain --task gen --data {folder} --out MODEL, then mend data generate --task gen --out {folder} --model MODEL[/]");
                    break;
            }
            foreach (var file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
                AnsiConsole.MarkupLineInterpolated($"{file}");
            return Task.CompletedTask;
        });
        return new Command("data", "Data sets for training and evaluation") { generate };
    }
}
