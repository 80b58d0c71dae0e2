using System.CommandLine;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Files;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using MendCluster.Experiments;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend eval</c>: the paper's tables of editors on a set of edits, one at a time or many at once.</summary>
internal static class EvalCommand
{
    /// <summary>What stands beside the editors given, as <c>--editors</c> names it.</summary>
    private static readonly string[] Rivals = ["searched", "ft", "ft+kl", "ft-bf", "ultraedit"];

    public static Command Create()
    {
        var demo = new Option<bool>("--demo") { Description = "the demo's model on its 300 held-out facts" };
        var model = new Option<DirectoryInfo?>("--model") { Description = "Hugging Face directory" };
        var editor = new Option<FileInfo[]>("--editor")
        {
            Description =
            "editor files, one or several; without it editor.safetensors in the model's directory",
            AllowMultipleArgumentsPerToken = true
        };
        var data = new Option<FileSystemInfo?>("--data")
        {
            Description =
            $"edits: {DataForms.Edits}. Or, with --task, a folder of the task's files"
        };
        var task = new Option<EditTaskKind?>("--task") { Description = "what --data's folder is for: qa, fc or gen" };
        var limit = new Option<int?>("--limit") { Description = "only the first so many edits" }.Within(1);
        var beside = new Option<string>("--editors")
        {
            Description =
            "what stands beside the editor files: searched (each edit as strong as it has to be, as through the cluster; one edit at a time), ft, ft+kl, ft-bf (breadth-first: epochs over all edits, of one weight), ultraedit; or none",
            DefaultValueFactory = _ => string.Join(',', Rivals)
        };
        var rate = new Option<double?>("--ft-lr")
        {
            Description =
            "learning rate of fine-tuning; without it one that suits the task's small model"
        }.MoreThan(0);
        var together = new Option<string>("--edits")
        {
            Description = "make so many edits at once, such as 1,5,25,75,125",
            DefaultValueFactory = _ => "1"
        };
        var ultraRate = new Option<double>("--ultra-lr")
        {
            Description = "step size of UltraEdit",
            DefaultValueFactory = _ => DemoRecipe.UltraEdit.EditLr
        }.MoreThan(0);
        var device = DeviceOption.One();
        var output = new Option<DirectoryInfo?>("--out")
        {
            Description =
            "also write results.json, results.md, pictures, and measured/ with every case; run it again to go on where it stopped"
        };
        var command = new Command("eval", "Measure editors: edit success, drawdown, KL") { demo, model, editor, data, task, limit, together,
            beside, ultraRate, rate, device, output };
        command.SetCancellableAction((parsed, cancellation) =>
        {
            var isDemo = parsed.GetValue(demo);
            if (!isDemo && (parsed.GetValue(model) is null || parsed.GetValue(data) is null))
                throw new MendException(MendError.InvalidOption, "mend eval needs something to measure.",
                    "Give --demo, or --model and --data.");
            var counts = EditCounts.Parse(parsed.GetValue(together)!);
            var rivals = RivalsOf(parsed.GetValue(beside)!);
            var directory = parsed.GetValue(model)?.FullName ?? DemoFiles.Shipped;
            var text = new TextBatch(ModelFamily.FromDirectory(directory), TokenizerFiles.Load(directory));
            var kind = isDemo ? null : parsed.GetValue(task);
            var opened = kind is null ? null : TaskFolder.Open(parsed.GetValue(data)!.FullName, kind.Value, text, DemoRecipe.Seed);
            var all = opened is not null ? Enumerable.Range(0, opened.CaseCount).Select(opened.Case)
                : (isDemo ? DemoRecipe.HeldOutEdits(counts.Max())
                    : QuestionAnswering.ReadEdits(parsed.GetValue(data)!.FullName, DemoRecipe.Seed)).Select(text.Rows);
            List<EditRows> cases = [.. all.Take(parsed.GetValue(limit) ?? int.MaxValue)];

            var files = parsed.GetValue(editor) is { Length: > 0 } given ? given.Select(file => file.FullName)
                : [DemoFiles.Editor(directory)];
            var fineTune = TaskTraining.FineTune(kind ?? EditTaskKind.Qa);
            var trained = TrainedEditor.OfFiles(files);
            var editors = Editors(trained, rivals, fineTune with { EditLr = parsed.GetValue(rate) ?? fineTune.EditLr },
                DemoRecipe.UltraEdit with { EditLr = parsed.GetValue(ultraRate) }, () => EditorComparison.UnrelatedRows(opened, cases),
                ModelFamily.FromDirectory(directory).Labels is not null);
            using var comparison = new EditorComparison(directory, TimeProvider.System, kind ?? EditTaskKind.Qa, DemoRecipe.Seed,
                parsed.GetRequiredValue(device));
            var folder = parsed.GetValue(output)?.FullName;
            using var own = folder is null ? null : OwnFolder.Take(folder, "mend eval");
            var reports = Measure(comparison, editors, counts, cases, folder is null ? null : new(Path.Combine(folder, "measured")),
                cancellation);
            var trainings = trained.Select(editor => (editor.Name, Run: new RunFolder(Path.GetDirectoryName(editor.File)!)))
                .Where(training => TrainingReports.IsMeasured(training.Run)).ToList();
            var costs = trainings.Count == 0 ? null : TrainingReports.Costs(trainings.Select(training => (training.Name, TrainingReports.Cost(training.Run))));
            Tables.Show(ResultTables.Of(reports));
            if (costs is not null)
                Tables.Show(costs);
            if (folder is not null)
                ResultTables.Write(folder, reports, costs);
            return Task.CompletedTask;
        });
        return command;
    }

    private static List<EditorSpec> Editors(
        IReadOnlyList<TrainedEditor> trained, List<string> rivals, FineTuneOptions fineTune, UltraEditOptions ultraEdit,
        Func<IReadOnlyList<TokenRow>> unrelated, bool isClassifier)
    {
        var editors = new List<EditorSpec>();
        foreach (var editor in trained)
        {
            if (rivals.Contains("searched") && new EditOptions().Confidence is { } confidence
                && editor.Searched(confidence) is { } searched)
                editors.Add(searched);
            editors.Add(editor);
        }
        var editable = trained[0].Editable;
        if (rivals.Contains("ft"))
            editors.Add(new FineTunedEditor(fineTune, editable));
        if (rivals.Contains("ft+kl"))
            editors.Add(new FineTunedEditor(fineTune, editable, unrelated()));
        if (rivals.Contains("ft-bf"))
            editors.Add(new BreadthFirstEditor(DemoRecipe.BreadthFirst));
        if (rivals.Contains("ultraedit") && isClassifier)
            Say.Line($"[yellow]UltraEdit is left out: of one text a classifier has one row of gradient, and UltraEdit needs more to know their spread.[/]");
        else if (rivals.Contains("ultraedit"))
            editors.Add(new UntrainedUltraEdit(ultraEdit, editable));
        return editors;
    }

    private static List<string> RivalsOf(string list) => list == "none" ? []
        : [.. list.Split(',').Select(name => Rivals.Contains(name) ? name
        : throw new MendException(MendError.InvalidOption, $"--editors \"{list}\": '{name}' is not known.",
        $"Known are {string.Join(", ", Rivals)}, or none."))];

    private static List<EditorReport> Measure(EditorComparison comparison, List<EditorSpec> editors, List<int> counts,
        IReadOnlyList<EditRows> cases,
        MeasurementStore? store, CancellationToken cancellation)
    {
        foreach (var editor in editors.Where(editor => counts.Any(count => count > editor.MaxEdits)))
            Say.Line($"[yellow]{editor.Name} makes {editor.MaxEdits} edit at a time, and is left out of more.[/]");
        var reports = new List<EditorReport>();
        AnsiConsole.Progress().AutoClear(true).Start(progress =>
        {
            foreach (var (editor, bar) in editors.Select(editor =>
                (editor, progress.AddTask(Say.Cell(editor.Name),
                maxValue: Able(editor).Sum(count => cases.Count / Math.Max(1, count) * count)))).ToList())
                foreach (var count in Able(editor))
                {
                    EditorReport Make() => comparison.Measure(editor, count, cases,
                        new SynchronousProgress<CaseResult>(_ => bar.Increment(1)), cancellation);
                    reports.Add(store is null ? Make()
                        : store.GetOrMeasure($"{editor.Name} {count}", comparison.ProtocolOf(editor, count, cases), Make));
                    bar.Value = reports.Where(report => report.Editor == editor.Name).Sum(report => report.Cases.Count);
                }
        });
        return reports;

        IEnumerable<int> Able(EditorSpec editor) => counts.Where(count => count <= (editor.MaxEdits ?? count));
    }
}
