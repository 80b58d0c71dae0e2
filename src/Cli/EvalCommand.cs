using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Metrics;
using MendCluster.Engine.Recipes;
using MendCluster.Engine.Training;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend eval</c>: edit success and drawdown of MEND and of fine-tuning on a set of edits.</summary>
internal static class EvalCommand
{
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true };

    public static Command Create()
    {
        var demo = new Option<bool>("--demo") { Description = "the demo's model on its 300 held-out facts" };
        var model = new Option<DirectoryInfo?>("--model") { Description = "Hugging Face directory" };
        var editor = new Option<FileInfo?>("--editor") { Description = "editor file; without it editor.safetensors in the model's directory" };
        var data = new Option<FileSystemInfo?>("--data") { Description = "edits: zsRE export (.json), the paper's form (.jsonl) or questions with answers (.tsv); or, with --task, a folder of the task's files" };
        var task = new Option<EditTaskKind?>("--task") { Description = "what --data's folder is for: qa, fc or gen" };
        var limit = new Option<int?>("--limit") { Description = "only the first so many edits" };
        var rate = new Option<double>("--ft-lr") { Description = "learning rate of fine-tuning", DefaultValueFactory = _ => DemoRecipe.FineTune.EditLr };
        var output = new Option<FileInfo?>("--json") { Description = "also write every case to this file" };
        var command = new Command("eval", "Measure editors: edit success, drawdown, KL") { demo, model, editor, data, task, limit, rate, output };
        command.SetAction((parsed, cancellation) =>
        {
            var isDemo = parsed.GetValue(demo);
            if (!isDemo && (parsed.GetValue(model) is null || parsed.GetValue(data) is null))
                throw new InvalidDataException("mend eval needs --demo, or --model and --data");
            var directory = parsed.GetValue(model)?.FullName ?? DemoFiles.Shipped;
            using var comparison = new EditorComparison(directory, TimeProvider.System);
            var cases = isDemo ? comparison.Cases(DemoRecipe.HeldOutEdits())
                : parsed.GetValue(task) is { } kind ? comparison.Cases(text => TaskFolder.Open(parsed.GetValue(data)!.FullName, kind, text, DemoRecipe.Seed))
                : comparison.Cases(QuestionAnswering.ReadEdits(parsed.GetValue(data)!.FullName, DemoRecipe.Seed));
            cases = [.. cases.Take(parsed.GetValue(limit) ?? int.MaxValue)];
            var reports = Measure(comparison, parsed.GetValue(editor)?.FullName ?? DemoFiles.Editor(directory), cases,
                DemoRecipe.FineTune with { EditLr = parsed.GetValue(rate) }, cancellation);
            Show(reports, cases.Count);
            if (parsed.GetValue(output) is { } file)
                File.WriteAllText(file.FullName, JsonSerializer.Serialize(reports, Json));
            return Task.CompletedTask;
        });
        return command;
    }

    private static List<EditorReport> Measure(EditorComparison comparison, string editor, IReadOnlyList<EditRows> cases, FineTuneOptions fineTune, CancellationToken cancellation)
    {
        var reports = new List<EditorReport>();
        AnsiConsole.Progress().AutoClear(true).Start(progress =>
        {
            IProgress<CaseResult> Bar(string name)
            {
                var task = progress.AddTask(name, maxValue: cases.Count);
                return new Ticker(() => task.Increment(1));
            }
            var isMend = EditorComparison.AlgorithmOf(editor) == EditorAlgorithm.Mend;
            var (searched, paper, tuned) = (isMend ? Bar("the editor, as strong as needed") : null, Bar("the editor"), Bar("fine-tuning"));
            if (isMend)
                reports.Add(comparison.Editor(editor, new EditOptions().Confidence, cases, searched, cancellation));
            reports.Add(comparison.Editor(editor, confidence: null, cases, paper, cancellation));
            reports.Add(comparison.FineTune(fineTune, cases, tuned, cancellation));
        });
        return reports;
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
