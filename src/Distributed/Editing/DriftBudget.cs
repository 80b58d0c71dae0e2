using MendCluster.Contracts;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// How far all edits in force together may take the model from the base model, on the probes. Held against the base model and never
/// netted: edits that each cost little in the eyes of the one before add up here.
/// </summary>
/// <param name="MaxTotalDrawdown">
/// Most probes that are right on the base model and wrong after, as a fraction of all; null: any.
/// </param>
/// <param name="MaxTotalKl">Most KL divergence of the base model to the edited one, per token, in nats; null: any.</param>
public sealed record DriftBudget(double? MaxTotalDrawdown = null, double? MaxTotalKl = null)
{
    /// <summary>Why it is no budget of a model with that many probes: each begins with the limit's name.</summary>
    public IEnumerable<string> Faults(int probes)
    {
        if (MaxTotalDrawdown is { } part && part is not (>= 0 and <= 1))
            yield return $"{nameof(MaxTotalDrawdown)} is {part}; it is a fraction of the probes, from 0 to 1";
        if (MaxTotalKl is { } nats && !(nats >= 0 && double.IsFinite(nats)))
            yield return $"{nameof(MaxTotalKl)} is {nats}; it is a finite number of nats, at least 0";
        if (MaxTotalDrawdown is null && MaxTotalKl is null)
            yield return $"{nameof(MaxTotalDrawdown)} and {nameof(MaxTotalKl)} are both missing; a budget has one of them";
        if (probes == 0)
            yield return $"{(MaxTotalDrawdown is null ? nameof(MaxTotalKl) : nameof(MaxTotalDrawdown))} is given, "
                + "and there are no probes to measure it on";
    }

    /// <returns>The budget itself.</returns>
    /// <exception cref="MendException">It has a fault.</exception>
    public DriftBudget Checked(int probes) => Faults(probes).FirstOrDefault() is not { } fault ? this
        : throw new MendException(MendError.InvalidOption, $"{fault}.",
            "Correct the limit, or leave it out. Probes are in probes.tsv beside the model: a question, a tab and its answer a line.");

    /// <summary>The figures of an edit with what it and all before it cost.</summary>
    /// <param name="unedited">The probes' scores on the base model; at least one.</param>
    /// <param name="after">The same with the edit.</param>
    /// <param name="kl">Of the base model to the edited one.</param>
    internal EditFigures Spend(EditFigures figures, IReadOnlyList<ExampleScore> unedited, IReadOnlyList<ExampleScore> after, double kl)
    {
        var drawdown = Drawdown(unedited, after);
        return figures with
        {
            TotalDrawdown = drawdown,
            TotalKl = kl,
            BudgetLeft = MaxTotalDrawdown is null && MaxTotalKl is null ? null // measured for consolidations alone
                : Math.Min(Left(drawdown, MaxTotalDrawdown), Left(kl, MaxTotalKl)),
        };
    }

    /// <summary>Fraction of the probes that the base model answers rightly and the edited one does not.</summary>
    internal static double Drawdown(IReadOnlyList<ExampleScore> unedited, IReadOnlyList<ExampleScore> after) =>
        (double)unedited.Zip(after).Count(probe => probe.First.Exact && !probe.Second.Exact) / unedited.Count;

    /// <summary>Why an edit of these figures is not to be made; null: it is within the budget.</summary>
    /// <param name="whose">Who allows no more.</param>
    internal MendException? Refusal(EditFigures figures, string whose) =>
        figures.TotalDrawdown > MaxTotalDrawdown
            ? Refuse($"cost {figures.TotalDrawdown:P1} of the base model's answers to {figures.Probes} probes",
                $"{MaxTotalDrawdown:P1}", whose)
        : figures.TotalKl > MaxTotalKl
            ? Refuse($"take the model {figures.TotalKl:0.#####} nats a token from the base model on {figures.Probes} probes",
                $"{MaxTotalKl:0.#####}", whose)
        : null;

    private static double Left(double spent, double? limit) => limit switch
    {
        null => 1,
        0 => spent > 0 ? -1 : 0,
        { } most => 1 - spent / most,
    };

    private static MendException Refuse(string cost, string limit, string whose) => new(MendError.BudgetExceeded,
        $"With this edit all edits in force would {cost}; {whose} allows at most {limit}.",
        "The edit was not made. Take back edits that are no longer needed, or allow more.");
}
