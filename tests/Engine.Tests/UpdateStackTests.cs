using static TorchSharp.torch;

namespace MendCluster.Engine.Tests;

/// <summary>Many updates of a weight as one: their sum, and always the same bits for the same list.</summary>
public class UpdateStackTests
{
    private const int M = 12, N = 20; // a block has at least 8 rows

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(40)]
    public void ItTakesWhatTheUpdatesTakeTogether(int count)
    {
        using var scope = NewDisposeScope();
        var updates = Updates(count);
        var x = randn([2, 3, M]);
        var sum = updates.Select(update => update.Of(x)).Aggregate((a, b) => a + b);
        Assert.True((sum - UpdateStack.Of(updates).Of(x)).abs().max().item<float>() < 1e-4f * (1 + sum.abs().max().item<float>()));
    }

    [Fact]
    public void MadeFromAnyEarlierStack_ItHasTheBitsOfOneThatWasMadeAfresh()
    {
        using var scope = NewDisposeScope();
        var updates = Updates(30);
        var x = randn([5, M]);
        var afresh = Bits(UpdateStack.Of(updates), x);
        for (var count = 1; count <= updates.Count; count++)
            Assert.Equal(afresh, Bits(UpdateStack.Of(updates, UpdateStack.Of([.. updates.Take(count)])), x));
        for (var removed = 0; removed < updates.Count; removed++)
        {
            List<LowRankUpdate> fewer = [.. updates.Where((_, i) => i != removed)];
            Assert.Equal(Bits(UpdateStack.Of(fewer), x), Bits(UpdateStack.Of(fewer, UpdateStack.Of(updates)), x));
            Assert.Equal(afresh, Bits(UpdateStack.Of(updates, UpdateStack.Of(fewer)), x));
        }
    }

    [Fact]
    public void HoweverManyTheUpdates_ItHoldsLittleMoreThanTwiceTheWeight()
    {
        using var scope = NewDisposeScope();
        long held = 0;
        UpdateStack.Of(Updates(200)).With(tensor =>
        {
            held += tensor.numel();
            return tensor;
        });
        Assert.True(held <= 2 * M * N + 1, $"{held} numbers for a weight of {M * N}");
    }

    private static List<LowRankUpdate> Updates(int count) =>
        [.. Enumerable.Range(0, count).Select(i => new LowRankUpdate(randn([1 + i % 3, M]), randn([1 + i % 3, N]), tensor(0.1f * (i + 1))))];

    private static byte[] Bits(UpdateStack stack, Tensor x) => [.. stack.Of(x).data<float>().ToArray().SelectMany(BitConverter.GetBytes)];
}
