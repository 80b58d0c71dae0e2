using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

public class BroadcastTests
{
    [Fact]
    public async Task EveryStageIsToldOfAnEdit_WithTheFactorsOfItsOwnWeights_AndTheLedgerHasAll()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var shards = new List<Hearing>();
        string state;
        await using (var cluster = await model.OpenAsync(stages: 2, wrap: shard =>
        {
            shards.Add(new(shard));
            return shards[^1];
        }))
        {
            var receipt = await cluster.EditAsync("who is the mayor", "a woman");
            var heard = shards.Select(shard => Assert.Single(shard.Heard).Changes.Select(change => change.Weight).ToList()).ToList();
            for (var stage = 0; stage < 2; stage++)
                Assert.Equal((await shards[stage].StatusAsync()).EditableWeights.Order(), heard[stage].Order());
            Assert.All(shards, shard => Assert.Equal(receipt.Version, shard.Heard[0].Entry.Version));
            Assert.All(heard, Assert.NotEmpty);
            state = await model.StateAsync(cluster);
        }
        await using var again = await model.OpenAsync(stages: 2); // from the ledger, which has the factors of all
        Assert.Equal(state, await model.StateAsync(again));
    }

    private sealed class Hearing(IModelShard shard) : ShardDecorator(shard)
    {
        public List<LedgerRecord> Heard { get; } = [];

        public override Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default)
        {
            Heard.AddRange(records);
            return base.ApplyAsync(records, cancellation);
        }
    }
}
