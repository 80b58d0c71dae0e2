using MendCluster.Engine.Data;

namespace MendCluster.Experiments.Tests;

public class BootstrapTests
{
    [Fact]
    public void IntervalOfAMean_IsAboutTwoStandardErrors()
    {
        // 400 cases, half of them right: the standard error is 0.5 / 20, and 1.96 of them 0.049.
        double[] values = [.. Enumerable.Range(0, 400).Select(i => (double)(i % 2))];
        var estimate = Bootstrap.Of(values, drawn => drawn.Average());
        Assert.Equal((0.5, 400), (estimate.Value, estimate.Cases));
        Assert.Equal(0.451, estimate.Low, 0.008);
        Assert.Equal(0.549, estimate.High, 0.008);
    }

    [Fact]
    public void Intervals_HoldTheTruthAboutAsOftenAsTheySay()
    {
        var rng = new Prng(3);
        var held = Enumerable.Range(0, 200).Count(seed =>
        {
            double[] sample = [.. Enumerable.Range(0, 60).Select(_ => (double)rng.Next(10))]; // mean 4.5
            var estimate = Bootstrap.Of(sample, drawn => drawn.Average(), (ulong)seed, confidence: 0.8);
            return estimate.Low <= 4.5 && 4.5 <= estimate.High;
        });
        // 0.8 of 200, give or take four standard deviations.
        Assert.InRange(held, 160 - 23, 160 + 23);
    }

    [Fact]
    public void CasesThatAreAlikeInGroups_GiveAsManyCasesAsGroups()
    {
        // 40 groups of 10 equal cases, half of them right: the standard error is that of 40 cases, 0.079, not that of 400
        List<IReadOnlyList<double>> groups =
            [.. Enumerable.Range(0, 40).Select(i => (IReadOnlyList<double>)[.. Enumerable.Repeat((double)(i % 2), 10)])];
        var estimate = Bootstrap.OfGroups(groups, drawn => drawn.Average());
        Assert.Equal((0.5, 400), (estimate.Value, estimate.Cases));
        Assert.Equal(0.5 - 1.96 * 0.079, estimate.Low, 0.03);
        Assert.Equal(0.5 + 1.96 * 0.079, estimate.High, 0.03);

        double[] one = [.. Enumerable.Range(0, 400).Select(i => (double)(i % 2))];
        Assert.Equal(0.451, Bootstrap.OfGroups([one], drawn => drawn.Average()).Low, 0.008);
    }

    [Fact]
    public void SameSeed_GivesTheSameInterval_AnotherAnother()
    {
        double[] values = [.. Enumerable.Range(0, 50).Select(i => Math.Sqrt(i))];
        Assert.Equal(Bootstrap.Of(values, drawn => drawn.Average(), 1), Bootstrap.Of(values, drawn => drawn.Average(), 1));
        Assert.NotEqual(Bootstrap.Of(values, drawn => drawn.Average(), 1), Bootstrap.Of(values, drawn => drawn.Average(), 2));
    }

    [Fact]
    public void NoCases_AreRefused() =>
        Assert.Throws<ArgumentException>(() => Bootstrap.Of(Array.Empty<double>(), drawn => drawn.Average()));
}
