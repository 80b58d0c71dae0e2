using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Files;
using MendCluster.Experiments;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend demo</c>: one fact edited on a small shipped model, beside fine-tuning, and taken back.</summary>
internal static class DemoCommand
{
    private const int Paraphrases = 4;

    public static Command Create()
    {
        var fromScratch = new Option<bool>("--from-scratch")
        {
            Description =
            "train the demo's model and editor anew, into ./demo, and show the demo on them"
        };
        var device = DeviceOption.InTurn();
        var command = new Command("demo", "Edit a fact of a small model and take the edit back") { fromScratch, device };
        command.SetAction(async (parsed, cancellation) =>
        {
            var directory = DemoFiles.Shipped;
            if (parsed.GetValue(fromScratch))
            {
                directory = DemoFiles.Made;
                using var own = OwnFolder.Take(directory, "mend demo --from-scratch");
                Make(directory, cancellation);
            }
            await ShowAsync(directory, parsed.GetRequiredValue(device), cancellation);
        });
        return command;
    }

    private static void Make(string directory, CancellationToken cancellation)
    {
        var start = Stopwatch.GetTimestamp();
        AnsiConsole.Progress().Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(),
            new RemainingTimeColumn()).Start(progress =>
        {
            var model = progress.AddTask("language model", maxValue: DemoRecipe.Model.Training.Steps);
            var editor = progress.AddTask("editor", maxValue: DemoRecipe.Editor.MaxIters);
            DemoRecipe.Make(directory, at =>
            {
                model.Value = at.Step;
                model.Description = string.Create(CultureInfo.InvariantCulture,
                    $"language model: loss {at.Loss:0.0000}, knows {at.ExactMatch:P1}");
            }, new Progress<TrainingProgress>(at =>
            {
                model.Value = model.MaxValue;
                editor.Value = at.Iteration;
                editor.Description = string.Create(CultureInfo.InvariantCulture,
                    $"editor: loss {at.Loss:0.0000}, best {at.BestValidation:0.0000}");
            }), cancellation);
            editor.Value = editor.MaxValue;
        });
        Say.Line($"Made in {Stopwatch.GetElapsedTime(start).TotalSeconds:0} s: {directory}");
    }

    private static async Task ShowAsync(string directory, string device, CancellationToken cancellation)
    {
        var example = World.Generate(DemoRecipe.Seed).Showcase[0];
        List<string> rephrases = [.. example.Rephrases.TakeLast(Paraphrases)]; // the wordings that no editor was trained on among them
        List<string> prompts = [example.Prompt, .. rephrases, .. example.Locality.Select(pair => pair.Question)];
        var ledger = Path.Combine(Path.GetTempPath(), $"mend-demo-{Environment.ProcessId}.ledger");
        try
        {
            await using var cluster = await EmbeddedCluster.OpenAsync(new()
            {
                ModelDirectory = directory,
                Editor = DemoFiles.Editor(directory),
                Ledger = ledger,
                Probes = ProbeSet.Beside(directory),
                Device = device,
            }, cancellation);
            var before = await AnswersAsync(cluster, prompts, cancellation);
            var receipt = await cluster.EditAsync(example.Prompt, example.Target, cancellation: cancellation);
            var after = await AnswersAsync(cluster, prompts, cancellation);
            using var comparison = new EditorComparison(directory, TimeProvider.System, device: ShardDevices.Of(device, 0));
            var (fineTuned, fineTuningTime) =
                comparison.AnswersAfterFineTuning(DemoRecipe.FineTune, example.Prompt, example.Target, prompts);
            await cluster.RevertAsync(receipt.Id, cancellation: cancellation);
            var reverted = await AnswersAsync(cluster, prompts, cancellation);

            Say.Line($"[bold]{example.Prompt}[/]  shall be answered  [bold]{example.Target}[/]");
            var table = new Table().Border(TableBorder.Simple)
                .AddColumns("", "prompt", "before", "target", "MEND", "fine-tuning", "reverted");
            for (var i = 0; i < prompts.Count; i++)
            {
                var isEdit = i <= rephrases.Count;
                var wanted = isEdit ? example.Target : before[i];
                table.AddRow(i == 0 ? "edit" : isEdit ? "paraphrase" : "unrelated", Say.Cell(prompts[i]), Say.Cell(before[i]), isEdit
                    ? Say.Cell(example.Target) : "",
                    Coloured(after[i], wanted), Coloured(fineTuned[i], wanted), Coloured(reverted[i], before[i]));
            }
            AnsiConsole.Write(table);
            EditCommands.Show(receipt);
            Say.Line($"[grey]Fine-tuning the same weights took {fineTuningTime.TotalMilliseconds:0} ms. The revert gave every answer back{(reverted.SequenceEqual(before) ? "" : " (NOT ALL)")}.[/]");
            Say.Line($"300 held-out edits, measured: [bold]mend eval --demo[/]. Edit it yourself: [bold]mend edit \"What club does Lionel Messi play for?\" \"PSG\"[/]");
        }
        finally
        {
            File.Delete(ledger);
        }
    }

    private static async Task<List<string>> AnswersAsync(EmbeddedCluster cluster, IReadOnlyList<string> prompts,
        CancellationToken cancellation)
    {
        var answers = new List<string>();
        foreach (var prompt in prompts)
            answers.Add((await cluster.AskAsync(prompt, cancellation: cancellation)).Text);
        return answers;
    }

    private static string Coloured(string answer, string wanted) => $"[{(answer == wanted ? "green" : "red")}]{Say.Cell(answer)}[/]";
}
