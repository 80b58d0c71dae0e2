using System.CommandLine;
using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Data;
using MendCluster.Engine.Routing;
using MendCluster.Experiments;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend sequence</c>: up to a thousand edits one after another through the ledger, and what holds on the way.</summary>
internal static class SequentialCommand
{
    private static readonly int[] DefaultCounts = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1000];

    public static Command Create()
    {
        var demo = new Option<bool>("--demo") { Description = "the demo's model; half of its held-out facts first, then made-up subjects" };
        var model = new Option<DirectoryInfo?>("--model") { Description = "Hugging Face directory" };
        var editor = new Option<FileInfo?>("--editor")
        {
            Description =
            "editor file; without it editor.safetensors in the model's directory"
        };
        var data = new Option<FileSystemInfo?>("--data")
        {
            Description =
            $"edits: {DataForms.Edits}. Or, with --task, a folder of the task's files"
        };
        var task = new Option<EditTaskKind?>("--task") { Description = "what --data's folder is for: qa or fc" };
        var counts = new Option<string?>("--edits")
        {
            Description =
            $"measure after so many edits; without it after {string.Join(", ", DefaultCounts)} and all, as far as there are so many"
        };
        var unrelated = new Option<int>("--unrelated")
        {
            Description = "ask at most so many unrelated questions",
            DefaultValueFactory = _ => 300
        }.Within(0);
        var maxDrawdown = new Option<double?>("--max-drawdown")
        {
            Description =
            "refuse edits that cost more than this fraction of the probes"
        }.Within(0, 1);
        var ownStep = new Option<bool>("--own-step") { Description = "make the edits with the editor's own step, as in the paper" };
        var most = new Option<int>("--max-tokens") { Description = "most tokens of an answer", DefaultValueFactory = _ => 32 }.Within(1);
        var revertAll = new Option<bool>("--revert-all")
        {
            Description =
            "take all edits back at the end, in a random order, and check that the model is the unedited one"
        };
        var device = DeviceOption.InTurn();
        var output = new Option<DirectoryInfo>("--out")
        {
            Description =
            "folder for results.json, results.md, curve.svg and the ledger; the same folder again: go on",
            DefaultValueFactory = _ => new("sequence")
        };
        var command = new Command("sequence", "Make edits one after another, up to a thousand, and measure what holds")
            { demo, model, editor, data, task, counts, unrelated, maxDrawdown, ownStep, most, revertAll, device, output };
        command.SetAction(async (parsed, cancellation) =>
        {
            if (!parsed.GetValue(demo) && (parsed.GetValue(model) is null || parsed.GetValue(data) is null))
                throw new MendException(MendError.InvalidOption, "mend sequence needs edits to make.",
                    "Give --demo, or --model and --data.");
            var directory = parsed.GetValue(model)?.FullName ?? DemoFiles.Shipped;
            var set = parsed.GetValue(demo) ? SequenceData.OfWorld(DemoRecipe.Seed, DefaultCounts[^1], parsed.GetValue(unrelated))
                : Read(parsed.GetValue(data)!.FullName, parsed.GetValue(task), parsed.GetValue(unrelated));
            var options = new EditOptions { MaxDrawdown = parsed.GetValue(maxDrawdown), RequireSuccess = true };
            if (parsed.GetValue(ownStep))
                options = options with { Confidence = null };
            var run = new SequenceRun(parsed.GetRequiredValue(output).FullName, set, options, parsed.GetValue(most), TimeProvider.System);
            var results = await AnsiConsole.Progress().AutoClear(true).StartAsync(progress =>
            {
                var (bar, router) = (progress.AddTask("edits", maxValue: 1), EditRouter.Beside(directory));
                return run.RunAsync(directory, parsed.GetValue(editor)?.FullName ?? DemoFiles.Editor(directory), ProbeSet.Beside(directory),
                    router is null ? [] : ReplaySet.Beside(directory), Counts(parsed.GetValue(counts), set.Edits.Count),
                    parsed.GetValue(revertAll), done => bar.Value = done, parsed.GetRequiredValue(device), router, cancellation);
            });
            Tables.Show(results.Table());
            return results.Reverted is { IsRestored: false } ? 1 : 0;
        });
        return command;
    }

    private static SequenceData Read(string data, EditTaskKind? task, int most)
    {
        if (task == EditTaskKind.Gen)
            throw new MendException(MendError.InvalidOption, "mend sequence asks questions, and gen has texts.", "Use --task qa or fc.");
        var edits = task is { } kind ? TaskFolder.ReadEdits(data, kind, DemoRecipe.Seed).Validation
            : QuestionAnswering.ReadEdits(data, DemoRecipe.Seed);
        var others = task is { } ofTask ? TaskFolder.OtherQuestions(data, ofTask) : null;
        return new(edits, others is null ? SequentialEdits.Unrelated(edits, most, Prng.At(DemoRecipe.Seed, 2))
            : [.. others.DistinctBy(pair => pair.Question).Take(most)],
            $"{edits.Count} edits of {Path.GetFileName(data)}; unrelated: {(others is null ? "their locality" : "Natural Questions")}");
    }

    private static List<int> Counts(string? list, int edits) => list is null
        ? [.. DefaultCounts.Where(count => count < edits), Math.Min(edits, DefaultCounts[^1])]
        : EditCounts.Parse(list);
}
