using System.Diagnostics;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>Settings of a training run, by the names of the authors' configuration; the defaults are the paper's (mend-spec 4.4).</summary>
public sealed record EditorTrainingOptions
{
    public EditorAlgorithm Algorithm { get; init; }

    public MendOptions Mend { get; init; } = new();

    /// <summary>Used with <see cref="EditorAlgorithm.Ke"/>.</summary>
    public KnowledgeEditorOptions Ke { get; init; } = new();

    /// <summary>Used with <see cref="EditorAlgorithm.Enn"/>.</summary>
    public EnnOptions Enn { get; init; } = new();

    /// <summary>Which weights the editor changes: names of the paper's models, of weights, or patterns (<see cref="Models.EditableWeights.Select"/>).</summary>
    /// <value>Empty: the family's own choice, as in the paper.</value>
    public IReadOnlyList<string> Editable { get; init; } = [];

    public LossWeights Loss { get; init; } = new();

    /// <summary>Adam's learning rate for phi; for the KnowledgeEditor's networks; for ENN's weights.</summary>
    /// <value>1e-6, of MEND; the paper's is 1e-5 for the two others.</value>
    public double Lr { get; init; } = 1e-6;

    /// <summary>Adam's learning rate for alpha, the edit learning rates.</summary>
    public double LrLr { get; init; } = 1e-4;

    /// <summary>Iterations (one edit each) that make an optimiser step.</summary>
    public int AccumulateBs { get; init; } = 10;

    public double GradClip { get; init; } = 100;

    /// <summary>The learning rates fall in a straight line to this fraction of themselves at <see cref="MaxIters"/>.</summary>
    /// <value>1: they stay, as in the paper.</value>
    public double FinalRate { get; init; } = 1;

    /// <summary>
    /// Validates and keeps, instead of the editor itself, its running average: after every optimiser step this much of the average stays.
    /// Takes the noise of single edits out.
    /// </summary>
    /// <value>0: the editor itself, as in the paper.</value>
    public double Averaging { get; init; }

    public long MaxIters { get; init; } = 500_000;

    /// <summary>Iterations between validations; a checkpoint is written at each.</summary>
    public long ValInterval { get; init; } = 5000;

    /// <summary>Edits of a validation.</summary>
    public int ValSteps { get; init; } = 500;

    /// <summary>Iterations without a better validation before the run ends.</summary>
    public long EarlyStopPatience { get; init; } = 20_000;

    public long Seed { get; init; }

    /// <exception cref="EditorException">Naming the setting.</exception>
    public EditorTrainingOptions Validated()
    {
        Mend.Validated();
        Ke.Validated();
        Enn.Validated();
        if (AccumulateBs < 1 || ValInterval < 1 || MaxIters < 1 || ValSteps < 1)
            throw new EditorException("accumulate_bs, val_interval, val_steps and max_iters must be at least 1");
        if (ValInterval % AccumulateBs != 0)
            throw new EditorException($"val_interval {ValInterval} must be a multiple of accumulate_bs {AccumulateBs}: checkpoints lie between optimiser steps");
        return this;
    }
}

/// <summary>Where a run is, for a progress bar.</summary>
public sealed record EditorTrainingProgress(long Iteration, long MaxIters, double Loss, double? BestValidation);

/// <summary>Means over a validation's edits (mend-spec 3.5).</summary>
/// <param name="EditSuccess">Exact match on the rephrases.</param>
/// <param name="Drawdown">Loss of exact match on the unrelated rows.</param>
/// <param name="PerplexityDrawdown">Perplexity of all unrelated rows together, edited model less unedited.</param>
public sealed record EditorValidation(
    long Iteration, double Total, double Edit, double Locality, double EditSuccess, double Drawdown, double PerplexityDrawdown);

/// <param name="Stopped">"early stopping", "max_iters" or "cancelled".</param>
public sealed record EditorTrainingResult(long Iterations, string Stopped, double BestLoss, long BestIteration);

/// <summary>
/// Algorithm 1 of the paper: trains an editor for a model. Validates, keeps the best editor, stops early, and writes a
/// checkpoint at every validation from which a run goes on exactly as if it had never stopped: the data of an iteration is a function
/// of its number.
/// </summary>
/// <param name="stage">The whole model; frozen, but by ENN, which trains it.</param>
/// <param name="trainingBatch">The batch of an iteration.</param>
/// <param name="validationBatch">The i-th batch of every validation.</param>
/// <param name="run">Where configuration, metrics, checkpoint and the best editor go.</param>
public sealed class EditorTraining(
    Stage stage, EditorTrainingOptions options, Func<long, EditBatch> trainingBatch, Func<int, EditBatch> validationBatch, RunFolder run)
{
    private const int ReportEvery = 50;

    /// <summary>Trains, or goes on from the run folder's checkpoint if it has one.</summary>
    public EditorTrainingResult Run(IProgress<EditorTrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        options.Validated();
        var checkpoint = EditorCheckpoint.TryOpen(run.Checkpoint);
        using var editor = TrainableEditor.Create(stage, options, checkpoint);
        using var optimiser = new EditorOptimiser(editor.Groups, options.AccumulateBs, options.GradClip, options.Algorithm == EditorAlgorithm.Mend && options.Mend.Reference);
        var stopping = checkpoint is null ? new EarlyStopping(options.EarlyStopPatience)
            : new(options.EarlyStopPatience, checkpoint.BestLoss, checkpoint.BestIteration);
        var start = checkpoint?.Iteration ?? 0;
        using var average = options.Averaging > 0 ? new ParameterAverage(optimiser.Parameters, options.Averaging) : null;
        checkpoint?.Restore(optimiser.Adam, average);
        checkpoint?.Dispose();
        run.Start(options, start);

        var clock = Stopwatch.StartNew();
        double sum = 0;
        for (var iteration = start; ; iteration++)
        {
            // A restored run validated at its first iteration already.
            if (iteration % options.ValInterval == 0 && (iteration > start || start == 0))
            {
                average?.Swap();
                var validation = Validate(editor, iteration);
                run.Log(new { kind = "validation", validation.Iteration, validation.Total, validation.Edit, validation.Locality, validation.EditSuccess, validation.Drawdown, validation.PerplexityDrawdown });
                if (stopping.Observe(iteration, validation.Total))
                    EditorCheckpoint.SaveEditor(run.BestEditor, editor);
                average?.Swap();
                EditorCheckpoint.Save(run.Checkpoint, editor, optimiser.Adam, average, iteration, stopping.Best, stopping.BestIteration);
                run.DrawCurves();
                if (stopping.IsOver(iteration))
                    return Done(iteration, "early stopping", stopping);
            }
            if (iteration >= options.MaxIters)
                return Done(iteration, "max_iters", stopping);
            if (cancellation.IsCancellationRequested)
                return Done(iteration, "cancelled", stopping);

            using var scope = NewDisposeScope();
            var (figures, gradients) = editor.Step(trainingBatch(iteration), options.Loss, optimiser.Parameters);
            var norm = optimiser.Take(gradients, 1 - (1 - options.FinalRate) * iteration / options.MaxIters);
            if (norm is not null)
                average?.Add();
            sum += figures.Total;
            if ((iteration + 1) % ReportEvery == 0)
            {
                run.Log(new { kind = "training", iteration = iteration + 1, total = sum / ReportEvery, figures.Edit, figures.Locality, norm, optimiser.Refused, seconds = clock.Elapsed.TotalSeconds });
                progress?.Report(new(iteration + 1, options.MaxIters, sum / ReportEvery, stopping.Best < 1e9 ? stopping.Best : null));
                sum = 0;
            }
        }
    }

    /// <summary>The weights that the stage's editor changes, in configuration order.</summary>
    public static IReadOnlyList<EditableWeight> EditableWeights(Stage stage) =>
        [.. stage.EditableOrder.Select(name => new EditableWeight(name, stage.Editable[name].InFeatures, stage.Editable[name].OutFeatures))];

    private EditorValidation Validate(ITrainableEditor editor, long iteration)
    {
        var all = new List<StepFigures>();
        if (iteration > 0) // MEND's statistics exist from the first step on; before it there is no edit to measure
            for (var i = 0; i < options.ValSteps; i++)
            {
                using var scope = NewDisposeScope();
                all.Add(editor.Measure(validationBatch(i), options.Loss));
            }
        double Mean(Func<StepFigures, double> of) => all.Count == 0 ? double.NaN : all.Average(of);
        return new(iteration, Mean(f => f.Total), Mean(f => f.Edit), Mean(f => f.Locality), Mean(f => f.EditAccuracy),
            Mean(f => f.LocalityAccuracyBefore - f.LocalityAccuracyAfter), StepFigures.PerplexityDrawdown(all));
    }

    private EditorTrainingResult Done(long iteration, string why, EarlyStopping stopping)
    {
        run.DrawCurves();
        var result = new EditorTrainingResult(iteration, why, stopping.Best, stopping.BestIteration);
        run.Log(new { kind = "end", result.Iterations, result.Stopped, result.BestLoss, result.BestIteration });
        return result;
    }
}
