using System.Globalization;
using System.Text;
using MendCluster.Engine.Data;
using MendCluster.Engine.Files;

namespace MendCluster.Experiments;

/// <summary>
/// The document of a reproduction, in Markdown with pictures: every number in it is a step's product or a published one that is marked so.
/// </summary>
public static class ReproductionResults
{
    /// <param name="reproduction">Steps that are not done are named, and what they would show is left out.</param>
    /// <param name="file">The pictures go beside it, with its name before theirs.</param>
    /// <param name="command">That made it.</param>
    public static void Write(Reproduction reproduction, string file, string command)
    {
        var (folder, stem) = (Path.GetDirectoryName(Path.GetFullPath(file))!, Path.GetFileNameWithoutExtension(file));
        Directory.CreateDirectory(folder);
        var text = new StringBuilder();
        if (reproduction.Plan.IsReduced)
            Paragraph("**Not results: this is the reduced form, a few steps and cases each, which shows only that everything runs.**");
        List<ReproductionStep> steps = [.. reproduction.Plan.Steps.Where(reproduction.IsDone)];
        bool Plans<T>() => reproduction.Plan.Steps.Any(step => step.Work is T);
        Paragraph(!Plans<MeasurementWork>() ? "# A thousand facts, in small models"
            : $"# The paper's comparison{(Plans<FactsMeasurementWork>() ? ", and a thousand facts," : "")} on small models");
        Paragraph($"Made by `{command}` on small models that it trains from scratch, with the models and data of the table below, in {Hours(reproduction)}. "
            + "Everything here is that command's output; nothing is written by hand."
            + (Plans<MeasurementWork>() ? " Columns and tables marked \"paper\" are figures of Mitchell et al. 2022 for other models on other data: for orientation." : ""));
        Paragraph($"Machine: {string.Join("; ", reproduction.Machines)}.");
        if (steps.Count < reproduction.Plan.Steps.Count)
            Paragraph($"**Not finished.** {steps.Count} of {reproduction.Plan.Steps.Count} steps are done, and of these is what follows. Missing: "
                + $"{string.Join(", ", reproduction.Plan.Steps.Except(steps).Select(step => step.Name))}.");

        var measurements = steps.Where(step => step.Work is MeasurementWork)
            .Select(step => (Work: (MeasurementWork)step.Work, Reports: reproduction.Reports(step))).ToList();
        if (measurements.Count > 0)
            Table(PaperClaims(measurements));
        if (steps.Exists(step => step.Work is ModelWork or FactsModelWork))
            Table(ModelsAndData(reproduction, steps));
        ThousandFacts();
        foreach (var (work, reports) in measurements)
        {
            Table(Measured(reproduction, work, reports));
            foreach (var (name, title, figure) in Figures(work))
            {
                var picture = $"{stem}-{Kind(work)}-{name}.svg";
                File.WriteAllText(Path.Combine(folder, picture), ResultTables.Picture($"{title}, 95% intervals", reports, figure).ToSvg());
                Paragraph($"![{title}]({picture})");
            }
        }
        if (steps.Exists(step => step.Work is EditorWork or FactsEditorWork))
            Table(TrainingCost(reproduction, steps));
        if (measurements.Count > 0)
            Table(PaperFigures.VeryLarge);
        AtomicFile.Write(file, text.ToString().TrimEnd() + "\n");

        void ThousandFacts()
        {
            List<IReadOnlyList<FactsReport>> worlds = [.. steps.Where(step => step.Work is FactsMeasurementWork { MadeUp: false })
                .Select(step => ThousandFactsResults.Read(reproduction[step.Name]))];
            List<IReadOnlyList<FactsReport>> madeUp = [.. steps.Where(step => step.Work is FactsMeasurementWork { MadeUp: true })
                .Select(step => ThousandFactsResults.Read(reproduction[step.Name]))];
            if (worlds.Count > 0)
            {
                Table(ThousandFactsResults.Aims(worlds));
                Table(WithMissing(ThousandFactsResults.AtOnce(worlds)));
                foreach (var edits in ThousandFactsResults.Drawn(worlds))
                {
                    var picture = $"{stem}-at-once-{edits}.svg";
                    File.WriteAllText(Path.Combine(folder, picture), ThousandFactsResults.Curve(worlds, edits).ToSvg());
                    Paragraph($"![{edits} edits at once]({picture})");
                }
            }
            if (madeUp.Count > 0)
                Table(ThousandFactsResults.MadeUp(madeUp));
            foreach (var step in steps.Where(step => step.Work is FactsSequenceWork))
            {
                var (work, results, picture) = ((FactsSequenceWork)step.Work, reproduction.Sequence(step), $"{stem}-{step.Name.Split('/')[^1]}.svg");
                Table(results.Table() with
                {
                    Title = $"World {work.World}, edits one after another" + (work.ConsolidateEvery > 0 ? ", consolidated" : work.Routes ? ", routed"
                        : work.Beta is not null ? ", each round those before" : ""),
                });
                File.WriteAllText(Path.Combine(folder, picture), results.Curve().ToSvg());
                Paragraph($"![Edits one after another]({picture})");
            }
        }

        ResultTable WithMissing(ResultTable table)
        {
            List<string> missing = [.. steps.Where(step => step.Work is FactsEditorWork && !Kept(reproduction, step))
                .Select(step => step.Name)];
            return missing.Count == 0 ? table : table with
            {
                Notes = [.. table.Notes, $"Missing, for no validation of theirs gave a number, so there was none to keep: {string.Join(", ", missing)}."],
            };
        }

        void Paragraph(string paragraph) => text.Append(paragraph).Append("\n\n");
        void Table(ResultTable table) => Paragraph(table.ToMarkdown().TrimEnd());
    }

    private static ResultTable PaperClaims(IEnumerable<(MeasurementWork Work, IReadOnlyList<EditorReport> Reports)> measurements)
    {
        var rows = measurements.SelectMany(measured => (measured.Work.Kind switch
        {
            ComparisonKind.SideBySide => Experiments.PaperClaims.SideBySide(measured.Work.Task, measured.Reports),
            ComparisonKind.AtOnce => Experiments.PaperClaims.AtOnce(measured.Reports),
            _ => Experiments.PaperClaims.Ablations(measured.Reports),
        }).Select(ordering => (IReadOnlyList<string>)[$"{Name(measured.Work.Task)}: {ordering.Claim}", ordering.Holds ? "holds"
            : "does not hold", ordering.Figures]));
        return new("PaperClaims", ["what the comparison is to show", "here", "figures"], [.. rows],
            ["Computed from the tables below. Edit success is that on paraphrases. Clearly: the 95% interval of the difference, found from those of the two, is on one side of 0. No setting came about on this world: MEND's did on that of seed 1, fine-tuning's learning rate on that of seed 2."]);
    }

    private static ResultTable ModelsAndData(Reproduction reproduction, IReadOnlyList<ReproductionStep> steps)
    {
        var rows = new List<IReadOnlyList<string>>();
        foreach (var step in steps)
        {
            if (step.Work is not (ModelWork or FactsModelWork))
                continue;
            var product = reproduction.Product(step);
            if (step.Work is FactsModelWork model)
            {
                var facts = new ThousandFacts(model.World, model.Size);
                rows.Add([$"A thousand facts, world {model.World}", product.Model!, $"{Text(product.Score!.Value, "P1")} answered, {facts.World.Facts.Count} facts",
                    Text(facts.World.Split.Training.Count), Text(facts.Edits.Count)]);
                continue;
            }
            var task = step.Work.Task;
            var edits = steps.Where(other => other.Work.Task == task && other.Work is DataWork or ContinuationsWork).Select(reproduction.Product).Last();
            rows.Add([Name(task), product.Model!, task == EditTaskKind.Gen ? $"perplexity {Text(product.Score!.Value, "0.00")} on texts it has not read"
                : $"{Text(product.Score!.Value, "P1")} answered", Count(edits.TrainingEdits), Count(edits.ValidationEdits)]);
        }
        return new("Models and data", ["task", "model", "knows", "edits to train on", "edits to measure on"], rows,
            ["The data are generated in the published file forms, about a made-up world (docs/tasks.md). The models know the edits' questions; no editor is trained on the edits that it is "
                + "measured on, and the editor that is kept of a training is the one that does best on others still."]);
    }

    private static string Count(int? edits) => edits is { } count ? Text(count) : "not made yet"; // of texts they are drawn from the model

    private static ResultTable Measured(Reproduction reproduction, MeasurementWork work, IReadOnlyList<EditorReport> reports)
    {
        var (table, title) = work.Kind switch
        {
            ComparisonKind.SideBySide =>
                (ResultTables.SideBySide(reports), $"{Name(work.Task)}, editors side by side (the paper's tables 3 and 4)"),
            ComparisonKind.AtOnce => (ResultTables.AtOnce(reports), $"{Name(work.Task)}, edits at once (the paper's table 5)"),
            _ => (ResultTables.SideBySide(reports), $"{Name(work.Task)}, MEND without its parts (the paper's table 6)"),
        };
        var missing = reproduction.Plan.Steps.Count(step => work.Trained.Contains(step.Name) && !Kept(reproduction, step));
        IReadOnlyList<string> notes = missing == 0 ? table.Notes
            : [.. table.Notes, $"{missing} of {work.Trained.Count} trained editors are missing: no validation of theirs gave a number, so there was none to keep."];
        return table with
        {
            Title = title,
            Columns = [.. table.Columns, $"paper: {PaperFigures.ModelOf(work.Task)}, edit success",
                $"paper: {PaperFigures.ModelOf(work.Task)}, drawdown"],
            Rows = [.. table.Rows.Zip(reports,
                (row, report) => (IReadOnlyList<string>)[.. row, Published(work, report)?.Success ?? "-", Published(work, report)?.Drawdown
                ?? "-"])],
            Notes = [table.Title + ".", .. notes, .. Untrained(work)],
        };
    }

    private static bool Kept(Reproduction reproduction, ReproductionStep training) => reproduction.Product(training).Training!.IsKept;

    private static IEnumerable<string> Untrained(MeasurementWork work)
    {
        if (work.FineTune is { } tuned)
            yield return string.Create(CultureInfo.InvariantCulture,
                $"FT and FT+KL: {tuned.Opt}, learning rate {tuned.EditLr}, at most {tuned.MaxEditSteps} steps; FT+KL weighs the edit by {tuned.CEdit}.");
        if (work.UltraEdit is { } ultra)
            yield return string.Create(CultureInfo.InvariantCulture, $"UltraEdit: step size {ultra.EditLr}, ridge {ultra.Lambda}.");
    }

    private static PaperFigure? Published(MeasurementWork work, EditorReport report) => work.Kind switch
    {
        ComparisonKind.SideBySide => PaperFigures.SideBySide(work.Task).GetValueOrDefault(report.Editor),
        ComparisonKind.AtOnce => PaperFigures.AtOnce.GetValueOrDefault((report.Editor, report.Edits)),
        _ => PaperFigures.Ablations(work.Task).GetValueOrDefault(report.Editor),
    };

    private static IEnumerable<(string Name, string Title, Func<EvaluationSummary, Estimate?> Of)> Figures(MeasurementWork work) =>
    [
        ("edit-success", $"{Name(work.Task)}: edit success on paraphrases", summary => summary.RephraseSuccess),
        work.Task == EditTaskKind.Gen
            ? ("drawdown", $"{Name(work.Task)}: perplexity drawdown", summary => summary.PerplexityDrawdown)
            : ("drawdown", $"{Name(work.Task)}: drawdown", summary => summary.Drawdown),
    ];

    private static ResultTable TrainingCost(Reproduction reproduction, IReadOnlyList<ReproductionStep> steps)
    {
        var table = TrainingReports.Costs(steps.Where(step => step.Work is EditorWork or FactsEditorWork)
            .Select(step => (step.Name, reproduction.Product(step).Training!.Cost)));
        return table with
        {
            Notes = [.. table.Notes,
                "Time and memory of an edit stand in the tables above. The number at the end of a name is that of the edits at once that the editor is trained for and measured "
                + "with, as in the paper's table 5."],
        };
    }

    private static string Hours(Reproduction reproduction)
    {
        var spent = TimeSpan.FromSeconds(reproduction.Plan.Steps.Sum(step => reproduction.Spent(step).TotalSeconds));
        return $"{Text(spent.TotalHours, "0.0")} hours";
    }

    private static string Kind(MeasurementWork work) => work.Task.ToString().ToLowerInvariant() + work.Kind switch
    {
        ComparisonKind.SideBySide => "",
        ComparisonKind.AtOnce => "-at-once",
        _ => "-ablations",
    };

    private static string Name(EditTaskKind task) => task switch
    {
        EditTaskKind.Qa => "Question answering",
        EditTaskKind.Fc => "Fact checking",
        _ => "Generation",
    };

    private static string Text(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);

    private static string Text(long value) => value.ToString(CultureInfo.InvariantCulture);
}
