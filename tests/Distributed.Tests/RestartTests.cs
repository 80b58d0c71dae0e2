using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>
/// A shard dies and comes back empty in the middle of a request. The request then fails and changes nothing, or its result is that of an
/// undisturbed cluster, to the last bit; it is never something between.
/// </summary>
public class RestartTests
{
    private const int Stages = 2;

    public static TheoryData<string, ShardStep, int> Faults
    {
        get
        {
            var data = new TheoryData<string, ShardStep, int>();
            foreach (var family in TinyModels.Families)
                foreach (var step in Enum.GetValues<ShardStep>().Where(step => step != ShardStep.Generate))
                    for (var stage = 0; stage < Stages; stage++)
                        data.Add(family, step, stage);
            return data;
        }
    }

    public static TheoryData<string, int> Shards
    {
        get
        {
            var data = new TheoryData<string, int>();
            foreach (var family in TinyModels.Families)
                for (var stage = 0; stage < Stages; stage++)
                    data.Add(family, stage);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task AShardRestartedInAnEdit_LeavesNoHalfOfIt(string family, ShardStep step, int stage)
    {
        using var model = new ClusterOfTinyModel(family);
        EditReceipt expected;
        string expectedState;
        await using (var whole = await model.OpenAsync(Stages, ledger: model.Ledger + "2"))
        {
            await whole.EditAsync("who is the mayor", "a woman");
            expected = await whole.EditAsync("what is red", "the south");
            expectedState = await model.StateAsync(whole);
        }

        var shards = new List<RestartingShard>();
        await using var cluster = await model.OpenAsync(Stages, shard => Restarting(model, shards, shard));
        await cluster.EditAsync("who is the mayor", "a woman");
        var before = await model.StateAsync(cluster);
        shards[stage].Arm(step);
        EditReceipt receipt;
        try
        {
            receipt = await cluster.EditAsync("what is red", "the south");
        }
        catch (MendException e)
        {
            Assert.Equal(MendError.ShardLost, e.Error);
            Assert.Single(await cluster.LedgerAsync());
            await cluster.AskAsync("what is red"); // brings the new shard up to date
            Assert.Equal(before, await model.StateAsync(cluster));
            receipt = await cluster.EditAsync("what is red", "the south"); // sent again
        }
        Assert.False(shards[stage].IsArmed, "the fault was never met");
        Assert.Equal(expected.Figures, receipt.Figures);
        await cluster.AskAsync("what is red");
        Assert.Equal(expectedState, await model.StateAsync(cluster));
    }

    [Theory]
    [MemberData(nameof(Shards))]
    public async Task AShardRestartedInAnAnswer_ChangesNoWordOfIt(string family, int stage)
    {
        using var model = new ClusterOfTinyModel(family);
        var shards = new List<RestartingShard>();
        await using var cluster = await model.OpenAsync(Stages, shard => Restarting(model, shards, shard));
        await cluster.EditAsync("who is the mayor", "a woman");
        foreach (var options in new[] { new AskOptions(MaxTokens: 8), new AskOptions(MaxTokens: 8, Temperature: 2, Seed: 3) })
        {
            var expected = await cluster.AskAsync("what is red", options);
            shards[stage].Arm(ShardStep.Generate, passedOver: 3);
            Assert.Equal(expected, await cluster.AskAsync("what is red", options));
            Assert.False(shards[stage].IsArmed, "the fault was never met");
        }
    }

    private static RestartingShard Restarting(ClusterOfTinyModel model, List<RestartingShard> shards, IModelShard shard)
    {
        var options = new ShardOptions(model.Model, model.Editor, shards.Count, Stages);
        shards.Add(new(shard, () => new ModelShard(options, TimeProvider.System)));
        return shards[^1];
    }
}
