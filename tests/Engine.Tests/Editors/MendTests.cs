using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Editors;

/// <summary>The formulas in their default mode, on numbers worked out by hand (mend-spec 1.7).</summary>
public class MendTests
{
    private static readonly EditableWeight[] Weights = [new("a", 2, 3), new("b", 2, 3)];

    [Fact]
    public void TheGoldenVector_IsMet()
    {
        using var scope = NewDisposeScope();
        using var mend = Golden(alpha: -1); // so that W' - W is the pseudo gradient itself
        var factors = GradientFactors.FromRows(
            tensor(new float[] { 1, 2, 3, 0, 5, 5, .5f, -1 }, [4, 2]),
            tensor(new[] { .1f, -.2f, .3f, .4f, 0, -.1f, 0, 0, 0, -.3f, .2f, .5f }, [4, 3]));
        Assert.Equal(3, factors.u.shape[0]); // the row without gradient is dropped

        var first = mend.ProposeForTraining(new Dictionary<string, GradientFactors> { ["a"] = factors })["a"];
        Close([-.205410f, 1.091089f, 1.591777f, -.129604f, -.177282f, -.730679f], first.uTilde);
        Close([.485586f, -.999999f, .307738f, 1.330012f, 0, -.710689f, -.658334f, .999999f, 1.263309f], first.deltaTilde);
        Close([2.134048f, .838473f, .028128f, -1.821767f, -1.418432f, -.495195f], first.ToDense());

        var second = mend.Propose(new Dictionary<string, GradientFactors> { ["b"] = factors })["b"];
        Close([.182616f, 1.372549f, 2.149660f, .026089f, .659139f, -.552489f], second.uTilde);
        Close([1.040463f, .271825f, 1.129022f, 1.881404f, 1.221181f, -.065698f, -.089639f, 2.331895f, 1.763309f], second.deltaTilde);
        Close([4.175300f, 1.526694f, 4.211807f, -.883393f, 1.227213f, .573715f], second.ToDense());
    }

    [Fact]
    public void AnUpdate_SubtractsAlphaTimesThePseudoGradient()
    {
        using var scope = NewDisposeScope();
        var update = new LowRankUpdate(tensor(new float[] { 1, 2 }, [1, 2]), tensor(new float[] { 3, 4, 5 }, [1, 3]), tensor(0.5f));
        Close([-1.5f, -3, -2, -4, -2.5f, -5], update.ToDense());
        var x = tensor(new float[] { 1, 1 }, [1, 2]);
        Close([4.5f, 6, 7.5f], update.Of(x)); // taken from z = x W^T
    }

    [Fact]
    public void StackedUpdates_AreTheirSum()
    {
        using var scope = NewDisposeScope();
        LowRankUpdate[] updates =
            [.. Enumerable.Range(1, 3).Select(i => new LowRankUpdate(randn([i, 4]), randn([i, 5]), tensor(0.1f * i)))];
        var x = randn([6, 4]);
        var sum = updates.Select(update => update.Of(x)).Aggregate((a, b) => a.Plus(b));
        Close(sum.data<float>().ToArray(), LowRankUpdate.Stack(updates).Of(x));
    }

    [Fact]
    public void AnUntrainedEditor_IsRefusedByName()
    {
        using var scope = NewDisposeScope();
        using var mend = new Mend(new() { Rank = 2 }, Weights, 1);
        var refused = Refusal.Of(MendError.ModelUnusable, () =>
            mend.Propose(new Dictionary<string, GradientFactors> { ["a"] = new(ones(1, 2), ones(1, 3)) }));
        Assert.Contains("train the editor", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AWeightThatIsNotTheEditors_IsRefusedByName()
    {
        using var scope = NewDisposeScope();
        using var mend = new Mend(new() { Rank = 2 }, Weights, 1);
        Assert.Contains("'c'", Refusal.Of(MendError.ModelUnusable, () =>
            mend.Propose(new Dictionary<string, GradientFactors> { ["c"] = new(ones(1, 2), ones(1, 3)) })).What,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(7)]
    public void Statistics_DependNeitherOnTheBatchesNorOnTheirOrder(int batches)
    {
        using var scope = NewDisposeScope();
        var rows = randn([50, 4]).Times(3).Plus(100);
        using var merged = new RunningStatistics(4);
        var parts = Enumerable.Range(0, batches).Select(i => (First: i * 50 / batches, End: (i + 1) * 50 / batches)).Reverse().ToList();
        foreach (var (first, end) in parts)
            merged.Add(rows.narrow(0, first, end - first));
        // The plain formula, row by row (Welford).
        var data = rows.data<float>().ToArray();
        for (var column = 0; column < 4; column++)
        {
            double mean = 0, squares = 0;
            for (var row = 0; row < 50; row++)
            {
                var x = data[row * 4 + column];
                var before = mean;
                mean += (x - mean) / (row + 1);
                squares += (x - before) * (x - mean);
            }
            Assert.Equal(mean, merged.Mean.data<double>().ToArray()[column], 1e-9);
            Assert.Equal(Math.Sqrt(squares / 49), merged.Std().data<double>().ToArray()[column], 1e-9);
        }
        Assert.Equal(50, merged.Count);
    }

    private static Mend Golden(float alpha)
    {
        var A = Enumerable.Range(0, 10).Select(i => (i - 4.5f) / 10).ToArray();
        return new(new() { Rank = 2 }, Weights, name => name switch
        {
            "edit_lrs" => NewTensor.Full([2], alpha),
            _ when name.EndsWith(".k", StringComparison.Ordinal) => tensor(new[] { 0L }),
            _ when name.EndsWith("layers.0.u", StringComparison.Ordinal) => tensor(A, [5, 2]),
            _ when name.EndsWith("layers.1.u", StringComparison.Ordinal) => -tensor(A, [5, 2]),
            _ when name.EndsWith(".v", StringComparison.Ordinal) => tensor(A, [2, 5]),
            _ when name.EndsWith(".bias", StringComparison.Ordinal) => tensor(new[] { .1f, -.1f, .2f, -.2f, 0 }),
            _ when name.EndsWith("mode_scale.weight", StringComparison.Ordinal) =>
                tensor(new[] { 1, 1, 1, 1, 1, 2, .5f, 1, -1, 1 }, [2, 5]),
            _ when name.EndsWith("mode_shift.weight", StringComparison.Ordinal) =>
                tensor(new[] { 0, 0, 0, 0, 0, .1f, .2f, .3f, .4f, .5f }, [2, 5]),
            _ => throw new ArgumentException(name),
        });
    }

    private static void Close(float[] expected, Tensor actual)
    {
        var found = actual.detach().contiguous().data<float>().ToArray();
        Assert.Equal(expected.Length, found.Length);
        for (var i = 0; i < expected.Length; i++)
            Assert.True(Math.Abs(expected[i] - found[i]) < 2e-5, $"entry {i}: {found[i]}, expected {expected[i]}");
    }
}
