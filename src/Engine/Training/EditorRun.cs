using System.Diagnostics;
using MendCluster.Contracts;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>
/// A training run: Algorithm 1 of the paper, step after step, with a validation now and then that keeps the best editor, stops early, and
/// writes a checkpoint from which a run goes on exactly as if it had never stopped: the data of an iteration is a function of its number.
/// Written once: one machine (<see cref="EditorTraining"/>) is one replica of one stage.
/// An iteration is one edit, or one batch of simultaneous edits; a step is of <see cref="EditorTrainingOptions.AccumulateBs"/> of them.
/// </summary>
public sealed class EditorRun
{
    private const int ReportEvery = 50;

    private readonly EditorTrainingOptions _options;
    private readonly RunFolder _folder;
    private readonly ITrainingReplicas _replicas;
    private readonly EarlyStopping _stopping;
    private readonly long _start;
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private TimeSpan _lap;
    private double _sum;
    private int _summed;
    private int _refused;
    private long? _validated;

    private EditorRun(EditorTrainingOptions options, RunFolder folder, ITrainingReplicas replicas, EditorCheckpoint? checkpoint)
    {
        (_options, _folder, _replicas) = (options, folder, replicas);
        _stopping = checkpoint is null ? new(options.EarlyStopPatience)
            : new(options.EarlyStopPatience, checkpoint.BestLoss, checkpoint.BestIteration);
        (_start, _validated) = (checkpoint?.Iteration ?? 0, checkpoint?.Validated);
        checkpoint?.Restore(replicas.Adam, replicas.Average);
        folder.Start(options, _start);
    }

    /// <summary>Trains, or goes on from the folder's checkpoint if it has one.</summary>
    /// <param name="folder">The caller has taken it.</param>
    /// <param name="open">What trains: a new editor, or that of a checkpoint. The run disposes of it.</param>
    public static async Task<TrainingResult> RunAsync(EditorTrainingOptions options, RunFolder folder,
        Func<EditorCheckpoint?, ITrainingReplicas> open, IProgress<TrainingProgress>? progress, CancellationToken cancellation)
    {
        folder.Check(options);
        var checkpoint = EditorCheckpoint.TryOpen(folder.Checkpoint);
        await using var replicas = open(checkpoint);
        var run = new EditorRun(options, folder, replicas, checkpoint);
        checkpoint?.Dispose(); // the run replaces the file
        return await run.TakeStepsAsync(progress, cancellation).ConfigureAwait(false);
    }

    private async Task<TrainingResult> TakeStepsAsync(IProgress<TrainingProgress>? progress, CancellationToken cancellation)
    {
        var window = _options.AccumulateBs;
        var iteration = _start;
        try
        {
            await _replicas.OpenAsync(iteration / window, cancellation).ConfigureAwait(false);
            for (; ; iteration += window)
            {
                var step = iteration / window;
                if (ValidatesAt(iteration))
                {
                    // statistics exist from the first step on; before it there is no edit to measure
                    var validated = iteration == 0 ? [] : await _replicas.ValidateAsync(step, cancellation).ConfigureAwait(false);
                    await _replicas.CollectAsync(cancellation).ConfigureAwait(false);
                    if (Take(EditorValidation.Of(iteration, validated)))
                        return End(iteration, "early stopping");
                }
                if (IsLast(iteration))
                    return End(iteration, "max_iters");
                cancellation.ThrowIfCancellationRequested();
                var (figures, norm, refused) = await _replicas.StepAsync(step, RateAt(iteration + window - 1), cancellation)
                    .ConfigureAwait(false);
                _refused += refused;
                for (var i = 0; i < window; i++)
                    Take(iteration + i + 1, figures[i], i == window - 1 ? norm : null);
                progress?.Report(new(iteration + window, _options.MaxIters, figures.Average(edit => edit.Total), BestValidation,
                    _replicas.Count));
            }
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            if (await _replicas.TryCollectAsync().ConfigureAwait(false))
                Keep(iteration);
            return End(iteration, "cancelled");
        }
    }

    /// <summary>Null before the first.</summary>
    private double? BestValidation => _stopping.Best < EarlyStopping.None ? _stopping.Best : null;

    /// <summary>At the interval and at the end; a restored run may have validated at its first iteration already.</summary>
    private bool ValidatesAt(long iteration) => (iteration % _options.ValInterval == 0 || IsLast(iteration)) && iteration != _validated;

    /// <summary>Whether there are fewer iterations left than an optimiser step takes.</summary>
    private bool IsLast(long iteration) => iteration % _options.AccumulateBs == 0 && iteration + _options.AccumulateBs > _options.MaxIters;

    /// <summary>Factor on the learning rates.</summary>
    private double RateAt(long iteration) => 1 - (1 - _options.FinalRate) * iteration / _options.MaxIters;

    /// <summary>Takes a validation down, keeps the editor if it is the best, and writes the checkpoint.</summary>
    /// <returns>Whether the best is too old.</returns>
    private bool Take(EditorValidation validation)
    {
        using var scope = NewDisposeScope();
        _folder.Log(new
        {
            kind = "validation",
            validation.Iteration,
            validation.Total,
            validation.Edit,
            validation.Locality,
            validation.EditSuccess,
            validation.Drawdown,
            validation.PerplexityDrawdown,
            seconds = Lap()
        });
        if (_stopping.Observe(validation.Iteration, validation.Total))
        {
            _replicas.Average?.Swap();
            EditorCheckpoint.SaveEditor(_folder.BestEditor, _replicas.Editor);
            _replicas.Average?.Swap();
        }
        _validated = validation.Iteration;
        Keep(validation.Iteration);
        return _stopping.IsOver(validation.Iteration);
    }

    /// <summary>Writes the checkpoint.</summary>
    /// <param name="iteration">Between two optimiser steps.</param>
    private void Keep(long iteration)
    {
        using var scope = NewDisposeScope();
        EditorCheckpoint.Save(_folder.Checkpoint, _replicas.Editor, _replicas.Adam, _replicas.Average, iteration, _stopping.Best,
            _stopping.BestIteration, _validated);
    }

    /// <summary>Takes one edit's figures down.</summary>
    /// <param name="iteration">Edits seen, this one included.</param>
    /// <param name="norm">Of the gradient, when a step was taken.</param>
    private void Take(long iteration, StepFigures figures, double? norm)
    {
        _sum += figures.Total;
        _summed++;
        if (iteration % ReportEvery != 0)
            return;
        _folder.Log(new
        {
            kind = "training",
            iteration,
            total = _sum / _summed, // of fewer than usual after a stop between two reports
            figures.Edit,
            figures.Locality,
            norm,
            refused = _refused,
            seconds = _clock.Elapsed.TotalSeconds
        });
        (_sum, _summed) = (0, 0);
    }

    /// <summary>Since the last validation or the start of the process.</summary>
    private double Lap()
    {
        var lap = _clock.Elapsed - _lap;
        _lap += lap;
        return lap.TotalSeconds;
    }

    private TrainingResult End(long iteration, string why)
    {
        var result = new TrainingResult(iteration, why, _stopping.Best, _stopping.BestIteration);
        _folder.Log(new { kind = "end", result.Iterations, result.Stopped, bestLoss = BestValidation, result.BestIteration });
        return result;
    }
}
