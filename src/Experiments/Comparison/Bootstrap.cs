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
    public static Estimate Of<T>(IReadOnlyList<T> cases, Func<IReadOnlyList<T>, double> statistic, ulong seed = 0, double confidence = 0.95)
    {
        if (cases.Count == 0)
            throw new ArgumentException("a figure needs at least one case", nameof(cases));
        var rng = new Prng(seed);
        var drawn = new T[cases.Count];
        var figures = new double[Resamples];
        for (var i = 0; i < Resamples; i++)
        {
            for (var j = 0; j < drawn.Length; j++)
                drawn[j] = rng.Pick(cases);
            figures[i] = statistic(drawn);
        }
        Array.Sort(figures);
        var outside = (int)(Resamples * (1 - confidence) / 2);
        return new(statistic(cases), figures[outside], figures[Resamples - 1 - outside], cases.Count);
    }
}
