using MendCluster.Contracts;
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

    /// <summary>Used with <see cref="EditorAlgorithm.Malmen"/>.</summary>
    public MalmenOptions Malmen { get; init; } = new();

    /// <summary>Simultaneous edits of an iteration.</summary>
    /// <value>1. MEND's update for more is the sum of those that it proposes for each; KE makes one.</value>
    public int Edits { get; init; } = 1;

    /// <summary>Unrelated rows of an iteration, where the task draws them.</summary>
    /// <value>1, as published.</value>
    public int UnrelatedRows { get; init; } = 1;

    /// <summary>Which weights the editor changes: names of the paper's models, of weights, or patterns (<see cref="Models.EditableWeights.Select"/>).</summary>
    /// <value>Empty: the family's own choice, as in the paper.</value>
    public IReadOnlyList<string> Editable { get; init; } = [];

    public LossWeights Loss { get; init; } = new();

    /// <summary>Adam's learning rate for phi; for the KnowledgeEditor's networks; for ENN's weights.</summary>
    /// <value>1e-6, of MEND; the paper's is 1e-5 for the two others.</value>
    public double Lr { get; init; } = 1e-6;

    /// <summary>Adam's learning rate for the edit learning rates: alpha, MALMEN's eta and rho.</summary>
    public double LrLr { get; init; } = 1e-4;

    /// <summary>Iterations (one edit, or one batch of simultaneous edits, each) that make an optimiser step.</summary>
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
        Malmen.Validated();
        if (Algorithm == EditorAlgorithm.UltraEdit)
            throw new EditorException("algorithm is UltraEdit, of which nothing is trained: choose mend, ke, enn or malmen");
        if (Edits < 1 || (Edits > 1 && Algorithm == EditorAlgorithm.Ke))
            throw new EditorException($"edits is {Edits}; it must be at least 1, and 1 for KE, which reads the text of one edit: choose another algorithm for more");
        if (!(Lr > 0) || !double.IsFinite(Lr) || !(LrLr >= 0) || !double.IsFinite(LrLr))
            throw new EditorException($"lr is {Lr} and lr_lr {LrLr}; learning rates are finite numbers, lr more than 0, lr_lr at least 0");
        if (!(GradClip > 0) || FinalRate is not (>= 0 and <= 1) || Averaging is not (>= 0 and < 1) || EarlyStopPatience < 1)
            throw new EditorException($"grad_clip is {GradClip}, final_rate {FinalRate}, averaging {Averaging}, early_stop_patience {EarlyStopPatience}; "
                + "they must be more than 0, from 0 to 1, at least 0 and less than 1, and at least 1");
        if (!(Loss.CEdit >= 0) || !(Loss.CLoc >= 0) || !double.IsFinite(Loss.CEdit + Loss.CLoc))
            throw new EditorException($"c_edit is {Loss.CEdit} and c_loc {Loss.CLoc}; weights of losses are finite numbers, at least 0");
        if (AccumulateBs < 1 || ValInterval < 1 || MaxIters < 1 || ValSteps < 1 || UnrelatedRows < 1)
            throw new EditorException("accumulate_bs, val_interval, val_steps, max_iters and unrelated_rows must be at least 1");
        if (ValInterval % AccumulateBs != 0)
            throw new EditorException($"val_interval {ValInterval} must be a multiple of accumulate_bs {AccumulateBs}: checkpoints lie between optimiser steps");
        if (MaxIters < AccumulateBs)
            throw new EditorException($"max_iters is {MaxIters} and accumulate_bs {AccumulateBs}: not one optimiser step would be taken; give at least as many iterations");
        return this;
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
        double Perplexity(Func<StepFigures, double> nll) => Math.Exp(figures.Sum(f => nll(f) * f.LocalityTokens) / figures.Sum(f => f.LocalityTokens));
        return new(iteration, Mean(f => f.Total), Mean(f => f.Edit), Mean(f => f.Locality), Mean(f => f.EditAccuracy),
            Mean(f => f.LocalityAccuracyBefore - f.LocalityAccuracyAfter), Perplexity(f => f.LocalityNllAfter) - Perplexity(f => f.LocalityNllBefore));
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
        using var editor = TrainableEditor.Create(stage, options, checkpoint);
        using var optimiser = new EditorOptimiser(editor.Groups, options.AccumulateBs, options.GradClip, options.Algorithm == EditorAlgorithm.Mend && options.Mend.Reference);
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
            if (cancellation.IsCancellationRequested && iteration % options.AccumulateBs == 0) // a step's sum of gradients is in no checkpoint
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
        [.. stage.EditableOrder.Select(name => new EditableWeight(name, stage.Editable[name].InFeatures, stage.Editable[name].OutFeatures))];

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
