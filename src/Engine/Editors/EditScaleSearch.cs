namespace MendCluster.Engine.Editors;

/// <summary>
/// How large a step an edit needs: of several multiples of the editor's own step (alpha), smallest first, the first at which the edited
/// model answers the target with the wanted probability. An editor is trained to one step for all edits, which is more than most need, at a
/// cost to unrelated answers, and less than some do. Each try is one forward pass of the prompt.
/// Where no step reaches the probability: the first at which the target is the answer at all; where there is none, the editor's own.
/// </summary>
/// <param name="confidence">Of the target, from 0 to 1: geometric mean over its tokens.</param>
public sealed class EditScaleSearch(double confidence)
{
    private readonly Queue<double> _untried = new(Strengths);
    private double? _chosen;

    /// <summary>Factors on alpha.</summary>
    public static IReadOnlyList<double> Strengths { get; } = [0.7, 0.85, 1, 1.25, 1.5, 2];

    /// <summary>What to try next; null: the search is over.</summary>
    public double? Next => _untried.TryPeek(out var strength) ? strength : null;

    /// <summary>The best so far.</summary>
    public double Chosen => _chosen ?? 1;

    /// <summary>Takes what <see cref="Next"/> gave.</summary>
    /// <param name="exact">Every token of the target is the most likely one.</param>
    /// <param name="probability">Of the target, geometric mean over its tokens.</param>
    public void Report(bool exact, double probability)
    {
        var strength = _untried.Dequeue();
        if (!exact)
            return;
        _chosen ??= strength;
        if (probability < confidence)
            return;
        _chosen = strength;
        _untried.Clear();
    }
}
