using System.Text.RegularExpressions;
using MendCluster.Testing;

namespace MendCluster.Cli.Tests;

public sealed partial class ReproduceTests : IDisposable
{
    private static readonly string[] Ablations =
        ["MEND, not shared", "MEND, no norm", "MEND, no identity init", "MEND, only u", "MEND, only delta", "MEND, only smaller", "MEND"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    [Trait("Category", "Slow")]
    public async Task TheReducedForm_StoppedAndStartedAgain_MakesEveryRowOfEveryTable_AndNothingTwice()
    {
        string[] command = ["reproduce", "--reduced", "--out", _folder["made"], "--docs", _folder["docs/small.md"]];
        var (code, output) = await MendProgram.StopAsync(_folder.Path, "editors/qa/ke", command);
        Assert.True(code == 130, output);
        Assert.Contains("The same command goes on", output, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder["made/results.md"]));

        (code, output) = await MendProgram.RunAsync(_folder.Path, [.. command, "--results-only"]);
        Assert.True(code == 0, output);
        var unfinished = File.ReadAllText(_folder["docs/small.md"]);
        Assert.Contains("**Not finished.**", unfinished, StringComparison.Ordinal);
        Assert.Matches("Missing: editors/qa/.*, editors/gen/mend, ", unfinished); // ke may have come to its end before it was stopped
        Assert.Equal("editors/qa/mend", Rows(unfinished, "Training the editors")[0]);

        (code, output) = await MendProgram.RunAsync(_folder.Path, command);
        Assert.True(code == 0, output);
        Assert.DoesNotContain(": editors/qa/mend,", output, StringComparison.Ordinal); // done before the stop
        Assert.Contains(": editors/gen/mend,", output, StringComparison.Ordinal);
        var results = File.ReadAllText(_folder["docs/small.md"]);
        Assert.DoesNotContain("Not finished", results, StringComparison.Ordinal);
        Assert.StartsWith("**Not results", results, StringComparison.Ordinal);
        string[] rivals = ["FT", "FT+KL", "FT, breadth-first", "ENN", "KE", "MEND, to 0.95", "MEND"];
        Assert.Equal([.. rivals, "UltraEdit"], Rows(results, "Question answering, editors side by side"));
        Assert.Equal(rivals, Rows(results, "Fact checking, editors side by side"));
        Assert.Equal([.. rivals, "UltraEdit"], Rows(results, "Generation, editors side by side"));
        Assert.Equal(["ENN 4", "MEND 4"], Rows(results, "Question answering, edits at once", withCount: true));
        Assert.Equal(["FT, breadth-first", "FT, breadth-first, replay 5", "FT, breadth-first, replay 2", "FT, breadth-first, replay 10", "MEND", "MALMEN", "MALMEN, 3 rounds, preserved keys",
            "MALMEN, 3 rounds, preserved keys, beta 0.25", "MALMEN, 3 rounds, preserved keys, beta 4", "MALMEN, 3 rounds, preserved keys, beta 16",
            "UltraEdit, 100 a turn"], Rows(results, "A thousand facts, edits at once").Distinct());
        Assert.Equal(["FT, breadth-first, replay 5", "MEND", "MALMEN, 3 rounds, preserved keys"],
            Rows(results, "Edits about subjects that the model never heard of").Distinct());
        Assert.NotEmpty(Rows(results, "Aims"));
        foreach (var world in new[] { 11, 12 })
        {
            Assert.Equal(["1", "2"], Rows(results, $"World {world}, edits one after another\n"));
            Assert.Equal(["1", "2"], Rows(results, $"World {world}, edits one after another, consolidated"));
            Assert.Equal(["1", "2"], Rows(results, $"World {world}, edits one after another, routed"));
            Assert.Equal(["1", "2"], Rows(results, $"World {world}, edits one after another, each round those before"));
        }
        Assert.Matches("Then [0-2] edits were taken back", results); // of the reduced form's models not every edit succeeds
        Assert.DoesNotContain("IS NOT that of before", results, StringComparison.Ordinal);
        Assert.Equal(Ablations, Rows(results, "Question answering, MEND without its parts"));
        Assert.Equal(Ablations, Rows(results, "Generation, MEND without its parts"));
        Assert.Equal(29, Rows(results, "Training the editors").Count);
        Assert.Equal(5, Rows(results, "Models and data").Count);
        Assert.NotEmpty(Rows(results, "PaperClaims"));
        var pictures = Picture().Matches(results).Select(match => match.Groups["file"].Value).ToList();
        Assert.Equal(21, pictures.Count);
        Assert.All(pictures, picture => Assert.True(File.Exists(_folder[$"docs/{picture}"]), picture));

        var made = File.ReadAllText(_folder["made/results.md"]);
        (code, output) = await MendProgram.RunAsync(_folder.Path, command);
        Assert.True(code == 0, output);
        Assert.Contains("0 of ", output, StringComparison.Ordinal);
        Assert.DoesNotContain("editors/", output, StringComparison.Ordinal);
        Assert.Equal(made, File.ReadAllText(_folder["made/results.md"]));
    }

    [Fact]
    public async Task ResultsOfNothing_AreRefused()
    {
        var (code, output) = await MendProgram.RunAsync(_folder.Path, "reproduce", "--out", _folder["made"], "--results-only");
        Assert.Equal(1, code);
        Assert.Contains("has no step of this reproduction that is done", output, StringComparison.Ordinal);
        Assert.False(File.Exists(_folder["made/results.md"]));
    }

    [Fact]
    public async Task AnUnknownTask_IsRefused()
    {
        var (code, output) = await MendProgram.RunAsync(_folder.Path, "reproduce", "--out", _folder["made"], "--only", "qa,poetry");
        Assert.Equal(1, code);
        Assert.Contains("'poetry' is no part", output, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["made"]));
    }

    /// <summary>The first cells of a section's table; where a count stands in the second, with it.</summary>
    private static List<string> Rows(string document, string title, bool withCount = false) =>
        [.. document.Split("\n## ").Single(section => section.StartsWith(title, StringComparison.Ordinal)).Split('\n')
        .Where(line => line.StartsWith("| ", StringComparison.Ordinal)).Skip(2)
            .Select(line => line.Split('|', StringSplitOptions.TrimEntries))
                .Select(cells => withCount ? $"{cells[1]} {cells[2].Split(' ')[0]}" : cells[1])];

    [GeneratedRegex(@"!\[[^\]]+\]\((?<file>[^)]+)\)")]
    private static partial Regex Picture();
}
