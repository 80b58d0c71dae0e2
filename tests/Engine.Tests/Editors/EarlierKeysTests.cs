using MendCluster.Engine.Editors;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Editors;

/// <summary>Edits one after another by least squares, against the formulas written out with matrices of [m, m].</summary>
public sealed class EarlierKeysTests : IDisposable
{
    private const int M = 7, N = 5;

    private readonly IDisposable _scope = NewDisposeScope();
    private readonly Generator _random = new(3);

    public void Dispose()
    {
        _scope.Dispose();
        _random.Dispose();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void WhatIsTakenFromKeys_IsTheInverseOfAllThatCameBefore(bool preserves)
    {
        var (lambda, beta) = (0.5, 2.0);
        var (q, _) = linalg.qr(randn([M, 3], generator: _random));
        var preserved = preserves ? new PreservedKeys(q.t().contiguous(), tensor(new[] { 4f, 2, 1 })) : null;
        using var earlier = new EarlierKeys(preserved);
        List<Tensor> before = [.. new[] { 2, 1, 4 }.Select(rows => randn([rows, M], generator: _random))];
        foreach (var keys in before)
            earlier.Add(keys);
        Assert.Equal(7, earlier.Count);
        var own = Double(randn([2, M], generator: _random));
        var expected = own.mm(linalg.inv(Ridge(preserved, before, lambda, beta * (7 + 2)))).Times(lambda);
        Assert.True((expected - earlier.Around(own, lambda, beta)).abs().max().item<double>() < 1e-5);
    }

    /// <summary>More than m rows say no more than m of them: compressed, they are the same matrix.</summary>
    [Fact]
    public void RowsAreCompressed_WithoutLoss_WhereTheyHaveNoMoreDirections()
    {
        using var earlier = new EarlierKeys(null);
        List<Tensor> before = [.. Enumerable.Range(0, 120).Select(_ => randn([3, M], generator: _random))];
        foreach (var keys in before)
            earlier.Add(keys);
        Assert.Equal(360, earlier.Count);
        var own = Double(randn([2, M], generator: _random));
        var expected = own.mm(linalg.inv(Ridge(null, before, 0.5, 0))).Times(0.5);
        Assert.True((expected - earlier.Around(own, 0.5, 1)).abs().max().item<double>() < 1e-6 * own.abs().max().item<double>());
    }

    [Fact]
    public void WithNothingBefore_AnEditIsWhatItIsByItself()
    {
        using var malmen = new Malmen(new() { Rank = 4, EditLr = 0.1, Sequential = true }, [new("w", M, N)], 1);
        var factors = Factors(3);
        malmen.AddToStatistics(factors);
        using var none = malmen.NoEarlier("w");
        var (alone, first) = (malmen.Propose(factors)["w"], malmen.ProposeAfter(factors, null, new Dictionary<string, EarlierKeys> { ["w"] = none })["w"]);
        Assert.True((alone.ToDense() - first.ToDense()).abs().max().item<float>() < 1e-6 * alone.ToDense().abs().max().item<float>());
    }

    [Fact]
    public void AnEdit_MovesTheOutputsOfEarlierKeysLess_AndItsOwnAlmostAsMuch()
    {
        using var malmen = new Malmen(new() { Rank = 4, EditLr = 0.1, Lambda = 1e-3, Sequential = true }, [new("w", M, N)], 1);
        var (before, own) = (Factors(2), Factors(2));
        malmen.AddToStatistics(before);
        malmen.AddToStatistics(own);
        using var earlier = malmen.NoEarlier("w");
        var alone = malmen.ProposeAfter(own, null, new Dictionary<string, EarlierKeys> { ["w"] = earlier })["w"];
        earlier.Add(before["w"].u);
        var around = malmen.ProposeAfter(own, null, new Dictionary<string, EarlierKeys> { ["w"] = earlier })["w"];
        Assert.True(Moved(around, before) < 0.05 * Moved(alone, before), $"{Moved(around, before)} {Moved(alone, before)}");
        Assert.True(Moved(around, own) > 0.9 * Moved(alone, own), $"{Moved(around, own)} {Moved(alone, own)}");
        Assert.Equal(2, around.Rank);

        static double Moved(LowRankUpdate update, IReadOnlyDictionary<string, GradientFactors> of) =>
            of["w"].u.mm(update.ToDense().t()).norm().item<float>();
    }

    private Dictionary<string, GradientFactors> Factors(int rows) =>
        new() { ["w"] = new(randn([rows, M], generator: _random), randn([rows, N], generator: _random)) };

    /// <summary>lambda I + weight Q^T diag(values) Q + sum K^T K.</summary>
    private static Tensor Ridge(PreservedKeys? preserved, IEnumerable<Tensor> keys, double lambda, double weight)
    {
        var all = Double(cat([.. keys], 0));
        var ridge = eye(M, dtype: ScalarType.Float64).Times(lambda).Plus(all.t().mm(all));
        return preserved is null ? ridge
            : ridge.Plus((Double(preserved.Q).t() * Double(preserved.Values)).mm(Double(preserved.Q)).Times(weight));
    }

    private static Tensor Double(Tensor values) => values.to_type(ScalarType.Float64);
}
