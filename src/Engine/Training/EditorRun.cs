using System.Diagnostics;
using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>
/// What a training run is beside its steps, on one machine or on many: where it starts, its metrics, the best editor, early stopping, and
/// the checkpoint at every validation.
/// </summary>
public sealed class EditorRun
{
    private const int ReportEvery = 50;

    private readonly EditorTrainingOptions _options;
    private readonly RunFolder _folder;
    private readonly (IStoredEditor Stored, Adam Adam, ParameterAverage? Average) _editor;
    private readonly EarlyStopping _stopping;
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private TimeSpan _lap;
    private double _sum;
    private int _summed;
    private long? _validated;

    /// <param name="checkpoint">Of the run so far, from which <paramref name="editor"/> was made; null: the run is new.</param>
    public EditorRun(EditorTrainingOptions options, RunFolder folder, IStoredEditor editor, Adam adam, ParameterAverage? average,
        EditorCheckpoint? checkpoint)
    {
        (_options, _folder, _editor) = (options, folder, (editor, adam, average));
        _stopping = checkpoint is null ? new(options.EarlyStopPatience)
            : new(options.EarlyStopPatience, checkpoint.BestLoss, checkpoint.BestIteration);
        (Start, _validated) = (checkpoint?.Iteration ?? 0, checkpoint?.Validated);
        checkpoint?.Restore(adam, average);
        folder.Start(options, Start);
    }

    /// <summary>The first iteration.</summary>
    public long Start { get; }

    /// <summary>Null before the first.</summary>
    public double? BestValidation => _stopping.Best < EarlyStopping.None ? _stopping.Best : null;

    /// <summary>At the interval and at the end; a restored run may have validated at its first iteration already.</summary>
    public bool ValidatesAt(long iteration) => (iteration % _options.ValInterval == 0 || IsLast(iteration)) && iteration != _validated;

    /// <summary>Whether there are fewer iterations left than an optimiser step takes.</summary>
    public bool IsLast(long iteration) => iteration % _options.AccumulateBs == 0 && iteration + _options.AccumulateBs > _options.MaxIters;

    /// <summary>Factor on the learning rates.</summary>
    public double RateAt(long iteration) => 1 - (1 - _options.FinalRate) * iteration / _options.MaxIters;

    /// <summary>Takes a validation down, keeps the editor if it is the best, and writes the checkpoint.</summary>
    /// <returns>Whether the best is too old.</returns>
    public bool Take(EditorValidation validation)
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
            _editor.Average?.Swap();
            EditorCheckpoint.SaveEditor(_folder.BestEditor, _editor.Stored);
            _editor.Average?.Swap();
        }
        _validated = validation.Iteration;
        Keep(validation.Iteration);
        return _stopping.IsOver(validation.Iteration);
    }

    /// <summary>Writes the checkpoint.</summary>
    /// <param name="iteration">Between two optimiser steps.</param>
    public void Keep(long iteration)
    {
        using var scope = NewDisposeScope();
        EditorCheckpoint.Save(_folder.Checkpoint, _editor.Stored, _editor.Adam, _editor.Average, iteration, _stopping.Best,
            _stopping.BestIteration, _validated);
    }

    /// <summary>Takes one edit's figures down.</summary>
    /// <param name="iteration">Edits seen, this one included.</param>
    /// <param name="norm">Of the gradient, when a step was taken.</param>
    /// <returns>The mean loss of the last edits, when it was due.</returns>
    public double? Take(long iteration, StepFigures figures, double? norm, long refused)
    {
        _sum += figures.Total;
        _summed++;
        if (iteration % ReportEvery != 0)
            return null;
        var mean = _sum / _summed; // fewer than usual after a stop between two reports
        _folder.Log(new
        {
            kind = "training",
            iteration,
            total = mean,
            figures.Edit,
            figures.Locality,
            norm,
            refused,
            seconds = _clock.Elapsed.TotalSeconds
        });
        (_sum, _summed) = (0, 0);
        return mean;
    }

    /// <summary>Since the last validation or the start of the process.</summary>
    private double Lap()
    {
        var lap = _clock.Elapsed - _lap;
        _lap += lap;
        return lap.TotalSeconds;
    }

    public TrainingResult End(long iteration, string why)
    {
        var result = new TrainingResult(iteration, why, _stopping.Best, _stopping.BestIteration);
        _folder.Log(new { kind = "end", result.Iterations, result.Stopped, bestLoss = BestValidation, result.BestIteration });
        return result;
    }
}
