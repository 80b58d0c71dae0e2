using System.Text.Json;
using System.Xml.Linq;
using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

public class ResultTablesTests
{
    private const string Figure = "1.0000 (1.000-1.000)";

    [Fact]
    public void AMarkdownTable_IsThis()
    {
        var table = new ResultTable("Some | edits", ["editor", "edit success"], [["MEND | a", "0.5"], ["FT", "-"]],
            ["Exact match.", "Seed 1."]);
        Assert.Equal("""
            ## Some | edits

            | editor | edit success |
            | --- | ---: |
            | MEND \| a | 0.5 |
            | FT | - |

            Exact match.

            Seed 1.

            """.ReplaceLineEndings("\n"), table.ToMarkdown());
    }

    [Fact]
    public void SideBySide_EachEditorHasItsRow_AndTheNoteItsProtocol()
    {
        var table = ResultTables.Of([Reports.Of("MEND"), Reports.Of("FT", kept: 1)]);
        Assert.Equal(["editor", "edit success", "on paraphrases", "on both (Eq. 1)", "before the edit", "free-running", "drawdown", "retained",
            "KL", "ms an edit", "MB"], table.Columns);
        const string none = "0.0000 (0.000-0.000)";
        Assert.Equal(["MEND", Figure, Figure, Figure, none, Figure, none, Figure, "0.2500 (0.250-0.250)", "12.5", "2.5"], table.Rows[0]);
        Assert.Equal(["FT", Figure, "0.5000 (0.000-1.000)", "0.7500 (0.500-1.000)", none, "0.5000 (0.000-1.000)"], table.Rows[1].Take(6));
        Assert.Equal(["Exact match. Own rows. 32 tokens. float32; seed 7; 2 cases d1; model m1; MEND of MEND, FT of FT."], table.Notes);
    }

    [Fact]
    public void EditsAtOnce_HaveTheirColumn_AndTextsTheirDrawdown()
    {
        var table = ResultTables.Of([Reports.Of("MEND", 1, task: EditTaskKind.Gen), Reports.Of("MEND", 2, task: EditTaskKind.Gen)]);
        Assert.Equal(["MEND 1", "MEND 2"], table.Rows.Select(row => $"{row[0]} {row[1]}"));
        Assert.Equal(["edits at once", "perplexity drawdown", "ms a batch"], table.Columns.Where((_, i) => i is 1 or 7 or 10));
    }

    [Fact]
    public void AFolderOfResults_HasFiguresWithoutCases_ATable_AndPicturesThatAreXml()
    {
        using var folder = new TemporaryFolder();
        EditorReport[] reports =
            [Reports.Of("MEND, <u> & delta", 1), Reports.Of("MEND, <u> & delta", 2, kept: 1), Reports.Of("UltraEdit", 1)];
        ResultTables.Write(folder.Path, reports);

        using var json = JsonDocument.Parse(File.ReadAllText(folder["results.json"]));
        Assert.Equal([1, 2, 1], json.RootElement.EnumerateArray().Select(report => report.GetProperty("edits").GetInt32()));
        Assert.All(json.RootElement.EnumerateArray(), report => Assert.False(report.TryGetProperty("cases", out _)));
        Assert.All(json.RootElement.EnumerateArray(),
            report => Assert.Equal("m1", report.GetProperty("protocol").GetProperty("model").GetString()));
        Assert.StartsWith(ResultTables.AtOnce(reports).ToMarkdown(), File.ReadAllText(folder["results.md"]), StringComparison.Ordinal);
        foreach (var picture in new[] { "edit-success.svg", "drawdown.svg" })
        {
            var texts = XDocument.Load(folder[picture]).Descendants().Where(element => element.Name.LocalName == "text")
                .Select(element => element.Value).ToList();
            Assert.Contains("MEND, <u> & delta", texts);
            Assert.Contains("2", texts); // edits at once
        }
    }

    [Fact]
    public void ALinearChart_HasItsWholeIntervalsBetweenItsTicks()
    {
        var svg = XDocument.Parse(new LineChart("t", "x", "y", [new("a", [new(0, 0.5, -0.03, 0.97)])]) { XNames = ["one"] }.ToSvg());
        var ticks = svg.Descendants()
            .Where(element => element.Name.LocalName == "line" && (string)element.Attribute("stroke")! == "#dddddd")
            .Select(line => (double)line.Attribute("y1")!).ToList();
        var whisker = svg.Descendants()
            .Single(element => element.Name.LocalName == "line" && (string)element.Attribute("stroke")! != "#dddddd");
        Assert.InRange((double)whisker.Attribute("y1")!, ticks.Min(), ticks.Max());
        Assert.InRange((double)whisker.Attribute("y2")!, ticks.Min(), ticks.Max());
        Assert.Contains("0", svg.Descendants().Select(element => element.Value));
    }
}
