using System.CommandLine;
using System.Globalization;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using MendCluster.Experiments;

namespace MendCluster.Cli;

/// <summary><c>mend train</c>: an editor for a model; goes on where it was stopped.</summary>
internal static class TrainCommand
{
    public static Command Create()
    {
        var model = new Option<DirectoryInfo?>("--model") { Description = "Hugging Face directory; needed without --cluster" };
        var data = new Option<FileSystemInfo>("--data")
        {
            Description =
            $"edits: {DataForms.Edits}. Or, with --task, a folder of the task's files",
            Required = true
        };
        var task = new Option<EditTaskKind?>("--task") { Description = "what --data's folder is for: qa, fc or gen" };
        var algorithm = new Option<EditorAlgorithm>("--algorithm")
        {
            Description =
            "mend, enn or malmen: one edit at a time or, with --edits, many; ke (KnowledgeEditor): one",
            DefaultValueFactory = _ => EditorAlgorithm.Mend
        };
        var output = new Option<DirectoryInfo>("--out")
        {
            Description =
            "run folder: configuration, metrics.jsonl, curves.svg, checkpoint, editor",
            Required = true
        };
        var config = new Option<FileInfo?>("--config")
        {
            Description =
            "settings as JSON, in the form of a run folder's config.json; options given here win over it"
        };
        var editable = new Option<string[]>("--editable")
        {
            Description =
            "weights to edit: a model of the paper such as gptj, names of weights, or patterns such as 'transformer.h.1?.mlp.*'; without it the family's choice",
            AllowMultipleArgumentsPerToken = true
        };
        var defaults = DemoRecipe.Editor;
        var together = new Option<int>("--edits")
        {
            Description =
            FormattableString.Invariant($"simultaneous edits of an iteration; without it 1, of malmen {DemoRecipe.Malmen.Edits}")
        }.Within(1);
        var rounds = new Option<int>("--rounds")
        {
            Description = "of malmen: rounds of an edit, each on the model as the rounds before it edited it; without it 1, as in the paper"
        }.Within(1, 100);
        var preserve = new Option<FileInfo?>("--preserve")
        {
            Description = $"of malmen: questions that edits are to go round, which the model answers: {DataForms.Edits}"
        };
        var sequential = new Option<bool>("--sequential")
        {
            Description = "of malmen: edits of a cluster go round the keys of those before them too; training does not depend on it"
        };
        var rank = new Option<int>("--rank")
        {
            Description = "of the editor's blocks",
            DefaultValueFactory = _ => defaults.Mend.Rank
        }.Within(1, 65536);
        var lr = new Option<double>("--lr") { Description = "of the editor networks", DefaultValueFactory = _ => defaults.Lr }.MoreThan(0);
        var lrLr = new Option<double>("--lr-lr")
        {
            Description = "of the edit learning rates",
            DefaultValueFactory = _ => defaults.LrLr
        }.Within(0);
        var editLr = new Option<double>("--edit-lr")
        {
            Description = "first edit learning rate",
            DefaultValueFactory = _ => defaults.Mend.EditLr
        }.MoreThan(0);
        var cEdit = new Option<double>("--cedit")
        {
            Description = "weight of the edit loss beside the locality loss",
            DefaultValueFactory = _ => defaults.Loss.CEdit
        }.Within(0);
        var iterations = new Option<long>("--max-iters")
        {
            Description = "most iterations, of one edit or one batch of edits",
            DefaultValueFactory = _ => defaults.MaxIters
        }.Within(1);
        var patience = new Option<long>("--patience")
        {
            Description = "iterations without a better validation before it stops",
            DefaultValueFactory = _ => defaults.EarlyStopPatience
        }.Within(1);
        var seed = new Option<long>("--seed")
        {
            Description = "of the editor's weights and the order of the edits",
            DefaultValueFactory = _ => 1
        }.Within(0);
        var replicas = new Option<int>("--replicas")
        {
            Description = "copies of the model, which share the edits of a step",
            DefaultValueFactory = _ => 1
        }.Within(1);
        var stages = new Option<int>("--stages")
        {
            Description = "pipeline stages of each replica",
            DefaultValueFactory = _ => 1
        }.Within(1);
        var wire = new Option<bool>("--bf16-wire") { Description = "gradients travel between replicas in 16 bits" };
        var dryRun = new Option<bool>("--dry-run") { Description = "says what is wrong with the data and what the run would take, and trains nothing" };
        var device = DeviceOption.InTurn();
        var folder = new Option<string?>("--cluster")
        {
            Description =
            "folder of a cluster that is up (mend cluster up): its model is trained there, with its replicas and stages"
        };
        var command = new Command("train", "Train an editor for a model; run it again to go on")
            { model, data, task, output, config, algorithm, together, rounds, preserve, sequential, editable, rank, lr, lrLr, editLr, cEdit, iterations, patience, seed,
                replicas, stages, wire, dryRun, device, folder };
        command.SetCancellableAction(async (parsed, cancellation) =>
        {
            var given = parsed.GetValue(config) is { } settings
                ? RunFolder.ReadConfiguration<EditorTrainingOptions>(settings.FullName)
                : TaskTraining.Defaults(parsed.GetValue(task), parsed.GetValue(algorithm));
            T Of<T>(Option<T> option, T otherwise) => parsed.GetResult(option) is { Implicit: false } ? parsed.GetRequiredValue(option)
                : otherwise;
            var options = given with
            {
                Algorithm = Of(algorithm, given.Algorithm),
                Mend = given.Mend with { Rank = Of(rank, given.Mend.Rank), EditLr = Of(editLr, given.Mend.EditLr) },
                Enn = given.Enn with { EditLr = Of(editLr, given.Enn.EditLr) },
                Malmen = given.Malmen with
                {
                    Rank = Of(rank, given.Malmen.Rank),
                    EditLr = Of(editLr, given.Malmen.EditLr),
                    Rounds = Of(rounds, given.Malmen.Rounds),
                    Sequential = Of(sequential, given.Malmen.Sequential),
                },
                Edits = Of(together, given.Edits),
                Editable = Of(editable, [.. given.Editable]),
                Loss = given.Loss with { CEdit = Of(cEdit, given.Loss.CEdit) },
                Lr = Of(lr, given.Lr),
                LrLr = Of(lrLr, given.LrLr),
                MaxIters = Of(iterations, given.MaxIters),
                EarlyStopPatience = Of(patience, given.EarlyStopPatience),
                Seed = Of(seed, given.Seed),
            };
            options.Validated();
            if (options.Algorithm != EditorAlgorithm.Malmen
                && new Option[] { rounds, preserve, sequential }.FirstOrDefault(option => parsed.GetResult(option) is { Implicit: false }) is { } unused)
                throw new MendException(MendError.InvalidOption, $"{unused.Name} was given, and {options.Algorithm} takes none.",
                    "Leave it out, or train --algorithm malmen.");
            var up = parsed.GetValue(folder) is { } path ? ClusterOptions.Open(path, parsed, model, replicas, stages, device, task) : null;
            var directory = up is not null ? up.Settings.ModelDirectory
                : (parsed.GetValue(model)
                ?? throw new MendException(MendError.InvalidOption, "No model was named.", "Give --model, or --cluster.")).FullName;
            var copies = up?.Settings.Replicas.Count ?? parsed.GetValue(replicas);
            var (source, run, seedOfData) =
                (parsed.GetRequiredValue(data).FullName, parsed.GetRequiredValue(output).FullName, (ulong)options.Seed);
            var open = TaskOf(source, parsed.GetValue(task), options);
            if (parsed.GetValue(task) is null)
                SayWhatIsRead(source, directory, seedOfData);
            var preserved = parsed.GetValue(preserve) is { } questions
                ? QuestionAnswering.ReadQuestions([questions.FullName], withRewordings: false, seedOfData) : null;
            if (up is null)
                SayWhatItTakes(TrainingPlan.Read(directory, options, copies), options, new(run), parsed.GetRequiredValue(device));
            if (parsed.GetValue(dryRun))
                return;
            TrainingResult? result = null;
            double? drawn = null;
            await Bar.ShowAsync("editor", async bar =>
            {
                var report = new SynchronousProgress<TrainingProgress>(at =>
                {
                    if (up is null && at.BestValidation != drawn)
                        TrainingReports.DrawCurves(new(run));
                    drawn = at.BestValidation;
                    bar(at.Iteration, options.MaxIters,
                        string.Create(CultureInfo.InvariantCulture, $"loss {at.Loss:0.000}")
                        + (at.BestValidation is { } best ? string.Create(CultureInfo.InvariantCulture, $", best validation {best:0.000}")
                        : "")
                    + (at.Replicas < copies ? $", {at.Replicas} of {copies} replicas" : ""));
                });
                if (up is not null)
                {
                    await using var cluster = await OrleansCluster.ConnectAsync(up.Membership, up.Settings.Model, cancellation: cancellation);
                    result = await cluster.Trainer(new(options, source, run, parsed.GetValue(wire))).TrainAsync(report, cancellation);
                    return;
                }
                if (copies == 1 && parsed.GetValue(stages) == 1)
                {
                    result = LocalTraining.Run(directory, open, options, run, report, ShardDevices.Of(parsed.GetRequiredValue(device), 0),
                        preserved, cancellation);
                    return;
                }
                await using var trainer = new EmbeddedTrainer(directory, copies, parsed.GetValue(stages),
                    EditorTrainerOptions.Of(directory, EditorData.Of(directory, open, options),
                    run) with
                    { BFloat16OnWire = parsed.GetValue(wire) },
                    device: parsed.GetRequiredValue(device));
                result = await trainer.TrainAsync(report, cancellation);
            });
            TrainingReports.DrawCurves(new RunFolder(run));
            if (result!.Stopped == "cancelled")
            {
                Say.Line($"Stopped after {result.Iterations} iterations, with a checkpoint in {run}. The same command goes on from there.");
                cancellation.ThrowIfCancellationRequested();
            }
            if (result.BestLoss >= EarlyStopping.None)
                throw new MendException(MendError.NotFinite,
                    $"After {result.Iterations} iterations no validation had given a number, so there is no editor to keep in {run}.",
                    "Lower --lr and --edit-lr, and train in a new folder.");
            Say.Line($"{result.Stopped} after {result.Iterations} iterations; the best validation loss {result.BestLoss:0.000} was at {result.BestIteration}. The editor is {Path.Combine(run, EditorCheckpoint.FileName)}");
        });
        return command;
    }

    /// <summary>What a training reads.</summary>
    /// <param name="source">A file of edits, or with a kind a folder of the task's files.</param>
    public static Func<TextBatch, IEditTask> TaskOf(string source, EditTaskKind? kind, EditorTrainingOptions options)
    {
        var seed = (ulong)options.Seed;
        return text => kind is { } task ? TaskFolder.Open(source, task, text, seed, new(options.UnrelatedRows))
            : QuestionAnswering.Task(text, QuestionAnswering.ReadEdits(source, seed), seed);
    }

    /// <summary>Before the first step; fails where memory or disk does not suffice.</summary>
    private static void SayWhatItTakes(TrainingPlan plan, EditorTrainingOptions options, RunFolder run, string devices)
    {
        long? memory = devices == "cpu" ? Machine.Memory() : null;
        var disk = Machine.DiskOf(run.Directory)
            + new[] { run.Checkpoint, run.BestEditor }.Where(File.Exists).Sum(file => new FileInfo(file).Length);
        var parts = $"model {Size(plan.WeightBytes)}, what is trained with its gradients and Adam's moments {Size(plan.EditorBytes)}";
        Say.Line($"training {plan.Parameters:N0} parameters, {options.MaxIters:N0} iterations at most: memory {Size(plan.HeldBytes)} ({parts}){Of(memory)}; disk up to {Size(plan.DiskBytes)}{Of(disk)}");
        if (plan is { ActivationBytes: { } activations, Operations: { } operations })
            Say.Line($"a step on rows of {plan.Tokens} tokens, the most that are read of a question with its answer: up to {Size(activations)} more, an iteration {operations / 1e9:0.###} billion operations");
        plan.RequireFit(memory, disk);

        static string Size(long bytes) => TrainingPlan.Size(bytes);
        static string Of(long? there) => there is { } bytes ? $" of {Size(bytes)}" : ", and how much there is is not known";
    }

    /// <summary>What is wrong with the data, and what is made of it.</summary>
    private static void SayWhatIsRead(string data, string model, ulong seed)
    {
        var findings = DataCheck.Of(data, new TextBatch(ModelFamily.FromDirectory(model), TokenizerFiles.Load(model)));
        if (findings.Count > 0)
            Say.Line($"{data}: {DataCheck.Summary(findings)}; the first: {findings[0].Place}: {findings[0].Said}. All: mend data check --data {data} --model {model}");
        if (QuestionAnswering.IsReworded(data))
            Say.Line($"{QuestionAnswering.RewordingsOf([data], seed)}");
    }
}
