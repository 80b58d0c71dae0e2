using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Metrics;
using MendCluster.Engine.Models;
using MendCluster.Engine.Recipes;
using MendCluster.Engine.Tokenizers;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend eval</c>: edit success and drawdown of editors on a set of edits, one at a time or many at once.</summary>
internal static class EvalCommand
{
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true };

    public static Command Create()
    {
        var demo = new Option<bool>("--demo") { Description = "the demo's model on its 300 held-out facts" };
        var model = new Option<DirectoryInfo?>("--model") { Description = "Hugging Face directory" };
        var editor = new Option<FileInfo[]>("--editor") { Description = "editor file, with --edits also several; without it editor.safetensors in the model's directory", AllowMultipleArgumentsPerToken = true };
        var data = new Option<FileSystemInfo?>("--data") { Description = "edits: zsRE export (.json), the paper's form (.jsonl) or questions with answers (.tsv); or, with --task, a folder of the task's files" };
        var task = new Option<EditTaskKind?>("--task") { Description = "what --data's folder is for: qa, fc or gen" };
        var limit = new Option<int?>("--limit") { Description = "only the first so many edits" };
        var rate = new Option<double>("--ft-lr") { Description = "learning rate of fine-tuning", DefaultValueFactory = _ => DemoRecipe.FineTune.EditLr };
        var together = new Option<string?>("--edits") { Description = "make so many edits at once, such as 1,5,25,75,125; beside the editors given stand UltraEdit and breadth-first fine-tuning, which need no training" };
        var ultraRate = new Option<double>("--ultra-lr") { Description = "step size of UltraEdit", DefaultValueFactory = _ => DemoRecipe.UltraEdit.EditLr };
        var output = new Option<FileInfo?>("--json") { Description = "also write every case to this file" };
        var command = new Command("eval", "Measure editors: edit success, drawdown, KL") { demo, model, editor, data, task, limit, together, ultraRate, rate, output };
        command.SetAction((parsed, cancellation) =>
        {
            var isDemo = parsed.GetValue(demo);
            if (!isDemo && (parsed.GetValue(model) is null || parsed.GetValue(data) is null))
                throw new InvalidDataException("mend eval needs --demo, or --model and --data");
            var directory = parsed.GetValue(model)?.FullName ?? DemoFiles.Shipped;
            var text = new TextBatch(ModelFamily.FromDirectory(directory), TokenizerFiles.Load(directory));
            var all = isDemo ? DemoRecipe.HeldOutEdits(parsed.GetValue(together) is { } most ? Counts(most).Max() : 1).Select(text.Rows)
                : parsed.GetValue(task) is { } kind ? Validation(TaskFolder.Open(parsed.GetValue(data)!.FullName, kind, text, DemoRecipe.Seed))
                : QuestionAnswering.ReadEdits(parsed.GetValue(data)!.FullName, DemoRecipe.Seed).Select(text.Rows);
            List<EditRows> cases = [.. all.Take(parsed.GetValue(limit) ?? int.MaxValue)];
            List<string> editors = parsed.GetValue(editor) is { Length: > 0 } files ? [.. files.Select(file => file.FullName)] : [DemoFiles.Editor(directory)];
            if (parsed.GetValue(together) is { } counts)
            {
                var measured = MeasureTogether(directory, editors, DemoRecipe.UltraEdit with { EditLr = parsed.GetValue(ultraRate) }, Counts(counts), cases, cancellation);
                ShowTogether(measured);
                if (parsed.GetValue(output) is { } json)
                    File.WriteAllText(json.FullName, JsonSerializer.Serialize(measured, Json));
                return Task.CompletedTask;
            }
            if (editors.Count > 1)
                throw new InvalidDataException("mend eval measures several editors side by side with --edits only, such as --edits 1,25");
            var reports = Measure(directory, editors[0], cases,
                DemoRecipe.FineTune with { EditLr = parsed.GetValue(rate) }, cancellation);
            Show(reports, cases.Count);
            if (parsed.GetValue(output) is { } file)
                File.WriteAllText(file.FullName, JsonSerializer.Serialize(reports, Json));
            return Task.CompletedTask;
        });
        return command;
    }

    private static IEnumerable<EditRows> Validation(IEditTask task) => Enumerable.Range(0, task.ValidationCount).Select(task.Validation);

    private static List<EditorReport> Measure(string model, string editor, IReadOnlyList<EditRows> cases, FineTuneOptions fineTune, CancellationToken cancellation)
    {
        using var comparison = new EditorComparison(model, TimeProvider.System);
        var reports = new List<EditorReport>();
        AnsiConsole.Progress().AutoClear(true).Start(progress =>
        {
            IProgress<CaseResult> Bar(string name)
            {
                var task = progress.AddTask(name, maxValue: cases.Count);
                return new Ticker(() => task.Increment(1));
            }
            var isSearched = EditorComparison.AlgorithmOf(editor) is not (EditorAlgorithm.Ke or EditorAlgorithm.Enn);
            var (searched, paper, tuned) = (isSearched ? Bar("the editor, as strong as needed") : null, Bar("the editor"), Bar("fine-tuning"));
            if (isSearched)
                reports.Add(comparison.Editor(editor, new EditOptions().Confidence, cases, searched, cancellation));
            reports.Add(comparison.Editor(editor, confidence: null, cases, paper, cancellation));
            reports.Add(comparison.FineTune(fineTune, cases, tuned, cancellation));
        });
        return reports;
    }

    private static List<int> Counts(string list) => [.. list.Split(',').Select(part => int.TryParse(part, CultureInfo.InvariantCulture, out var count) ? count
        : throw new InvalidDataException($"--edits \"{list}\": '{part}' is no number; expected numbers with commas between them, such as 1,5,25"))];

    private static List<SimultaneousReport> MeasureTogether(string model, List<string> editors, UltraEditOptions ultraEdit, List<int> counts,
        IReadOnlyList<EditRows> cases, CancellationToken cancellation)
    {
        var recipe = new SimultaneousEdits(model, TimeProvider.System);
        var reports = new List<SimultaneousReport>();
        AnsiConsole.Progress().AutoClear(true).Start(progress =>
        {
            var measured = counts.Sum(count => cases.Count / Math.Max(1, count) * count);
            IProgress<CaseResult> Bar(string name)
            {
                var task = progress.AddTask(Markup.Escape(name), maxValue: measured);
                return new Ticker(() => task.Increment(1));
            }
            foreach (var (file, bar) in editors.Select(file => (file, Bar(Path.GetFileName(file)))).ToList())
                reports.AddRange(recipe.Trained(file, counts, cases, bar, cancellation));
            reports.AddRange(recipe.UltraEdit(ultraEdit, [], counts, cases, Bar("UltraEdit"), cancellation));
            reports.AddRange(recipe.BreadthFirst(DemoRecipe.BreadthFirst, counts, cases, Bar("FT, breadth-first"), cancellation));
        });
        return reports;
    }

    private static void ShowTogether(List<SimultaneousReport> reports)
    {
        var table = new Table().Border(TableBorder.Simple).Title("Edits made at once; 95% intervals over the edits")
            .AddColumns("editor", "edits at once", "edit success", "on paraphrases", "drawdown", "KL", "ms a batch");
        foreach (var report in reports)
            table.AddRow(report.Editor, $"{report.Edits} ({report.Batches} batches)", Text(report.Summary.EditSuccess), Text(report.Summary.RephraseSuccess), Text(report.Summary.Drawdown),
                Text(report.Summary.LocalityKl), report.PerBatch.TotalMilliseconds.ToString("0", CultureInfo.InvariantCulture));
        AnsiConsole.Write(table);
        AnsiConsole.MarkupLine("[grey]Teacher-forced exact match of all tokens. MEND's edits are summed, as in the paper. Drawdown without what the batch itself edits. Float32.[/]");
    }

    private static void Show(List<EditorReport> reports, int edits)
    {
        var table = new Table().Border(TableBorder.Simple).Title($"{edits} edits, each of the unedited model; 95% intervals over the edits")
            .AddColumns("editor", "edit success", "on paraphrases", "unrelated, before", "drawdown", "perplexity drawdown", "KL", "ms an edit");
        foreach (var report in reports)
        {
            var summary = report.Summary;
            table.AddRow(report.Editor, Text(summary.EditSuccess), Text(summary.RephraseSuccess), Text(summary.LocalityAccuracy), Text(summary.Drawdown), Text(summary.PerplexityDrawdown), Text(summary.LocalityKl),
                report.PerEdit.TotalMilliseconds.ToString("0.0", CultureInfo.InvariantCulture));
        }
        AnsiConsole.Write(table);
        AnsiConsole.MarkupLine("[grey]Teacher-forced exact match of all tokens; on paraphrases, what the paper calls edit success. Float32.[/]");
    }

    private static string Text(Estimate? estimate) => estimate is null ? "-"
        : string.Create(CultureInfo.InvariantCulture, $"{estimate.Value:0.0000} ({estimate.Low:0.000}-{estimate.High:0.000})");

    /// <summary>Unlike Progress, reports on the caller's thread and in order.</summary>
    private sealed class Ticker(Action tick) : IProgress<CaseResult>
    {
        public void Report(CaseResult value) => tick();
    }
}
