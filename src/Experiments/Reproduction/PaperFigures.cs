using System.Globalization;
using MendCluster.Engine.Data;

namespace MendCluster.Experiments;

/// <summary>A published figure, as printed: many are bounds such as "&lt;0.001".</summary>
/// <param name="Success">Edit success.</param>
/// <param name="Drawdown">Of accuracy; of perplexity in generation.</param>
public sealed record PaperFigure(string Success, string Drawdown)
{
    public double SuccessValue => double.Parse(Success.TrimStart('<', '>'), CultureInfo.InvariantCulture);
}

/// <summary>
/// The tables of Mitchell et al. 2022 ("Fast Model Editing at Scale"), by the names that the editors have here. Of other models than ours,
/// so they are for orientation.
/// </summary>
public static class PaperFigures
{
    /// <summary>The paper's small model for a task.</summary>
    public static string ModelOf(EditTaskKind task) => task switch
    {
        EditTaskKind.Qa => "BART-base",
        EditTaskKind.Fc => "BERT-base",
        _ => "distilGPT-2",
    };

    /// <summary>Table 4.</summary>
    public static IReadOnlyDictionary<string, PaperFigure> SideBySide(EditTaskKind task) => task switch
    {
        EditTaskKind.Qa => new Dictionary<string, PaperFigure>
        {
            ["FT"] = new("0.96", "<0.001"),
            ["FT+KL"] = new("0.89", "<0.001"),
            ["ENN"] = new("0.99", "<0.001"),
            ["KE"] = new("0.98", "<0.001"),
            ["MEND"] = new("0.98", "0.002"),
        },
        EditTaskKind.Fc => new Dictionary<string, PaperFigure>
        {
            ["FT"] = new("0.76", "<0.001"),
            ["FT+KL"] = new("0.64", "<0.001"),
            ["ENN"] = new("0.99", "0.003"),
            ["KE"] = new("0.95", "0.004"),
            ["MEND"] = new(">0.99", "<0.001"),
        },
        _ => new Dictionary<string, PaperFigure>
        {
            ["FT"] = new("0.29", "0.938"),
            ["FT+KL"] = new("0.17", "0.059"),
            ["ENN"] = new("0.93", "0.094"),
            ["KE"] = new("0.25", "0.595"),
            ["MEND"] = new("0.86", "0.225"),
        },
    };

    /// <summary>Table 5: question answering, trained and evaluated at that many edits.</summary>
    public static IReadOnlyDictionary<(string Editor, int Edits), PaperFigure> AtOnce { get; } = new Dictionary<(string, int), PaperFigure>
    {
        [("ENN", 1)] = new("0.99", "<0.001"),
        [("ENN", 5)] = new("0.94", "0.007"),
        [("ENN", 25)] = new("0.35", "0.005"),
        [("ENN", 75)] = new("0.16", "0.005"),
        [("ENN", 125)] = new("0.11", "0.006"),
        [("MEND", 1)] = new("0.98", "0.002"),
        [("MEND", 5)] = new("0.97", "0.005"),
        [("MEND", 25)] = new("0.89", "0.011"),
        [("MEND", 75)] = new("0.78", "0.011"),
        [("MEND", 125)] = new("0.67", "0.012"),
    };

    /// <summary>Table 6; of fact checking there is none.</summary>
    public static IReadOnlyDictionary<string, PaperFigure> Ablations(EditTaskKind task) => task == EditTaskKind.Gen
        ? new Dictionary<string, PaperFigure>
        {
            ["MEND, not shared"] = new("0.86", "0.195"),
            ["MEND, no norm"] = new("0.02", "0.370"),
            ["MEND, no identity init"] = new("0.27", "0.898"),
            ["MEND, only u"] = new("0.63", "0.559"),
            ["MEND, only delta"] = new("0.80", "0.445"),
            ["MEND, only smaller"] = new("0.80", "0.593"),
            ["MEND"] = new("0.86", "0.225"),
        }
        : new Dictionary<string, PaperFigure>
        {
            ["MEND, not shared"] = new(">0.99", "0.001"),
            ["MEND, no norm"] = new("0.97", "<0.001"),
            ["MEND, no identity init"] = new("0.94", "<0.001"),
            ["MEND, only u"] = new("0.98", "0.002"),
            ["MEND, only delta"] = new("0.99", "0.001"),
            ["MEND, only smaller"] = new("0.98", "0.002"),
            ["MEND"] = new(">0.99", "0.001"),
        };

    /// <summary>Table 3.</summary>
    public static ResultTable VeryLarge { get; } = new("The paper's very large models",
        ["editor", "paper: GPT-Neo 2.7B", "paper: GPT-J 6B", "paper: T5-XL 2.8B", "paper: T5-XXL 11B"],
        [
            ["FT", "0.55 / 0.195", "0.80 / 0.125", "0.58 / <0.001", "0.87 / <0.001"],
            ["FT+KL", "0.40 / 0.026", "0.36 / 0.109", "0.55 / <0.001", "0.85 / <0.001"],
            ["KE", "0.00 / 0.137", "0.01 / 0.068", "0.03 / <0.001", "0.04 / <0.001"],
            ["MEND", "0.81 / 0.057", "0.88 / 0.031", "0.88 / 0.001", "0.89 / <0.001"],
        ],
        ["Edit success / drawdown: of perplexity with the GPTs on Wikitext, of accuracy with the T5s on zsRE. Its table 3; nothing here was measured by us."]);
}
