using System.Text;

namespace MendCluster.Experiments;

/// <summary>A table as data; how it looks is its renderer's affair.</summary>
/// <param name="Columns">Their heads. The first column names the row.</param>
/// <param name="Rows">Cells as text, as many as there are columns.</param>
/// <param name="Notes">A line each, below the table: how the figures were made.</param>
public sealed record ResultTable(string Title, IReadOnlyList<string> Columns, IReadOnlyList<IReadOnlyList<string>> Rows,
    IReadOnlyList<string> Notes)
{
    /// <summary>As a section of a Markdown document; figures stand to the right.</summary>
    public string ToMarkdown()
    {
        var text = new StringBuilder($"## {Title}\n\n");
        Row(Columns);
        Row([.. Columns.Select((_, i) => i == 0 ? "---" : "---:")]);
        foreach (var row in Rows)
            Row(row);
        foreach (var note in Notes)
            text.Append('\n').Append(note).Append('\n');
        return text.ToString();

        void Row(IReadOnlyList<string> cells) =>
            text.Append("| ").AppendJoin(" | ", cells.Select(cell => cell.Replace("|", "\\|", StringComparison.Ordinal))).Append(" |\n");
    }
}
