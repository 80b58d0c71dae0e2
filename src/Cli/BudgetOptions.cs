using System.CommandLine;
using MendCluster.Distributed.Editing;

namespace MendCluster.Cli;

/// <summary>What all edits in force together may cost: of one edit, or of a model whatever its callers allow.</summary>
internal sealed class BudgetOptions
{
    private readonly Option<double?> _drawdown, _kl;

    /// <param name="refused">Which edits are refused.</param>
    public BudgetOptions(string refused)
    {
        _drawdown = new Option<double?>("--max-total-drawdown")
        {
            Description = $"refuse {refused} when with it all edits in force together cost more than this fraction of the probes, "
                + "held against the unedited model"
        }.Within(0, 1);
        _kl = new Option<double?>("--max-total-kl")
        {
            Description = "the same of their KL divergence from the unedited model on the probes, in nats a token"
        }.Within(0);
        All = [_drawdown, _kl];
    }

    public IReadOnlyList<Option> All { get; }

    /// <returns>Null: neither was given.</returns>
    public DriftBudget? Of(ParseResult parsed)
    {
        var (drawdown, kl) = (parsed.GetValue(_drawdown), parsed.GetValue(_kl));
        return drawdown is null && kl is null ? null : new(drawdown, kl);
    }
}
