using System.CommandLine;
using System.Globalization;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Files;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Experiments;

namespace MendCluster.Cli;

/// <summary><c>mend tune-layers</c>: which weights of a model an editor had best edit.</summary>
internal static class TuneLayersCommand
{
    public static Command Create()
    {
        var model = new Option<DirectoryInfo>("--model") { Description = "Hugging Face directory", Required = true };
        var data = new Option<FileSystemInfo>("--data")
        {
            Description = $"edits: {DataForms.Edits}. Or, with --task, a folder of the task's files",
            Required = true
        };
        var task = new Option<EditTaskKind?>("--task") { Description = "what --data's folder is for: qa or fc" };
        var output = new Option<DirectoryInfo>("--out")
        {
            Description =
            "folder: a run folder for every candidate, and results.md; run it again to go on where it stopped",
            Required = true
        };
        var iterations = new Option<long>("--max-iters")
        {
            Description = "of each candidate's training",
            DefaultValueFactory = _ => 1000
        }.Within(1);
        var most = new Option<double>("--max-drawdown")
        {
            Description = "at which the candidates are compared: exact match lost on unrelated questions",
            DefaultValueFactory = _ => 0.02
        }.Within(0, 1);
        var count = new Option<int>("--cases")
        {
            Description = "most edits that a candidate is measured on",
            DefaultValueFactory = _ => 100
        }.Within(1);
        var more = new Option<string[]>("--editable")
        {
            Description = "one candidate more: a model of the paper, names of weights, or patterns such as 'transformer.h.1?.mlp.*'",
            AllowMultipleArgumentsPerToken = true
        };
        var seed = new Option<long>("--seed")
        {
            Description = "of the editors' weights and the order of the edits",
            DefaultValueFactory = _ => 1
        }.Within(0);
        var device = DeviceOption.One();
        var command = new Command("tune-layers", "Find the weights to edit: a short training for each candidate, compared at one drawdown")
            { model, data, task, output, iterations, most, count, more, seed, device };
        command.SetCancellableAction(async (parsed, cancellation) =>
        {
            var (directory, source, folder) = (parsed.GetRequiredValue(model).FullName, parsed.GetRequiredValue(data).FullName,
                parsed.GetRequiredValue(output).FullName);
            if (parsed.GetValue(task) is EditTaskKind.Gen)
                throw new MendException(MendError.InvalidOption, "--task gen has no exact match to lose.", "Tune on questions or claims.");
            var family = ModelFamily.FromDirectory(directory);
            List<LayerCandidate> candidates = [.. LayerChoice.Candidates(family)];
            if (parsed.GetValue(more) is { Length: > 0 } patterns)
                candidates.Add(new("given", EditableWeights.Select(family, patterns)));
            var options = TaskTraining.Defaults(parsed.GetValue(task), EditorAlgorithm.Mend) with
            {
                MaxIters = parsed.GetValue(iterations),
                Seed = parsed.GetValue(seed),
            };
            var open = TrainCommand.TaskOf(source, parsed.GetValue(task), options);
            var edits = open(new TextBatch(family, TokenizerFiles.Load(directory)));
            List<EditRows> rows = [.. Enumerable.Range(0, Math.Min(parsed.GetValue(count), edits.ValidationCount)).Select(edits.Validation)];
            using var own = OwnFolder.Take(folder, "mend tune-layers");
            using var comparison = new EditorComparison(directory, TimeProvider.System, parsed.GetValue(task) ?? EditTaskKind.Qa, (ulong)options.Seed,
                parsed.GetRequiredValue(device));
            SynchronousProgress<TrainingProgress>? progress = null;
            var choice = new LayerChoice((weights, run) => LocalTraining.Run(directory, open, options with { Editable = weights }, run, progress,
                parsed.GetRequiredValue(device), cancellation: cancellation), comparison, rows, parsed.GetValue(most));
            var reports = new List<LayerReport>();
            foreach (var candidate in candidates)
                await Bar.ShowAsync(candidate.Name, bar =>
                {
                    progress = new(at => bar(at.Iteration, options.MaxIters,
                        string.Create(CultureInfo.InvariantCulture, $"loss {at.Loss:0.000}")));
                    reports.Add(choice.Measure(candidate, folder, cancellation));
                    return Task.CompletedTask;
                });
            var table = choice.Table(reports);
            Tables.Show(table);
            AtomicFile.Write(Path.Combine(folder, "results.md"), table.ToMarkdown());
            if (LayerChoice.Best(reports) is { } best)
                Say.Line($"Best: {best.Candidate.Name}. Next: mend train --model {directory} {(parsed.GetValue(task) is { } of ? $"--task {of.ToString().ToLowerInvariant()} " : "")}--data {source} --out RUN --editable {string.Join(' ', best.Candidate.Weights)}");
            else
                Say.Line($"No candidate's drawdown is within --max-drawdown: train for longer (--max-iters), or allow more.");
        });
        return command;
    }
}
