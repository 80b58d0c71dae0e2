using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Recipes;
using MendCluster.Engine.Training;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend pretrain</c>: a small model that knows what some files say.</summary>
internal static class PretrainCommand
{
    public static Command Create()
    {
        var data = new Option<FileSystemInfo[]>("--data") { Description = "questions and answers: .tsv, or the locality questions and true answers of .json and .jsonl; or, with --task, a folder of the task's files", Required = true, AllowMultipleArgumentsPerToken = true };
        var task = new Option<EditTaskKind?>("--task") { Description = "what --data's folder is for: qa makes a T5, fc a BERT, gen a GPT-2" };
        var output = new Option<DirectoryInfo>("--out") { Description = "directory of the model", Required = true };
        var steps = new Option<long?>("--steps") { Description = "most training steps" };
        var lr = new Option<double?>("--lr") { Description = "peak learning rate" };
        var width = new Option<int?>("--d-model") { Description = "hidden size, a multiple of 32" };
        var inner = new Option<int?>("--d-ff") { Description = "inner size of the feed-forward parts (not of a GPT-2, where it is four times the hidden size)" };
        var vocabulary = new Option<int?>("--vocab") { Description = "tokens" };
        var goal = new Option<double?>("--goal") { Description = "stop when this fraction is answered exactly; without it at 0.99, with fc not before the last step" };
        var rewordings = new Option<bool>("--rewordings") { Description = "without --task: teach every question in a second wording too, by rule" };
        var seed = new Option<ulong>("--seed") { DefaultValueFactory = _ => 1, Description = "of weights and order" };
        var command = new Command("pretrain", "Train a small model from scratch until it knows what some files say")
            { data, task, output, steps, lr, width, inner, vocabulary, goal, rewordings, seed };
        command.SetLongAction((parsed, cancellation) =>
        {
            string[] sources = [.. parsed.GetRequiredValue(data).Select(file => file.FullName)];
            var (kind, directory) = (parsed.GetValue(task), parsed.GetRequiredValue(output).FullName);
            if (kind is not null && sources.Length != 1)
                throw new InvalidDataException($"--task reads one folder, and --data names {sources.Length} files");
            T Given<T>(T options) where T : SmallModelOptions => options with
            {
                Vocabulary = parsed.GetValue(vocabulary) ?? options.Vocabulary,
                Goal = parsed.GetValue(goal) ?? options.Goal,
                Seed = parsed.GetValue(seed),
                Training = options.Training with { Steps = parsed.GetValue(steps) ?? options.Training.Steps, Lr = parsed.GetValue(lr) ?? options.Training.Lr },
            };
            int Heads(int size) => Math.Max(1, size / 32);
            var (size, widest) = (parsed.GetValue(width), parsed.GetValue(inner));
            switch (kind)
            {
                case EditTaskKind.Gen:
                    var (texts, heldOut) = (TaskFolder.Texts(sources[0], training: true), TaskFolder.Texts(sources[0], training: false));
                    var gpt = Given(TaskTraining.GenModel);
                    gpt = gpt with { NEmbd = size ?? gpt.NEmbd, NHead = Heads(size ?? gpt.NEmbd) };
                    var perplexity = Run($"{texts.Count} texts", report => SmallGpt.Train(directory, texts, heldOut, gpt, report, cancellation));
                    AnsiConsole.MarkupLineInterpolated(CultureInfo.InvariantCulture, $"The model's perplexity on {heldOut.Count} other texts is {perplexity:0.00}: {directory}");
                    break;
                case EditTaskKind.Fc:
                    var claims = TaskTraining.ReadClaims(sources[0]);
                    var bert = Given(TaskTraining.FcModel);
                    bert = bert with { HiddenSize = size ?? bert.HiddenSize, NumAttentionHeads = Heads(size ?? bert.HiddenSize), IntermediateSize = widest ?? bert.IntermediateSize };
                    var right = Run($"{claims.Count} claims", report => SmallBert.Train(directory, claims, bert, report, cancellation));
                    AnsiConsole.MarkupLineInterpolated(CultureInfo.InvariantCulture, $"The model labels {right:P1} of {claims.Count} claims rightly: {directory}");
                    break;
                default:
                    var pairs = kind is null ? QuestionAnswering.ReadQuestions(sources, parsed.GetValue(rewordings), parsed.GetValue(seed)) : TaskTraining.ReadQuestions(sources[0]);
                    var t5 = Given(kind is null ? RealQuestions : TaskTraining.QaModel);
                    t5 = t5 with { DModel = size ?? t5.DModel, NumHeads = Heads(size ?? t5.DModel), DFf = widest ?? t5.DFf };
                    var known = Run($"{pairs.Count} questions", report => SmallT5.Train(directory, pairs, t5, report, cancellation));
                    AnsiConsole.MarkupLineInterpolated(CultureInfo.InvariantCulture, $"The model answers {known:P1} of {pairs.Count} questions exactly: {directory}");
                    break;
            }
            return Task.CompletedTask;
        });
        return command;
    }

    private static SmallT5Options RealQuestions { get; } = new() { Vocabulary = 4096, DModel = 160, DFf = 640, Training = new() { Steps = 5000, Lr = 2e-3 }, Goal = 0.99 };

    private static double Run(string what, Func<Action<PretrainingProgress>, double> train)
    {
        var score = 0.0;
        AnsiConsole.Progress().Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn()).Start(progress =>
        {
            var task = progress.AddTask(what);
            score = train(at =>
            {
                (task.MaxValue, task.Value) = (at.Steps, at.Step);
                task.Description = string.Create(CultureInfo.InvariantCulture, $"{what}: loss {at.Loss:0.000}, knows {at.ExactMatch:P1}");
            });
        });
        return score;
    }
}

/// <summary><c>mend train</c>: an editor for a model; goes on where it was stopped.</summary>
internal static class TrainCommand
{
    public static Command Create()
    {
        var model = new Option<DirectoryInfo?>("--model") { Description = "Hugging Face directory; needed without --cluster" };
        var data = new Option<FileSystemInfo>("--data") { Description = "edits: .json, .jsonl or .tsv; or, with --task, a folder of the task's files", Required = true };
        var task = new Option<EditTaskKind?>("--task") { Description = "what --data's folder is for: qa, fc or gen" };
        var algorithm = new Option<EditorAlgorithm>("--algorithm") { Description = "mend, enn or malmen: one edit at a time or, with --edits, many; ke (KnowledgeEditor): one", DefaultValueFactory = _ => EditorAlgorithm.Mend };
        var output = new Option<DirectoryInfo>("--out") { Description = "run folder: configuration, metrics.jsonl, curves.svg, checkpoint, editor", Required = true };
        var config = new Option<FileInfo?>("--config") { Description = "settings as JSON, in the form of a run folder's config.json; options given here win over it" };
        var editable = new Option<string[]>("--editable") { Description = "weights to edit: a model of the paper such as gptj, names of weights, or patterns such as 'transformer.h.1?.mlp.*'; without it the family's choice", AllowMultipleArgumentsPerToken = true };
        var defaults = DemoRecipe.Editor;
        var together = new Option<int>("--edits") { Description = FormattableString.Invariant($"simultaneous edits of an iteration; without it 1, of malmen {DemoRecipe.Malmen.Edits}") };
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
        var device = DeviceOption.InTurn();
        var folder = new Option<string?>("--cluster") { Description = "folder of a cluster that is up (mend cluster up): its model is trained there, with its replicas and stages" };
        var command = new Command("train", "Train an editor for a model; run it again to go on")
            { model, data, task, output, config, algorithm, together, editable, rank, lr, lrLr, editLr, cEdit, iterations, patience, seed, replicas, stages, wire, device, folder };
        command.SetLongAction(async (parsed, cancellation) =>
        {
            var given = parsed.GetValue(config) is { } settings
                ? RunFolder.ReadConfiguration<EditorTrainingOptions>(settings.FullName)
                : TaskTraining.Defaults(parsed.GetValue(task), parsed.GetValue(algorithm));
            T Of<T>(Option<T> option, T otherwise) => parsed.GetResult(option) is { Implicit: false } ? parsed.GetRequiredValue(option) : otherwise;
            var options = given with
            {
                Algorithm = Of(algorithm, given.Algorithm),
                Mend = given.Mend with { Rank = Of(rank, given.Mend.Rank), EditLr = Of(editLr, given.Mend.EditLr) },
                Enn = given.Enn with { EditLr = Of(editLr, given.Enn.EditLr) },
                Malmen = given.Malmen with { Rank = Of(rank, given.Malmen.Rank), EditLr = Of(editLr, given.Malmen.EditLr) },
                Edits = Of(together, given.Edits),
                Editable = Of(editable, [.. given.Editable]),
                Loss = given.Loss with { CEdit = Of(cEdit, given.Loss.CEdit) },
                Lr = Of(lr, given.Lr),
                LrLr = Of(lrLr, given.LrLr),
                MaxIters = Of(iterations, given.MaxIters),
                EarlyStopPatience = Of(patience, given.EarlyStopPatience),
                Seed = Of(seed, given.Seed),
            };
            // A run that is shorter than the interval is validated at its end: without a validation there is no editor to keep.
            options = options with { ValInterval = Math.Min(options.ValInterval, Math.Max(1, options.MaxIters / options.AccumulateBs) * options.AccumulateBs) };
            var up = parsed.GetValue(folder) is { } path ? ClusterOptions.Open(path, parsed, model, replicas, stages, device, task) : null;
            var directory = up is not null ? up.Settings.ModelDirectory
                : (parsed.GetValue(model) ?? throw new MendException(MendError.InvalidOption, "No model was named.", "Give --model, or --cluster.")).FullName;
            var copies = up?.Settings.Replicas.Count ?? parsed.GetValue(replicas);
            var (source, run, seedOfData) = (parsed.GetRequiredValue(data).FullName, parsed.GetRequiredValue(output).FullName, (ulong)options.Seed);
            Func<TextBatch, IEditTask> open = parsed.GetValue(task) is { } kind
                ? text => TaskFolder.Open(source, kind, text, seedOfData, new(options.UnrelatedRows))
                : text => QuestionAnswering.Task(text, QuestionAnswering.ReadEdits(source, seedOfData), seedOfData);
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
                    result = await ClusterConnection.Trainer(cluster, new(JsonSerializer.Serialize(options), source, run, parsed.GetValue(wire))).TrainAsync(report, cancellation);
                    return;
                }
                if (copies == 1 && parsed.GetValue(stages) == 1)
                {
                    result = TaskTraining.TrainEditor(directory, open, options, run, report, ShardDevices.Of(parsed.GetRequiredValue(device), 0), cancellation);
                    return;
                }
                await using var trainer = new EmbeddedTrainer(directory, copies, parsed.GetValue(stages),
                    EditorTrainerOptions.Of(directory, EditorData.Of(directory, open, options), run) with { BFloat16OnWire = parsed.GetValue(wire) },
                    device: parsed.GetRequiredValue(device));
                result = await trainer.TrainAsync(report, cancellation);
            });
            AnsiConsole.MarkupLineInterpolated(CultureInfo.InvariantCulture,
                $"{result!.Stopped} after {result.Iterations} iterations; the best validation loss {result.BestLoss:0.000} was at {result.BestIteration}. The editor is {Path.Combine(run, DemoRecipe.EditorFile)}");
        });
        return command;
    }
}
