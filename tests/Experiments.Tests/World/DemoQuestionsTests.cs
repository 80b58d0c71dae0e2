using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

public sealed class DemoQuestionsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(ProbeSet.FileName, 16)]
    [InlineData(ReplaySet.FileName, 3816)]
    public void TheDemosQuestions_AreWhatItsRecipeWrites_AndNoneIsEdited(string file, int count)
    {
        DemoRecipe.WriteQuestions(_folder.Path);
        var shipped = Path.Combine(FixtureFolder.Repository, "src", "Cli", "Demo", file);
        Assert.Equal(File.ReadAllLines(_folder[file]), File.ReadAllLines(shipped));
        var questions = ProbeSet.Read(shipped).Select(probe => probe.Question).ToList();
        Assert.Equal(count, questions.Distinct().Count());
        Assert.Empty(questions.Intersect(DemoRecipe.HeldOutEdits().SelectMany(edit =>
            edit.Rephrases.Prepend(edit.Prompt).Concat(edit.Locality.Select(row => row.Question)))));
    }
}
