using MendCluster.Contracts;
using MendCluster.Engine.Editors;

namespace MendCluster.Engine.Training;

/// <summary>
/// What takes the steps of a run (<see cref="EditorRun"/>): replicas of the model, of one or more stages each. A step is taken whole or not
/// at all. Editor, moments and average are a copy of what the replicas have; as it was at the start, or when it was last collected.
/// </summary>
public interface ITrainingReplicas : IAsyncDisposable
{
    IStoredEditor Editor { get; }

    Adam Adam { get; }

    /// <summary>Null: the run keeps none.</summary>
    ParameterAverage? Average { get; }

    /// <summary>Replicas that take part.</summary>
    int Count { get; }

    /// <summary>Gives the state to the replicas.</summary>
    /// <param name="step">That comes next.</param>
    Task OpenAsync(long step, CancellationToken cancellation);

    /// <summary>Figures of the validation's edits, by the average when the run keeps one; the statistics are left alone.</summary>
    /// <param name="step">That comes next.</param>
    Task<IReadOnlyList<StepFigures>> ValidateAsync(long step, CancellationToken cancellation);

    /// <summary>
    /// Of the step's edits, one after another: (u, delta), whose rows enter the statistics before they are normalised; the update; the
    /// losses of the edited model, and their gradient by phi and alpha. Then the mean of the gradients is clipped, and Adam takes a step.
    /// </summary>
    /// <param name="step">Counted from 0.</param>
    /// <param name="rate">Factor on the learning rates.</param>
    Task<StepResult> StepAsync(long step, double rate, CancellationToken cancellation);

    /// <summary>Brings the copy up to date.</summary>
    Task CollectAsync(CancellationToken cancellation);

    /// <summary>The same at the end of a run that was cancelled, within a time.</summary>
    /// <returns>Whether it could be done.</returns>
    Task<bool> TryCollectAsync();
}

/// <param name="Figures">Of every iteration of the step.</param>
/// <param name="Norm">Of the gradient before it was clipped; null when no step was taken.</param>
/// <param name="Refused">Gradients left out because they were not finite.</param>
public sealed record StepResult(IReadOnlyList<StepFigures> Figures, double? Norm, int Refused);
