using MendCluster.Engine.Data;

namespace MendCluster.Engine.Tests.Data;

public class EditSamplerTests
{
    [Fact]
    public void EveryEdit_ComesOncePerPermutation_AndPermutationsDiffer()
    {
        var sampler = new EditSampler(seed: 5, edits: 30, locality: 30, sameRows: true);
        var first = Edits(sampler, 0, 30);
        var second = Edits(sampler, 30, 30);

        Assert.Equal(Enumerable.Range(0, 30), first.Order());
        Assert.Equal(Enumerable.Range(0, 30), second.Order());
        Assert.NotEqual(first, second);
    }

    [Theory]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(10)]
    public void SeveralEditsAStep_AreDistinct_AndNoneComesTwiceInAPermutation(int editsPerStep)
    {
        var sampler = new EditSampler(5, 10, 11, sameRows: true, editsPerStep, localityPerStep: 4);
        var steps = 10 / editsPerStep;
        for (var pass = 0; pass < 20; pass++)
        {
            var edits = Edits(sampler, pass * steps, steps);
            Assert.Equal(steps * editsPerStep, edits.Distinct().Count());
        }
    }

    [Fact]
    public void LeftOutEnds_AreNotAlwaysTheSameEdits()
    {
        var sampler = new EditSampler(5, 10, 10, sameRows: true, editsPerStep: 4);
        Assert.Equal(10, Edits(sampler, 0, 20).Distinct().Count());
    }

    [Fact]
    public void LocalityOfTheSameRows_NeverMeetsTheEdits_AndIsDrawnWithReplacement()
    {
        var sampler = new EditSampler(5, 8, 8, sameRows: true, editsPerStep: 3, localityPerStep: 6);
        var draws = Enumerable.Range(0, 500).Select(step => sampler.At(step)).ToList();

        Assert.All(draws, draw => Assert.Empty(draw.Edits.Intersect(draw.Locality)));
        Assert.Contains(draws, draw => draw.Locality.Distinct().Count() < 6);
        Assert.Equal(8, draws.SelectMany(draw => draw.Locality).Distinct().Count());
    }

    [Fact]
    public void LocalityFromElsewhere_ReachesEveryRow()
    {
        var sampler = new EditSampler(5, 2, 9, sameRows: false, editsPerStep: 2, localityPerStep: 1);
        Assert.Equal(9, Enumerable.Range(0, 500).SelectMany(step => sampler.At(step).Locality).Distinct().Count());
    }

    [Fact]
    public void AnyStep_AskedOfANewSampler_IsTheSameDraw()
    {
        var sampler = new EditSampler(5, 10, 10, sameRows: true, editsPerStep: 3, localityPerStep: 2);
        for (var step = 0; step < 40; step++)
        {
            var resumed = new EditSampler(5, 10, 10, sameRows: true, editsPerStep: 3, localityPerStep: 2).At(step);
            var draw = sampler.At(step);
            Assert.Equal(draw.Edits, resumed.Edits);
            Assert.Equal(draw.Locality, resumed.Locality);
        }
    }

    [Fact]
    public void AnotherSeed_DrawsOtherRows() =>
        Assert.NotEqual(
            Edits(new EditSampler(5, 100, 100, sameRows: true), 0, 100),
            Edits(new EditSampler(6, 100, 100, sameRows: true), 0, 100));

    [Fact]
    public void TooFewRowsForAStep_AreRefusedWithBothNumbers()
    {
        var edits = Assert.Throws<ArgumentException>(() => new EditSampler(0, 2, 9, sameRows: false, editsPerStep: 3));
        Assert.Contains("3 different edits, the data has 2", edits.Message, StringComparison.Ordinal);
        // Would draw for ever: every locality row is being edited.
        var locality = Assert.Throws<ArgumentException>(() => new EditSampler(0, 3, 3, sameRows: true, editsPerStep: 3));
        Assert.Contains("the data has 3", locality.Message, StringComparison.Ordinal);
        Assert.Throws<ArgumentException>(() => new EditSampler(0, 3, 0, sameRows: false));
    }

    private static List<int> Edits(EditSampler sampler, int start, int steps) =>
        [.. Enumerable.Range(start, steps).SelectMany(step => sampler.At(step).Edits)];
}
