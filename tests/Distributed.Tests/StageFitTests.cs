using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Engine;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

/// <summary>One update for many edits, on its own.</summary>
public class StageFitTests
{
    private const string Weight = "w";
    private const int Rows = 6, InFeatures = 8, OutFeatures = 5;

    /// <summary>What the layer reacts to in inputs that were seen is changed least by a step.</summary>
    [Fact]
    public void AStep_GoesRoundWhatWasSeen()
    {
        using var scope = NewDisposeScope();
        var (kept, other) = (Input(1), Input(2));
        var (withNothingSeen, changedOther) = (0.0, 0.0);
        foreach (var sees in new[] { false, true })
        {
            using var fit = new StageFit([Weight], [Edit(0)], [Edit(0)], [], Rows, CPU);
            if (sees)
                fit.See([(Weight, kept), ("another's", Input(3))]);
            fit.Gather(Gradient(kept.Plus(other)));
            fit.Step(0.1, 0);
            if (sees)
                Assert.InRange(Changed(fit, kept) / Changed(fit, other), 0, 0.7 * withNothingSeen / changedOther);
            (withNothingSeen, changedOther) = (Changed(fit, kept), Changed(fit, other));
        }
    }

    /// <summary>A search that begins with something has it still when it begins to step; what is seen later does not count.</summary>
    [Fact]
    public void WhatWasSeen_ChangesNoUpdate()
    {
        using var scope = NewDisposeScope();
        var begun = Edit(0);
        using var fit = new StageFit([Weight], [begun, Edit(1)], [Edit(1)], [begun], Rows, CPU);
        var before = fit.Candidate[Weight].Of(Input(4)).clone();
        Assert.NotEqual(0, before.abs().sum().item<float>());
        fit.See([(Weight, Input(5, 40))]);
        fit.Gather(Gradient(Input(6)));
        AssertSame(before, fit.Candidate[Weight].Of(Input(4)));
        var basis = fit.Candidate[Weight].uTilde.clone();
        fit.See([(Weight, Input(7, 40))]);
        fit.Gather(Gradient(Input(8)));
        AssertSame(basis, fit.Candidate[Weight].uTilde);

        static void AssertSame(Tensor expected, Tensor actual) => Assert.InRange((expected - actual).abs().max().item<float>(), 0, 1e-4f);
    }

    [Fact]
    public void EditsOfOtherWeights_AreRefused()
    {
        using var scope = NewDisposeScope();
        var refused = Assert.Throws<MendException>(() => new StageFit(["other"], [Edit(0)], [Edit(0)], [], Rows, CPU));
        Assert.Equal((MendError.ConsolidationRefused, "The edits changed none of other."), (refused.Error, refused.What));
    }

    private static double Changed(StageFit fit, Tensor u) => fit.Candidate[Weight].Of(u).norm().item<float>();

    private static Dictionary<string, GradientFactors> Gradient(Tensor u) =>
        new() { [Weight] = new(u, Normal(100, u.shape[0], OutFeatures)) };

    private static Tensor Input(int seed, long count = 1) => Normal(seed, count, InFeatures);

    private static ActiveEdit Edit(int seed) => new(null, new Dictionary<string, LowRankUpdate>
    {
        [Weight] = new(Normal(10 + seed, Rows, InFeatures), Normal(20 + seed, Rows, OutFeatures), tensor(0.1f)),
    }, []);

    private static Tensor Normal(int seed, params long[] shape)
    {
        using var generator = new Generator((ulong)seed);
        return NewTensor.Normal(shape, generator);
    }
}
