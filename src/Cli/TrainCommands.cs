using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Editors;
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

/// <summary><c>mend train</c>: an editor for a model, MEND or MALMEN; goes on where it was stopped.</summary>
internal static class TrainCommand
{
    public static Command Create()
    {
        var model = new Option<DirectoryInfo?>("--model") { Description = "Hugging Face directory; needed without --cluster" };
        var data = new Option<FileInfo>("--data") { Description = "edits: .json, .jsonl or .tsv", Required = true };
        var output = new Option<DirectoryInfo>("--out") { Description = "run folder: configuration, metrics.jsonl, curves.svg, checkpoint, editor", Required = true };
        var config = new Option<FileInfo?>("--config") { Description = "settings as JSON, in the form of a run folder's config.json; options given here win over it" };
        var editable = new Option<string[]>("--editable") { Description = "weights to edit: a model of the paper such as gptj, names of weights, or patterns such as 'transformer.h.1?.mlp.*'; without it the family's choice", AllowMultipleArgumentsPerToken = true };
        var defaults = DemoRecipe.Editor;
        var algorithm = new Option<string>("--algorithm") { Description = "mend: one edit at a time; malmen: many at once", DefaultValueFactory = _ => "mend" };
        algorithm.AcceptOnlyFromAmong("mend", "malmen");
        var together = new Option<int>("--edits") { Description = "simultaneous edits of a malmen iteration", DefaultValueFactory = _ => DemoRecipe.Malmen.Edits };
        var rank = new Option<int>("--rank") { Description = "of the editor's blocks", DefaultValueFactory = _ => defaults.Mend.Rank };
        var lr = new Option<double>("--lr") { Description = "of the editor networks", DefaultValueFactory = _ => defaults.Lr };
        var lrLr = new Option<double>("--lr-lr") { Description = "of the edit learning rates", DefaultValueFactory = _ => defaults.LrLr };
        var editLr = new Option<double>("--edit-lr") { Description = "first edit learning rate", DefaultValueFactory = _ => defaults.Mend.EditLr };
        var cEdit = new Option<double>("--cedit") { Description = "weight of the edit loss beside the locality loss", DefaultValueFactory = _ => defaults.Loss.CEdit };
        var iterations = new Option<long>("--max-iters") { Description = "most iterations, of one edit or one batch of edits", DefaultValueFactory = _ => defaults.MaxIters };
        var patience = new Option<long>("--patience") { Description = "iterations without a better validation before it stops", DefaultValueFactory = _ => defaults.EarlyStopPatience };
        var seed = new Option<long>("--seed") { Description = "of the editor's weights and the order of the edits", DefaultValueFactory = _ => 1 };
        var replicas = new Option<int>("--replicas") { Description = "copies of the model, which share the edits of a step", DefaultValueFactory = _ => 1 };
        var stages = new Option<int>("--stages") { Description = "pipeline stages of each replica", DefaultValueFactory = _ => 1 };
        var wire = new Option<bool>("--bf16-wire") { Description = "gradients travel between replicas in 16 bits" };
        var folder = new Option<string?>("--cluster") { Description = "folder of a cluster that is up (mend cluster up): its model is trained there, with its replicas and stages" };
        var command = new Command("train", "Train an editor for a model; run it again to go on")
            { model, data, output, config, algorithm, together, editable, rank, lr, lrLr, editLr, cEdit, iterations, patience, seed, replicas, stages, wire, folder };
        command.SetAction(async (parsed, cancellation) =>
        {
            var given = parsed.GetValue(config) is { } settings
                ? RunFolder.ReadConfiguration<EditorTrainingOptions>(settings.FullName)
                : parsed.GetValue(algorithm) == "malmen" ? DemoRecipe.Malmen with { Seed = 1 }
                : defaults with { Mend = defaults.Mend with { Init = EditorInit.Identity }, ValSteps = 200, Seed = 1 };
            T Of<T>(Option<T> option, T otherwise) => parsed.GetResult(option) is { Implicit: false } ? parsed.GetRequiredValue(option) : otherwise;
            var options = given with
            {
                Mend = given.Mend with { Rank = Of(rank, given.Mend.Rank), EditLr = Of(editLr, given.Mend.EditLr) },
                Malmen = Of(algorithm, given.Malmen is null ? "mend" : "malmen") == "mend" ? null
                    : (given.Malmen ?? new()) is var malmen ? malmen with { Rank = Of(rank, malmen.Rank), EditLr = Of(editLr, malmen.EditLr) } : null,
                Edits = Of(together, given.Edits),
                Editable = Of(editable, [.. given.Editable]),
                Loss = given.Loss with { CEdit = Of(cEdit, given.Loss.CEdit) },
                Lr = Of(lr, given.Lr),
                LrLr = Of(lrLr, given.LrLr),
                MaxIters = Of(iterations, given.MaxIters),
                EarlyStopPatience = Of(patience, given.EarlyStopPatience),
                Seed = Of(seed, given.Seed),
            };
            var up = parsed.GetValue(folder) is { } path ? ClusterOptions.Open(path, parsed, model, replicas, stages) : null;
            var directory = up is not null ? up.Settings.ModelDirectory
                : (parsed.GetValue(model) ?? throw new MendException(MendError.InvalidOption, "No model was named.", "Give --model, or --cluster.")).FullName;
            var copies = up?.Settings.Replicas.Count ?? parsed.GetValue(replicas);
            var (file, run) = (parsed.GetRequiredValue(data).FullName, parsed.GetRequiredValue(output).FullName);
            TrainingResult? result = null;
            await AnsiConsole.Progress().Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn()).StartAsync(async progress =>
            {
                var task = progress.AddTask("editor", maxValue: options.MaxIters);
                var report = new Progress<TrainingProgress>(at =>
                {
                    task.Value = at.Iteration;
                    task.Description = string.Create(CultureInfo.InvariantCulture, $"editor: loss {at.Loss:0.000}, best validation {at.BestValidation:0.000}")
                        + (at.Replicas < copies ? $", {at.Replicas} of {copies} replicas" : "");
                });
                if (up is not null)
                {
                    await using var cluster = await ClusterConnection.ConnectAsync(up.Membership, up.Settings.Model, cancellation);
                    result = await ClusterConnection.Trainer(cluster, new(JsonSerializer.Serialize(options), file, run, parsed.GetValue(wire))).TrainAsync(report, cancellation);
                    return;
                }
                var edits = QuestionAnswering.ReadEdits(file, (ulong)options.Seed);
                if (copies == 1 && parsed.GetValue(stages) == 1)
                {
                    result = QuestionAnswering.TrainEditor(directory, edits, options, run, report, cancellation);
                    return;
                }
                await using var trainer = new EmbeddedTrainer(directory, copies, parsed.GetValue(stages),
                    EditorTrainerOptions.Of(directory, EditorData.Of(directory, edits, options), run) with { BFloat16OnWire = parsed.GetValue(wire) });
                result = await trainer.TrainAsync(report, cancellation);
            });
            AnsiConsole.MarkupLineInterpolated(CultureInfo.InvariantCulture,
                $"{result!.Stopped} after {result.Iterations} iterations; the best validation loss {result.BestLoss:0.000} was at {result.BestIteration}. The editor is {Path.Combine(run, DemoRecipe.EditorFile)}");
        });
        return command;
    }
}
