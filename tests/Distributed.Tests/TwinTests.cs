using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>A shard that was started anew elsewhere, while the old one still answers now and then.</summary>
public class TwinTests
{
    [Fact]
    public async Task TheOlderTwin_IsFencedOff()
    {
        using var model = new ClusterOfTinyModel("t5");
        Twins? twins = null;
        await using var cluster = await model.OpenAsync(wrap: shard => twins is null ? twins = new(shard) : shard); // of the first stage
        await cluster.EditAsync("what is red", "blue");
        var before = await cluster.AskAsync("what is red", new(MaxTokens: 4));
        var younger = new ModelShard(new(model.Model, model.Editor, 0, 2), TimeProvider.System);
        await younger.LoadAsync();
        var older = twins!.Change(younger);
        Assert.Equal(before, await cluster.AskAsync("what is red", new(MaxTokens: 4))); // caught up from the ledger

        twins.Change(older);
        var status = await older.StatusAsync();
        Assert.True(status.Epoch < (await younger.StatusAsync()).Epoch);
        var refused = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("the old town", "red"));
        Assert.Equal(MendError.ShardLost, refused.Error);
        Assert.Contains("superseded", refused.Message, StringComparison.Ordinal);
        Assert.Single(await cluster.LedgerAsync());

        twins.Change(younger);
        Assert.Equal(2, (await cluster.EditAsync("the old town", "red")).Version.Value);
        await older.DisposeAsync();
    }

    /// <summary>Messages go now to the one and now to the other.</summary>
    private sealed class Twins(IModelShard shard) : ShardDecorator(shard)
    {
        public IModelShard Change(IModelShard to)
        {
            (var from, Shard) = (Shard, to);
            return from;
        }
    }
}
