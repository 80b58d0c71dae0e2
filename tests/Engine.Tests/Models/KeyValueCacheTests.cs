using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Models;

public class KeyValueCacheTests
{
    [Fact]
    public void RowsThatAreAllThere_AreGoneOnWithAsTheyAre()
    {
        using var scope = NewDisposeScope();
        var cache = Filled([2, 0], 5);
        Assert.Equal([3, 5], cache.Rows.Select(row => row.Tokens));
        Assert.Same(cache, KeyValueCache.Of(cache.Rows));
        Assert.NotSame(cache, KeyValueCache.Of([cache.Rows[1], cache.Rows[0]]));
        cache.Rows[1].Dispose();
        Assert.NotSame(cache, KeyValueCache.Of([cache.Rows[0]])); // the answer that is over is left behind
    }

    [Fact]
    public void RowsOfSeveralCaches_EndTogether()
    {
        using var scope = NewDisposeScope();
        var (one, other) = (Filled([2, 0], 5), Filled([0], 4));
        var joined = KeyValueCache.Of([one.Rows[0], other.Rows[0]]);
        Assert.Equal((4, "1 0"), (joined.Length, string.Join(' ', joined.Padding)));
        var (key, _) = joined.Append("layer", ones(2, 1, 1, 3), ones(2, 1, 1, 3));
        Assert.Equal(new long[] { 2, 1, 5, 3 }, key.shape);
        Assert.True(key[0, 0, 1..4].eq(Keys(one)[0, 0, 2..5]).all().item<bool>());
        Assert.True(key[1, 0, ..4].eq(Keys(other)[0, 0, ..4]).all().item<bool>());
        Assert.True(key[.., .., 4..].Eq(1).all().item<bool>());
    }

    /// <summary>Room is made now and then, not for each token; what is held stays what it is.</summary>
    [Fact]
    public void WhatIsAppended_StandsBehindWhatIsHeld()
    {
        using var scope = NewDisposeScope();
        var (cache, parts) = (new KeyValueCache(), new List<Tensor>());
        for (var step = 0; step < 60; step++)
        {
            parts.Add(randn(1, 2, step == 0 ? 3 : 1, 4));
            var (key, value) = cache.Append("layer", parts[^1], parts[^1].neg());
            cache.Advance(parts[^1].shape[2]);
            Assert.True(key.eq(cat(parts, 2)).all().item<bool>());
            Assert.True(value.eq(cat(parts, 2).neg()).all().item<bool>());
        }
    }

    [Fact]
    public void TensorsAreLetGo_WithTheLastAnswer()
    {
        using var scope = NewDisposeScope();
        var cache = Filled([0, 0], 3);
        var (key, _) = cache.Append("layer", ones(2, 1, 1, 3), ones(2, 1, 1, 3));
        cache.Rows[0].Dispose();
        cache.Rows[0].Dispose();
        Assert.NotNull(cache.Append("layer", ones(2, 1, 1, 3), ones(2, 1, 1, 3)).Key);
        cache.Rows[1].Dispose();
        key = cache.Append("layer", ones(2, 1, 1, 3), ones(2, 1, 1, 3)).Key; // begins anew, with nothing before
        Assert.True(key[.., .., 3..].Eq(1).all().item<bool>());
        cache.Dispose();
    }

    private static KeyValueCache Filled(long[] padding, long length)
    {
        var cache = new KeyValueCache(padding, new long[padding.Length]);
        cache.Append("layer", randn(padding.Length, 1, length, 3), randn(padding.Length, 1, length, 3));
        cache.Advance(length);
        return cache;
    }

    private static Tensor Keys(KeyValueCache cache) => cache.Append("layer", empty(cache.Rows.Count, 1, 0, 3), empty(cache.Rows.Count, 1, 0, 3)).Key;
}
