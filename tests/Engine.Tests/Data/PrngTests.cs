using MendCluster.Engine.Data;

namespace MendCluster.Engine.Tests.Data;

public class PrngTests
{
    [Fact]
    public void Numbers_AreThoseOfSplitMix64()
    {
        // The published test vector of the algorithm's reference implementation.
        var rng = new Prng(1234567);
        Assert.Equal(6457827717110365317UL, rng.Next());
        Assert.Equal(3203168211198807973UL, rng.Next());
        Assert.Equal(9817491932198370423UL, rng.Next());
    }

    [Fact]
    public void SavedState_ContinuesWithTheSameNumbers()
    {
        var rng = new Prng(7);
        rng.Next();
        var resumed = new Prng(rng.State);
        Assert.Equal(rng.Next(), resumed.Next());
    }

    [Fact]
    public void Streams_OfOneSeedDiffer()
    {
        var first = Enumerable.Range(0, 1000).Select(stream => Prng.At(3, (ulong)stream).Next());
        Assert.Equal(1000, first.Distinct().Count());
    }

    [Fact]
    public void Next_ReachesEveryNumberAboutEquallyOften()
    {
        var rng = new Prng(1);
        var counts = new int[7];
        for (var i = 0; i < 70_000; i++)
            counts[rng.Next(7)]++;
        // Ten standard deviations of a binomial with n = 70,000 and p = 1/7.
        Assert.All(counts, count => Assert.InRange(count, 10_000 - 930, 10_000 + 930));
    }

    [Fact]
    public void Shuffle_KeepsEveryItemAndReachesEveryOrder()
    {
        var rng = new Prng(2);
        var orders = Enumerable.Range(0, 1000).Select(_ => rng.Shuffle("abc")).ToList();
        Assert.All(orders, order => Assert.Equal("abc", string.Concat(order.Order())));
        Assert.Equal(6, orders.Select(order => string.Concat(order)).Distinct().Count());
    }
}
