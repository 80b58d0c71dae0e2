using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests;

/// <summary>An update in fewer rows is nearly the same update.</summary>
public class FactorsTests
{
    public static TheoryData<int, int, int, double> Shapes => new()
    {
        { 1, 5, 7, 0.9 }, { 2, 5, 7, 0.9 }, { 12, 40, 30, 0.999 }, { 12, 40, 30, 0.5 }, { 30, 40, 30, 0.99 }, { 50, 40, 30, 0.99 },
            { 9, 4, 3, 0.999 },
    };

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Compressed_ItHasTheWantedShareOfTheNorm_InTheFewestRows(int R, int m, int n, double kept)
    {
        using var scope = NewDisposeScope();
        var generator = new Generator(7);
        var scale = NewTensor.Arange(0, R, ScalarType.Float32).Times(-0.5).exp().unsqueeze(1); // singular values that fall
        var update = new LowRankUpdate(randn([R, m], generator: generator) * scale, randn([R, n], generator: generator), tensor(0.3f));
        var small = update.Compress(kept);
        var (dense, error) = (update.ToDense(), (update.ToDense() - small.ToDense()).norm());
        var lost = (error / dense.norm()).item<float>();
        Assert.True(lost * lost <= 1 - kept + 1e-6, $"{lost * lost} of the squared norm is gone, {1 - kept} may be");
        Assert.True(small.Rank <= Math.Min(R, Math.Min(m, n)));
        if (small.Rank > 1 && small.Rank < R)
        {
            var fewer = linalg.svd(dense, fullMatrices: false).S.narrow(0, 0, small.Rank - 1).norm();
            Assert.True((fewer * fewer / (dense.norm() * dense.norm())).item<float>() < kept, "a row less would have been enough");
        }
        var x = randn([3, m], generator: generator);
        Assert.True((update.Of(x) - small.Of(x)).norm().item<float>() <= (lost
            + 1e-5) * dense.norm().item<float>() * x.norm().item<float>());
    }

    [Fact]
    public void NothingToSpare_LeavesTheUpdateItself()
    {
        using var scope = NewDisposeScope();
        var orthogonal = new LowRankUpdate(Identity(), Identity(), tensor(1f));
        Assert.Same(orthogonal, orthogonal.Compress(0.999));
        Assert.Same(orthogonal, orthogonal.Compress(1));
        var nothing = new LowRankUpdate(zeros([3, 4]), zeros([3, 5]), tensor(1f));
        Assert.Same(nothing, nothing.Compress(0.999));
    }

    [Fact]
    public void EqualRows_BecomeOne()
    {
        using var scope = NewDisposeScope();
        var (u, delta) = (randn([1, 6], generator: new Generator(1)), randn([1, 4], generator: new Generator(2)));
        var update = new LowRankUpdate(u.expand(5, 6), delta.expand(5, 4), tensor(2f));
        var one = update.Compress(0.999);
        Assert.Equal(1, one.Rank);
        Assert.True((update.ToDense() - one.ToDense()).abs().max().item<float>() < 1e-4);
    }

    private static Tensor Identity() => tensor([1f, 0, 0, 0, 1, 0, 0, 0, 1], [3, 3]);

    /// <summary>Edits of different ranks and steps, over what is in force for all.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AnUpdateOfEachExample_IsEachEditsOwn(bool isEdited)
    {
        using var scope = NewDisposeScope();
        LowRankUpdate Edit(int rank, double alpha) => new(randn(rank, 6), randn(rank, 5), tensor((float)alpha));
        LowRankUpdate[] edits = [Edit(3, 0.5), Edit(1, -2), Edit(4, 1.25)];
        var below = isEdited ? Edit(2, 0.75) : null;
        var x = randn(3, 4, 6);
        var taken = UpdateOfEach.Of(below, edits).Of(x); // [3, 4, 5]
        for (var i = 0; i < edits.Length; i++)
        {
            var own = edits[i].Of(x[i]);
            if (below is not null)
                own = own.Plus(below.Of(x[i]));
            Assert.True((taken[i] - own).abs().max().item<float>() < 1e-4, $"example {i}");
        }
    }
}
