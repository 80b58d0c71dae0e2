using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>What the settings of a training run may be.</summary>
public static class TrainingOptionsValidation
{
    /// <summary>Refuses values that make no sense.</summary>
    /// <exception cref="MendException">Naming the setting and its range.</exception>
    public static EditorTrainingOptions Validated(this EditorTrainingOptions options)
    {
        options.Mend.Validated();
        options.Ke.Validated();
        options.Enn.Validated();
        options.Malmen.Validated();
        var (lr, lrLr, loss) = (options.Lr, options.LrLr, options.Loss);
        var kind = EditorRegistry.Of(options.Algorithm);
        if (kind.Train is null)
            throw Fault.Setting($"algorithm is {kind.Name}, of which nothing is trained: choose "
                + string.Join(", ", EditorRegistry.All.Where(other => other.Train is not null)
                .Select(other => other.Algorithm.ToString().ToLowerInvariant())));
        if (options.Edits < 1 || options.Edits > kind.MaxEdits)
            throw Fault.Setting($"edits is {options.Edits}; it must be at least 1{(kind.MaxEdits is { } most
                ? $", and at most {most} for {kind.Name}: choose another algorithm for more" : "")}");
        if (!(lr > 0) || !double.IsFinite(lr) || !(lrLr >= 0) || !double.IsFinite(lrLr))
            throw Fault.Setting($"lr is {lr} and lr_lr {lrLr}; learning rates are finite numbers, lr more than 0, lr_lr at least 0");
        if (!(options.GradClip > 0) || options.FinalRate is not (>= 0 and <= 1) || options.Averaging is not (>= 0 and < 1)
            || options.EarlyStopPatience < 1)
            throw Fault.Setting($"grad_clip is {options.GradClip}, final_rate {options.FinalRate}, averaging {options.Averaging}, "
                + $"early_stop_patience {options.EarlyStopPatience}; they must be more than 0, from 0 to 1, at least 0 and less than 1, and at least 1");
        if (!(loss.CEdit >= 0) || !(loss.CLoc >= 0) || !double.IsFinite(loss.CEdit + loss.CLoc))
            throw Fault.Setting($"c_edit is {loss.CEdit} and c_loc {loss.CLoc}; weights of losses are finite numbers, at least 0");
        if (options.AccumulateBs < 1 || options.ValInterval < 1 || options.MaxIters < 1 || options.ValSteps < 1
            || options.UnrelatedRows < 1)
            throw Fault.Setting("accumulate_bs, val_interval, val_steps, max_iters and unrelated_rows must be at least 1");
        if (options.ValInterval % options.AccumulateBs != 0)
            throw Fault.Setting($"val_interval {options.ValInterval} must be a multiple of accumulate_bs {options.AccumulateBs}: "
                + "checkpoints lie between optimiser steps");
        if (options.MaxIters < options.AccumulateBs)
            throw Fault.Setting($"max_iters is {options.MaxIters} and accumulate_bs {options.AccumulateBs}: not one optimiser step would be taken; "
                + "give at least as many iterations");
        return options;
    }
}

/// <summary>Means over a validation's edits (mend-spec 3.5).</summary>
/// <param name="EditSuccess">Exact match on the rephrases.</param>
/// <param name="Drawdown">Loss of exact match on the unrelated rows.</param>
/// <param name="PerplexityDrawdown">
/// Perplexity of all unrelated rows together, edited model less unedited: exp of the mean over tokens, not a mean of perplexities.
/// </param>
public sealed record EditorValidation(
    long Iteration, double Total, double Edit, double Locality, double EditSuccess, double Drawdown, double PerplexityDrawdown)
{
    /// <summary>NaN when there are none.</summary>
    public static EditorValidation Of(long iteration, IReadOnlyCollection<StepFigures> figures)
    {
        double Mean(Func<StepFigures, double> of) => figures.Count == 0 ? double.NaN : figures.Average(of);
        double Perplexity(Func<StepFigures, double> nll) =>
            Math.Exp(figures.Sum(f => nll(f) * f.LocalityTokens) / figures.Sum(f => f.LocalityTokens));
        return new(iteration, Mean(f => f.Total), Mean(f => f.Edit), Mean(f => f.Locality), Mean(f => f.EditAccuracy),
            Mean(f => f.LocalityAccuracyBefore - f.LocalityAccuracyAfter),
            Perplexity(f => f.LocalityNllAfter) - Perplexity(f => f.LocalityNllBefore));
    }
}

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
    /// <summary>Trains, or goes on from the run folder's checkpoint if it has one.</summary>
    public TrainingResult Run(IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        options.Validated();
        using var folder = run.Take();
        run.Check(options);
        var checkpoint = EditorCheckpoint.TryOpen(run.Checkpoint);
        using var editor = EditorRegistry.Train(stage, options, checkpoint);
        using var optimiser = new EditorOptimiser(editor.Groups, options.AccumulateBs, options.GradClip,
            options.Algorithm == EditorAlgorithm.Mend && options.Mend.Reference);
        using var average = options.Averaging > 0 ? new ParameterAverage(optimiser.Parameters, options.Averaging) : null;
        var course = new EditorRun(options, run, editor, optimiser.Adam, average, checkpoint);
        checkpoint?.Dispose();

        for (var iteration = course.Start; ; iteration++)
        {
            if (course.ValidatesAt(iteration))
            {
                average?.Swap();
                var validation = Validate(editor, iteration);
                average?.Swap();
                if (course.Take(validation))
                    return course.End(iteration, "early stopping");
            }
            if (course.IsLast(iteration))
                return course.End(iteration, "max_iters");
            // a step's sum of gradients is in no checkpoint
            if (cancellation.IsCancellationRequested && iteration % options.AccumulateBs == 0)
            {
                course.Keep(iteration);
                return course.End(iteration, "cancelled");
            }

            using var scope = NewDisposeScope();
            var (figures, gradients) = editor.Step(trainingBatch(iteration), options.Loss, optimiser.Parameters);
            var norm = optimiser.Take(gradients, course.RateAt(iteration));
            if (norm is not null)
                average?.Add();
            if (course.Take(iteration + 1, figures, norm, optimiser.Refused) is { } loss)
                progress?.Report(new(iteration + 1, options.MaxIters, loss, course.BestValidation));
        }
    }

    /// <summary>The weights that the stage's editor changes, in configuration order.</summary>
    public static IReadOnlyList<EditableWeight> EditableWeights(Stage stage) =>
        [.. stage.EditableOrder.Select(name =>
        new EditableWeight(name, stage.Editable[name].InFeatures, stage.Editable[name].OutFeatures))];

    /// <summary>The weights that the editor of a model is to change; reads no weight.</summary>
    /// <param name="editable">As <see cref="Models.EditableWeights.Select"/> takes them.</param>
    public static IReadOnlyList<EditableWeight> EditableWeights(ModelFamily family, IReadOnlyList<string> editable)
    {
        using var shapes = Stage.LoadWhole(family, new WeightShapes(), Models.EditableWeights.Select(family, editable));
        return EditableWeights(shapes);
    }

    private EditorValidation Validate(ITrainableEditor editor, long iteration)
    {
        var all = new List<StepFigures>();
        if (iteration > 0) // statistics exist from the first step on; before it there is no edit to measure
            for (var i = 0; i < options.ValSteps; i++)
            {
                using var scope = NewDisposeScope();
                all.Add(editor.Measure(validationBatch(i), options.Loss));
            }
        return EditorValidation.Of(iteration, all);
    }
}
