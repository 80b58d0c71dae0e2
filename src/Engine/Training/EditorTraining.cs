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

/// <summary>Training on one machine, with the whole model on one device: one replica of one stage, edit by edit.</summary>
/// <param name="stage">The whole model; frozen, but by ENN, which trains it.</param>
/// <param name="trainingBatch">The batch of an iteration.</param>
/// <param name="validationBatch">The i-th batch of every validation.</param>
/// <param name="run">Where configuration, metrics, checkpoint and the best editor go.</param>
/// <param name="preserved">
/// Questions with their answers, in portions that pass through the model together, whose keys the editor is to go round; null: none.
/// </param>
public sealed class EditorTraining(
    Stage stage, EditorTrainingOptions options, Func<long, EditBatch> trainingBatch, Func<int, EditBatch> validationBatch, RunFolder run,
    IEnumerable<LabelledInput>? preserved = null)
{
    /// <summary>Trains, or goes on from the run folder's checkpoint if it has one.</summary>
    public TrainingResult Run(IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        options.Validated();
        if (preserved is not null && !EditorRegistry.Of(options.Algorithm).Preserves)
            throw Fault.Setting($"{EditorRegistry.Of(options.Algorithm).Name} goes round no keys, and questions to preserve were given: leave them out, or train "
                + string.Join(", ", EditorRegistry.All.Where(kind => kind.Preserves).Select(kind => kind.Algorithm.ToString().ToLowerInvariant())));
        using var folder = run.Take();
        // all of it on this thread, to which dispose scopes and grad mode belong: nothing here waits
        return EditorRun.RunAsync(options, run, checkpoint => new OneReplica(EditorRegistry.Train(stage, options, checkpoint,
            preserved is null ? null : () => TrainingStep.KeysOf(stage, preserved)), options,
            trainingBatch, validationBatch), progress, cancellation).GetAwaiter().GetResult();
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

    private sealed class OneReplica : ITrainingReplicas
    {
        private readonly ITrainableEditor _editor;
        private readonly EditorTrainingOptions _options;
        private readonly Func<long, EditBatch> _trainingBatch;
        private readonly Func<int, EditBatch> _validationBatch;
        private readonly EditorOptimiser _optimiser;

        public OneReplica(ITrainableEditor editor, EditorTrainingOptions options, Func<long, EditBatch> trainingBatch,
            Func<int, EditBatch> validationBatch)
        {
            (_editor, _options, _trainingBatch, _validationBatch) = (editor, options, trainingBatch, validationBatch);
            _optimiser = new(editor.Groups, options.AccumulateBs, options.GradClip,
                options.Algorithm == EditorAlgorithm.Mend && options.Mend.Reference);
            Average = options.Averaging > 0 ? new(_optimiser.Parameters, options.Averaging) : null;
        }

        public IStoredEditor Editor => _editor;

        public Adam Adam => _optimiser.Adam;

        public ParameterAverage? Average { get; }

        public int Count => 1;

        public Task OpenAsync(long step, CancellationToken cancellation) => Task.CompletedTask;

        public Task<IReadOnlyList<StepFigures>> ValidateAsync(long step, CancellationToken cancellation)
        {
            var figures = new StepFigures[_options.ValSteps];
            Average?.Swap();
            for (var i = 0; i < figures.Length; i++)
            {
                using var scope = NewDisposeScope();
                figures[i] = _editor.Measure(_validationBatch(i), _options.Loss);
            }
            Average?.Swap();
            return Task.FromResult<IReadOnlyList<StepFigures>>(figures);
        }

        public Task<StepResult> StepAsync(long step, double rate, CancellationToken cancellation)
        {
            var figures = new StepFigures[_options.AccumulateBs];
            var (refused, norm) = (_optimiser.Refused, (double?)null);
            for (var i = 0; i < figures.Length; i++)
            {
                using var scope = NewDisposeScope();
                (figures[i], var gradients) = _editor.Step(_trainingBatch(step * figures.Length + i), _options.Loss, _optimiser.Parameters);
                if (_optimiser.Take(gradients, rate) is { } taken)
                {
                    norm = taken;
                    Average?.Add();
                }
            }
            return Task.FromResult(new StepResult(figures, norm, _optimiser.Refused - refused));
        }

        public Task CollectAsync(CancellationToken cancellation) => Task.CompletedTask; // the state is here

        public Task<bool> TryCollectAsync() => Task.FromResult(true);

        public ValueTask DisposeAsync()
        {
            Average?.Dispose();
            _optimiser.Dispose();
            _editor.Dispose();
            return ValueTask.CompletedTask;
        }
    }
}
