using MendCluster.Contracts;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// How far all edits in force together may take the model from the base model, on the probes. Held against the base model and never
/// netted: edits that each cost little in the eyes of the one before add up here.
/// </summary>
/// <param name="Drawdown">Most probes that are right on the base model and wrong after, as a fraction of all; null: any.</param>
/// <param name="Kl">Most KL divergence of the base model to the edited one, per token, in nats; null: any.</param>
internal sealed record DriftBudget(double? Drawdown, double? Kl)
{
    /// <summary>The figures of an edit with what it and all before it cost.</summary>
    /// <param name="unedited">The probes' scores on the base model; at least one.</param>
    /// <param name="after">The same with the edit.</param>
    /// <param name="kl">Of the base model to the edited one.</param>
    public EditFigures Spend(EditFigures figures, IReadOnlyList<ExampleScore> unedited, IReadOnlyList<ExampleScore> after, double kl)
    {
        var drawdown = (double)unedited.Zip(after).Count(probe => probe.First.Exact && !probe.Second.Exact) / unedited.Count;
        return figures with
        {
            TotalDrawdown = drawdown,
            TotalKl = kl,
            BudgetLeft = Math.Min(Left(drawdown, Drawdown), Left(kl, Kl)),
        };
    }

    /// <summary>Why an edit of these figures is not to be made; null: it is within the budget.</summary>
    public MendException? Refusal(EditFigures figures) =>
        figures.TotalDrawdown > Drawdown ? Refuse($"cost {figures.TotalDrawdown:P1} of the base model's answers to {figures.Probes} probes",
            $"{Drawdown:P1}")
        : figures.TotalKl > Kl ? Refuse($"take the model {figures.TotalKl:0.#####} nats a token from the base model on {figures.Probes} probes",
            $"{Kl:0.#####}")
        : null;

    private static double Left(double spent, double? limit) => limit switch
    {
        null => 1,
        0 => spent > 0 ? -1 : 0,
        { } most => 1 - spent / most,
    };

    private static MendException Refuse(string cost, string limit) => new(MendError.BudgetExceeded,
        $"With this edit all edits in force would {cost}; at most {limit} is allowed.",
        "The edit was not made. Take back edits that are no longer needed, or allow more.");
}
