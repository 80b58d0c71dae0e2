using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Engine;
using MendCluster.Engine.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

/// <summary>Many edits in force cost no more than the matrix that they change, and compute what their factors say.</summary>
public sealed class FoldedEditsTests : IDisposable
{
    private const string Weight = "weight";
    private const int M = 24, N = 40, MostRows = M * N / (2 * (M + N)); // 7

    private readonly DisposeScope _scope = NewDisposeScope();
    private readonly Generator _random = new(3, CPU);

    public void Dispose()
    {
        _scope.Dispose();
        _random.Dispose();
    }

    [Fact]
    public void HoweverManyEdits_TheyComputeTheirSum_InFewRowsAndOneMatrix()
    {
        var edits = Edits(60);
        var x = randn([5, M], generator: _random);
        using var updates = new UpdatesAtVersion(InForce(edits), CPU);
        var update = (FoldedUpdate)updates.For(null).For(Weight)!;
        Assert.InRange(update.Rows!.Rank, 1, MostRows + 3);
        Assert.Single(update.Sums);
        var expected = edits.Aggregate(zeros(5, N, ScalarType.Float64),
            (sum, edit) => sum - x.to_type(ScalarType.Float64).mm(edit.Updates[Weight].ToDense().to_type(ScalarType.Float64).t()));
        Assert.True((update.Of(x).to_type(ScalarType.Float64) - expected).abs().max().item<double>() < 1e-4 * expected.abs().max().item<double>());
    }

    [Fact]
    public void TheirBits_DependOnTheListAlone()
    {
        var edits = Edits(30, scope: i => i % 3 == 0 ? "own" : null);
        foreach (var scope in new[] { null, "own" })
            foreach (var without in new[] { 0, 13, 29 })
            {
                List<ActiveEdit> left = [.. edits.Where((_, i) => i != without)];
                using var anew = new UpdatesAtVersion(InForce(left), CPU);
                using var grown = Grown(edits, scope);
                using var older = Grown(edits[..20], scope);
                using var reverted = new UpdatesAtVersion(InForce(left), CPU, [older, grown]);
                Assert.Equal(Bits(anew.For(scope)), Bits(reverted.For(scope)));
                using var regrown = Grown(left, scope);
                Assert.Equal(Bits(anew.For(scope)), Bits(regrown.For(scope)));
            }
    }

    [Theory]
    [InlineData(null)]
    [InlineData("own")]
    public void WhatIsTried_IsToTheBitWhatIsCommitted(string? scope)
    {
        var edits = Edits(25, scope: i => i % 2 == 0 ? scope : null);
        for (var i = 0; i < edits.Count; i += scope is null ? 1 : 2)
        {
            using var before = new UpdatesAtVersion(InForce(edits[..i]), CPU);
            using var after = new UpdatesAtVersion(InForce(edits[..(i + 1)]), CPU, [before]);
            Assert.Equal(Bits(after.For(scope)), Bits(before.OnTop(scope, edits[i].Updates)));
        }
    }

    /// <summary>A version whose like was asked for at every step.</summary>
    [Fact]
    public void ARoutedEdit_IsOnTopOfTheOthers_ForWhoeverNamesIt_AlsoAfterManyWereLetGoOf()
    {
        List<ActiveEdit> shared = Edits(2), routed = [.. Edits(300).Select((edit, i) => new ActiveEdit(null, edit.Updates, [], new(i + 10)))];
        using var updates = new UpdatesAtVersion(InForce([.. shared, .. routed]), CPU);
        using var alone = new UpdatesAtVersion(InForce(shared), CPU);
        var plain = Bits(updates.For(null));
        Assert.Equal(Bits(alone.For(null)), plain);
        List<string> each = [.. routed.Select(edit => Bits(updates.For(null, edit.Route)))];
        foreach (var (edit, bits) in routed.Zip(each))
        {
            using var top = new UpdatesAtVersion(InForce([.. shared, new(null, edit.Updates, [])]), CPU);
            Assert.Equal(Bits(top.For(null)), bits);
        }
        var kept = updates.For(null, routed[0].Route);
        updates.TrimRoutes();
        Assert.NotSame(kept, updates.For(null, routed[0].Route));
        Assert.Equal(each, routed.Select(edit => Bits(updates.For(null, edit.Route))));
        Assert.Equal(plain, Bits(updates.For(null)));
        Assert.Equal(MendError.UnknownEdit, Assert.Throws<MendException>(() => updates.For(null, new(9999))).Error);
    }

    private static UpdatesAtVersion Grown(List<ActiveEdit> edits, string? scope)
    {
        var grown = new UpdatesAtVersion(InForce([]), CPU);
        for (var i = 1; i <= edits.Count; i++)
            using (var before = grown)
            {
                grown = new(InForce(edits[..i]), CPU, [before]);
                grown.For(scope);
            }
        return grown;
    }

    private static EditsInForce<ActiveEdit> InForce(List<ActiveEdit> edits) =>
        new([.. edits.Select((edit, i) => new EditsInForce<ActiveEdit>.Edit(new(i + 1), edit.Scope, edit))], []);

    private List<ActiveEdit> Edits(int count, Func<int, string?>? scope = null) => [.. Enumerable.Range(0, count).Select(i =>
        new ActiveEdit(scope?.Invoke(i), new Dictionary<string, LowRankUpdate>
        {
            [Weight] = new(randn([1 + i % 3, M], generator: _random), randn([1 + i % 3, N], generator: _random), tensor(0.1f + i)),
        }, []))];

    private static string Bits(WeightUpdates updates)
    {
        var x = arange(0, M, ScalarType.Float32).reshape(1, M) / 7;
        return Convert.ToHexString(updates.For(Weight)!.Of(x).bytes);
    }
}
