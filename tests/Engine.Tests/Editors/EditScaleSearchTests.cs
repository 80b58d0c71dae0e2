using MendCluster.Engine.Editors;

namespace MendCluster.Engine.Tests.Editors;

public class EditScaleSearchTests
{
    [Theory]
    [InlineData(0.9, 0.7, 0.9, 0.7, 1)]     // at once
    [InlineData(0.9, 0.7, 0.0, 0.7, 6)]     // the answer, never sure of it: as weak as can be
    [InlineData(0.9, 1.25, 0.95, 1.25, 4)]
    [InlineData(0.9, 2, 0.3, 2, 6)]
    [InlineData(0.9, 3, 1, 1, 6)]           // never the answer: the editor's own step
    public void TheSmallestStrengthThatIsSureOfTheTarget_IsChosen(double confidence, double exactFrom, double probability, double chosen,
        int tries)
    {
        var search = new EditScaleSearch(confidence);
        var tried = new List<double>();
        while (search.Next is { } strength)
        {
            tried.Add(strength);
            search.Report(strength >= exactFrom, probability);
        }
        Assert.Equal(chosen, search.Chosen);
        Assert.Equal(EditScaleSearch.Strengths.Take(tries), tried);
    }

    [Fact]
    public void ALargerStrengthThatIsSure_IsPreferredToASmallerOneThatIsNot()
    {
        var search = new EditScaleSearch(0.9);
        search.Report(true, 0.5);
        search.Report(true, 0.91);
        Assert.Null(search.Next);
        Assert.Equal(EditScaleSearch.Strengths[1], search.Chosen);
    }
}
