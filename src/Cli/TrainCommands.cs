using System.CommandLine;
using System.Globalization;
using MendCluster.Engine.Data;
using MendCluster.Engine.Recipes;
using MendCluster.Engine.Training;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend pretrain</c>: a small T5 that knows the answers to the questions of some files.</summary>
internal static class PretrainCommand
{
    public static Command Create()
    {
        var data = new Option<FileInfo[]>("--data") { Description = "questions and answers: .tsv, or the locality questions and true answers of .json and .jsonl", Required = true, AllowMultipleArgumentsPerToken = true };
        var output = new Option<DirectoryInfo>("--out") { Description = "directory of the model", Required = true };
        var defaults = new SmallT5Options { Vocabulary = 4096, DModel = 160, DFf = 640, NumHeads = 5 };
        var steps = new Option<long>("--steps") { Description = "most training steps", DefaultValueFactory = _ => 5000 };
        var lr = new Option<double>("--lr") { Description = "peak learning rate", DefaultValueFactory = _ => 2e-3 };
        var width = new Option<int>("--d-model") { Description = "hidden size, a multiple of 32", DefaultValueFactory = _ => defaults.DModel };
        var inner = new Option<int>("--d-ff") { Description = "inner size of the feed-forward parts", DefaultValueFactory = _ => defaults.DFf };
        var vocabulary = new Option<int>("--vocab") { Description = "tokens", DefaultValueFactory = _ => defaults.Vocabulary };
        var goal = new Option<double>("--goal") { Description = "stop when this fraction is answered exactly", DefaultValueFactory = _ => 0.99 };
        var rewordings = new Option<bool>("--rewordings") { Description = "teach every question in a second wording too, by rule" };
        var seed = new Option<ulong>("--seed") { DefaultValueFactory = _ => 1, Description = "of weights and order" };
        var command = new Command("pretrain", "Train a small T5 from scratch until it answers given questions")
            { data, output, steps, lr, width, inner, vocabulary, goal, rewordings, seed };
        command.SetAction((parsed, cancellation) =>
        {
            var pairs = QuestionAnswering.ReadQuestions(parsed.GetRequiredValue(data).Select(file => file.FullName), parsed.GetValue(rewordings), parsed.GetValue(seed));
            var options = defaults with
            {
                DModel = parsed.GetValue(width),
                DFf = parsed.GetValue(inner),
                NumHeads = Math.Max(1, parsed.GetValue(width) / defaults.DKv),
                Vocabulary = parsed.GetValue(vocabulary),
                Goal = parsed.GetValue(goal),
                Seed = parsed.GetValue(seed),
                Training = new() { Steps = parsed.GetValue(steps), Lr = parsed.GetValue(lr) },
            };
            var known = 0.0;
            AnsiConsole.Progress().Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn()).Start(progress =>
            {
                var task = progress.AddTask($"{pairs.Count} questions", maxValue: options.Training.Steps);
                known = SmallT5.Train(parsed.GetRequiredValue(output).FullName, pairs, options, at =>
                {
                    task.Value = at.Step;
                    task.Description = string.Create(CultureInfo.InvariantCulture, $"{pairs.Count} questions: loss {at.Loss:0.000}, knows {at.ExactMatch:P1}");
                }, cancellation);
            });
            AnsiConsole.MarkupLineInterpolated(CultureInfo.InvariantCulture, $"The model answers {known:P1} of {pairs.Count} questions exactly: {parsed.GetRequiredValue(output).FullName}");
            return Task.CompletedTask;
        });
        return command;
    }
}

/// <summary><c>mend train</c>: an editor for a model; goes on where it was stopped.</summary>
internal static class TrainCommand
{
    public static Command Create()
    {
        var model = new Option<DirectoryInfo>("--model") { Description = "Hugging Face directory", Required = true };
        var data = new Option<FileSystemInfo>("--data") { Description = "edits: .json, .jsonl or .tsv; or, with --task, a folder of the task's files", Required = true };
        var task = new Option<EditTaskKind?>("--task") { Description = "what --data's folder is for: qa, fc or gen" };
        var algorithm = new Option<EditorAlgorithm>("--algorithm") { Description = "mend, ke (KnowledgeEditor) or enn", DefaultValueFactory = _ => EditorAlgorithm.Mend };
        var output = new Option<DirectoryInfo>("--out") { Description = "run folder: configuration, metrics.jsonl, curves.svg, checkpoint, editor", Required = true };
        var config = new Option<FileInfo?>("--config") { Description = "settings as JSON, in the form of a run folder's config.json; options given here win over it" };
        var editable = new Option<string[]>("--editable") { Description = "weights to edit: a model of the paper such as gptj, names of weights, or patterns such as 'transformer.h.1?.mlp.*'; without it the family's choice", AllowMultipleArgumentsPerToken = true };
        var defaults = DemoRecipe.Editor;
        var rank = new Option<int>("--rank") { Description = "of the editor's blocks", DefaultValueFactory = _ => defaults.Mend.Rank };
        var lr = new Option<double>("--lr") { Description = "of the editor networks", DefaultValueFactory = _ => defaults.Lr };
        var lrLr = new Option<double>("--lr-lr") { Description = "of the edit learning rates", DefaultValueFactory = _ => defaults.LrLr };
        var editLr = new Option<double>("--edit-lr") { Description = "first edit learning rate", DefaultValueFactory = _ => defaults.Mend.EditLr };
        var cEdit = new Option<double>("--cedit") { Description = "weight of the edit loss beside the locality loss", DefaultValueFactory = _ => defaults.Loss.CEdit };
        var iterations = new Option<long>("--max-iters") { Description = "most iterations, one edit each", DefaultValueFactory = _ => defaults.MaxIters };
        var patience = new Option<long>("--patience") { Description = "iterations without a better validation before it stops", DefaultValueFactory = _ => defaults.EarlyStopPatience };
        var seed = new Option<long>("--seed") { Description = "of the editor's weights and the order of the edits", DefaultValueFactory = _ => 1 };
        var command = new Command("train", "Train an editor for a model; run it again to go on") { model, data, task, algorithm, output, config, editable, rank, lr, lrLr, editLr, cEdit, iterations, patience, seed };
        command.SetAction((parsed, cancellation) =>
        {
            var given = parsed.GetValue(config) is { } file
                ? RunFolder.ReadConfiguration<EditorTrainingOptions>(file.FullName)
                : TaskTraining.Defaults(parsed.GetValue(algorithm));
            T Of<T>(Option<T> option, T otherwise) => parsed.GetResult(option) is { Implicit: false } ? parsed.GetRequiredValue(option) : otherwise;
            var options = given with
            {
                Algorithm = Of(algorithm, given.Algorithm),
                Mend = given.Mend with { Rank = Of(rank, given.Mend.Rank), EditLr = Of(editLr, given.Mend.EditLr) },
                Enn = given.Enn with { EditLr = Of(editLr, given.Enn.EditLr) },
                Editable = Of(editable, [.. given.Editable]),
                Loss = given.Loss with { CEdit = Of(cEdit, given.Loss.CEdit) },
                Lr = Of(lr, given.Lr),
                LrLr = Of(lrLr, given.LrLr),
                MaxIters = Of(iterations, given.MaxIters),
                EarlyStopPatience = Of(patience, given.EarlyStopPatience),
                Seed = Of(seed, given.Seed),
            };
            var (source, seedOfData) = (parsed.GetRequiredValue(data).FullName, (ulong)options.Seed);
            Func<TextBatch, IEditTask> open = parsed.GetValue(task) is { } kind
                ? text => TaskFolder.Open(source, kind, text, seedOfData)
                : text => QuestionAnswering.Task(text, QuestionAnswering.ReadEdits(source, seedOfData), seedOfData);
            EditorTrainingResult? result = null;
            AnsiConsole.Progress().Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn()).Start(progress =>
            {
                var task = progress.AddTask("editor", maxValue: options.MaxIters);
                result = TaskTraining.TrainEditor(parsed.GetRequiredValue(model).FullName, open, options, parsed.GetRequiredValue(output).FullName,
                    new Progress<EditorTrainingProgress>(at =>
                    {
                        task.Value = at.Iteration;
                        task.Description = string.Create(CultureInfo.InvariantCulture, $"editor: loss {at.Loss:0.000}, best validation {at.BestValidation:0.000}");
                    }), cancellation);
            });
            AnsiConsole.MarkupLineInterpolated(CultureInfo.InvariantCulture,
                $"{result!.Stopped} after {result.Iterations} iterations; the best validation loss {result.BestLoss:0.000} was at {result.BestIteration}. The editor is {Path.Combine(parsed.GetRequiredValue(output).FullName, DemoRecipe.EditorFile)}");
            return Task.CompletedTask;
        });
        return command;
    }
}
