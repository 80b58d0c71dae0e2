using System.Globalization;
using MendCluster.Engine.Data;

namespace MendCluster.Experiments;

/// <summary>A figure measured on a sample of cases, with its confidence interval.</summary>
/// <param name="Low">Lower end of the interval.</param>
/// <param name="High">Upper end of the interval.</param>
/// <param name="Cases">How many cases it was measured on.</param>
public sealed record Estimate(double Value, double Low, double High, int Cases)
{
    /// <summary>"0.9733 (0.953-0.990)".</summary>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"{Value:0.0000} ({Low:0.000}-{High:0.000})");
}

/// <summary>
/// Confidence intervals without assumptions on the distribution (Efron's percentile bootstrap). Whole cases are drawn, because the
/// questions of one case are not independent. Where all cases agree the interval has no width, however few they are.
/// </summary>
public static class Bootstrap
{
    private const int Resamples = 1000;

    /// <param name="cases">At least one.</param>
    /// <param name="statistic">The figure as a function of the cases.</param>
    /// <param name="seed">Of the draws: the same seed gives the same interval.</param>
    /// <param name="confidence">Share of the resampled figures inside the interval.</param>
    public static Estimate Of<T>(IReadOnlyList<T> cases, Func<IReadOnlyList<T>, double> statistic, ulong seed = 0, double confidence = 0.95) =>
        Of(cases, rng => [.. cases.Select(_ => rng.Pick(cases))], statistic, seed, confidence);

    /// <summary>
    /// Of cases that are alike in groups, such as those of edits that share one edited model: groups are drawn, then cases of each. Of one group
    /// the interval is that of its cases: what another group would have given, it cannot tell.
    /// </summary>
    /// <param name="groups">At least one, each with at least one case.</param>
    public static Estimate OfGroups<T>(IReadOnlyList<IReadOnlyList<T>> groups, Func<IReadOnlyList<T>, double> statistic, ulong seed = 0,
        double confidence = 0.95) => Of([.. groups.SelectMany(group => group)], rng => [.. groups.SelectMany(_ =>
        {
            var group = rng.Pick(groups);
            return group.Select(_ => rng.Pick(group)).ToList();
        })], statistic, seed, confidence);

    private static Estimate Of<T>(IReadOnlyList<T> cases, Func<Prng, IReadOnlyList<T>> draw, Func<IReadOnlyList<T>, double> statistic, ulong seed,
        double confidence)
    {
        if (cases.Count == 0)
            throw new ArgumentException("a figure needs at least one case", nameof(cases));
        var rng = new Prng(seed);
        var figures = new double[Resamples];
        for (var i = 0; i < Resamples; i++)
            figures[i] = statistic(draw(rng));
        Array.Sort(figures);
        var outside = (int)(Resamples * (1 - confidence) / 2);
        return new(statistic(cases), figures[outside], figures[Resamples - 1 - outside], cases.Count);
    }
}
