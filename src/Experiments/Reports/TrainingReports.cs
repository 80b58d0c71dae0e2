using MendCluster.Contracts;
using MendCluster.Engine.Files;
using MendCluster.Engine.Training;
using static System.FormattableString;

namespace MendCluster.Experiments;

/// <summary>
/// Time and memory of a training until its last validation. What was done twice because the run was stopped counts once.
/// </summary>
/// <param name="Edits">Of an iteration.</param>
/// <param name="Minutes">With all validations.</param>
/// <param name="PeakBytes">Of tensors; null: not measured.</param>
public sealed record TrainingCost(int Edits, long Iterations, double Minutes, long? PeakBytes);

/// <summary>Pictures and tables of training runs, from what their folders hold.</summary>
public static class TrainingReports
{
    /// <summary>
    /// Draws training and validation loss over the iterations into <c>curves.svg</c>, log scale. A run without figures has none.
    /// </summary>
    public static void DrawCurves(RunFolder run)
    {
        var entries = run.Entries().Where(entry => entry.Total > 0 && double.IsFinite(entry.Total)).ToList();
        if (entries.Count > 0)
            AtomicFile.Write(run.Curves,
                new LineChart("Editor training: total loss", "iteration", "loss",
                [Line("training"), Line("validation")])
                { IsLogarithmic = true }.ToSvg());

        ChartLine Line(string kind) =>
            new(kind, [.. entries.Where(entry => entry.Kind == kind).Select(entry => new ChartPoint(entry.Iteration, entry.Total))]);
    }

    /// <summary>Whether there are figures for <see cref="Costs"/>.</summary>
    public static bool IsMeasured(RunFolder run) => File.Exists(run.Configuration)
        && run.Entries().Any(entry => entry.Kind == "validation");

    /// <param name="trainings">By the names of their editors.</param>
    public static ResultTable Costs(IEnumerable<(string Name, TrainingCost Cost)> trainings) => new(
        "Training the editors: time and memory", ["editor", "edits an iteration", "iterations", "minutes", "MB of tensors at most"],
        [.. trainings.Select(training => (IReadOnlyList<string>)[training.Name, .. Cells(training.Cost)])],
        ["Minutes with all validations; memory of CPU tensors, the model's among them, which mend reproduce measures on Linux x64."]);

    /// <param name="run">Finished.</param>
    public static TrainingCost Cost(RunFolder run)
    {
        var entries = run.Entries().ToList();
        var validations = entries.Where(entry => entry.Kind == "validation").ToList();
        return new(RunFolder.ReadConfiguration<EditorTrainingOptions>(run.Configuration).Edits, validations.Max(entry => entry.Iteration),
            validations.Sum(entry => entry.Seconds) / 60, entries.Max(entry => entry.PeakBytes));
    }

    private static string[] Cells(TrainingCost cost) =>
    [
        Invariant($"{cost.Edits}"), Invariant($"{cost.Iterations}"), Invariant($"{cost.Minutes:0.0}"),
        cost.PeakBytes is { } bytes ? Invariant($"{bytes / 1e6:0}") : "not measured",
    ];
}
