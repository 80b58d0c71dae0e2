using MendCluster.Experiments;
using Spectre.Console;

namespace MendCluster.Cli;

/// <summary>Results on the terminal.</summary>
internal static class Tables
{
    public static void Show(ResultTable result)
    {
        var table = new Table().Border(TableBorder.Simple).Title(Say.Cell(result.Title))
            .AddColumns([.. result.Columns.Select(Markup.Escape)]);
        foreach (var row in result.Rows)
            table.AddRow([.. row.Select(Markup.Escape)]);
        AnsiConsole.Write(table);
        foreach (var note in result.Notes)
            Say.Line($"[grey]{note}[/]");
    }
}
