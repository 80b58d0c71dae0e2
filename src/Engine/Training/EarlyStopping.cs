namespace MendCluster.Engine.Training;

/// <summary>
/// The paper's rule: keep the state with the lowest validation loss; stop when the best is <paramref name="patience"/> iterations old.
/// Looked at only when validating. NaN never becomes the best.
/// </summary>
/// <param name="patience">Iterations, not optimiser steps.</param>
public sealed class EarlyStopping(long patience, double best = EarlyStopping.None, long bestIteration = 0)
{
    /// <summary>The loss of no validation; the first that gives a number below it is the best so far.</summary>
    public const double None = 1e9;

    public double Best { get; private set; } = best;

    public long BestIteration { get; private set; } = bestIteration;

    /// <returns>Whether this is the best so far.</returns>
    public bool Observe(long iteration, double loss)
    {
        if (!(loss < Best))
            return false;
        (Best, BestIteration) = (loss, iteration);
        return true;
    }

    public bool IsOver(long iteration) => iteration - BestIteration >= patience;
}
