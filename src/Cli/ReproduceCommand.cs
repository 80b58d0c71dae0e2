using System.CommandLine;
using System.Globalization;
using MendCluster.Contracts;
using MendCluster.Engine.Files;
using MendCluster.Experiments;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary><c>mend reproduce</c>: the paper's comparison on small models trained from scratch; goes on where it was stopped.</summary>
internal static class ReproduceCommand
{
    public static Command Create()
    {
        var output = new Option<DirectoryInfo>("--out")
        {
            Description = "folder of everything that is made; the same folder goes on",
            Required = true
        };
        var reduced = new Option<bool>("--reduced")
        {
            Description =
            "the same steps in minutes: shows that everything runs, and nothing else"
        };
        var only = new Option<string?>("--only") { Description = "parts with commas between them: qa, fc, gen, facts; without it all" };
        var resultsOnly = new Option<bool>("--results-only") { Description = "make nothing: write the results of the steps that are done" };
        var docs = new Option<FileInfo?>("--docs") { Description = "write the results to this file too, with pictures beside it" };
        var command = new Command("reproduce",
            "Make the paper's comparison: data, models, editors, measurements and tables; run it again to go on") { output, reduced, only,
            resultsOnly, docs };
        command.SetCancellableAction((parsed, cancellation) =>
        {
            var folder = parsed.GetRequiredValue(output).FullName;
            var plan = ReproductionPlan.Of(parsed.GetValue(reduced), Parts(parsed.GetValue(only)));
            if (parsed.GetValue(docs)?.FullName is { } page)
                CheckPage(page);
            using var own = OwnFolder.Take(folder, "mend reproduce");
            var reproduction = new Reproduction(folder, plan, TimeProvider.System);
            try
            {
                if (!parsed.GetValue(resultsOnly))
                    Say.Line($"{Run(reproduction, cancellation)} of {plan.Steps.Count} steps had something to do.");
                else if (!plan.Steps.Any(reproduction.IsDone))
                    throw new MendException(MendError.InvalidOption, $"{folder} has no step of this reproduction that is done.",
                        "Name the folder of one that was begun, with the same --reduced and --only, or leave --results-only out.");
                var command = $"mend reproduce --out DIR{(plan.IsReduced ? " --reduced" : "")}{(parsed.GetValue(only) is { } some ? $" --only {some}" : "")}";
                foreach (var file in new[] { Path.Combine(folder, "results.md"), parsed.GetValue(docs)?.FullName }.OfType<string>())
                {
                    ReproductionResults.Write(reproduction, file, command);
                    Say.Line($"The results: {file}");
                }
            }
            catch (OperationCanceledException)
            {
                Say.Line($"Stopped with {plan.Steps.Count(reproduction.IsDone)} of {plan.Steps.Count} steps done. The same command goes on from here, with about {Text(reproduction.Left)} left.");
                throw;
            }
            return Task.CompletedTask;
        });
        return command;
    }

    /// <summary>Looks whether the page can be written, before hours go by.</summary>
    private static void CheckPage(string page)
    {
        if (File.Exists(page) && !File.ReadAllText(page).Contains("Made by `mend reproduce", StringComparison.Ordinal))
            throw new MendException(MendError.OutputTaken, $"{page} is there, and mend reproduce did not make it.",
                "Name another file for --docs, or move this one away.");
        Directory.CreateDirectory(Path.GetDirectoryName(page)!);
        using var trial = new FileStream(page + ".partial", FileMode.OpenOrCreate, FileAccess.Write, FileShare.None, bufferSize: 0,
            FileOptions.DeleteOnClose);
    }

    /// <summary>A line a step, and under it a bar that is gone when the step is done.</summary>
    private static int Run(Reproduction reproduction, CancellationToken cancellation)
    {
        var (steps, start) = (reproduction.Plan.Steps.Count, TimeProvider.System.GetTimestamp());
        return AnsiConsole.Progress().AutoClear(true).Start(progress =>
        {
            var bar = progress.AddTask("beginning", maxValue: 1);
            return reproduction.Run(at =>
            {
                if (bar.Description != at.Step.Name)
                {
                    var elapsed = TimeProvider.System.GetElapsedTime(start);
                    Say.Line($"{at.Number} of {steps}: {at.Step.Name}, about {Text(TimeSpan.FromMinutes(at.Step.Minutes))} ({Text(elapsed)} of about {Text(elapsed + reproduction.Left)})");
                    bar.Description = at.Step.Name;
                }
                bar.Value = Math.Min(at.Done, 0.999); // a bar that is full ends, and this one is the next step's too
            }, cancellation);
        });
    }

    private static ReproductionPart[] Parts(string? only) =>
        [.. (only ?? "").Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
        .Select(name => Enum.TryParse<ReproductionPart>(name, ignoreCase: true, out var part)
            && part.ToString().Equals(name, StringComparison.OrdinalIgnoreCase) ? part
            : throw new MendException(MendError.InvalidOption, $"--only \"{only}\": '{name}' is no part.",
            "Give some of qa, fc, gen, facts with commas between them."))];

    private static string Text(TimeSpan time) => time.TotalHours >= 1
        ? string.Create(CultureInfo.InvariantCulture, $"{(int)time.TotalHours} h {time.Minutes} min")
        : string.Create(CultureInfo.InvariantCulture, $"{Math.Max(1, Math.Ceiling(time.TotalMinutes)):0} min");
}
