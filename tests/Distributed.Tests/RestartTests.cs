using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>
/// A shard dies and comes back empty in the middle of a request. The request then fails and changes nothing, or its result is that of an
/// undisturbed cluster, to the last bit; it is never something between.
/// </summary>
public class RestartTests(RestartTests.Undisturbed undisturbed) : IClassFixture<RestartTests.Undisturbed>
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
        var (expected, expectedState) = await undisturbed.AfterTwoEditsAsync(family);
        using var model = new ClusterOfTinyModel(family);
        var shards = new List<RestartingShard>();
        await using var cluster = await model.OpenAsync(Stages, shard => Restarting(model, shards, shard));
        await cluster.EditAsync("who is the mayor", "a woman");
        if (step == ShardStep.TryBefore) // the second edit needs it only where what the first one left is gone
        {
            shards[stage].Arm(ShardStep.Generate);
            await cluster.AskAsync("what is red");
        }
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
        Assert.Equal(expected, receipt.Figures);
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

    /// <summary>What clusters without a fault come to, one of each family.</summary>
    public sealed class Undisturbed
    {
        private readonly Dictionary<string, (EditFigures Figures, string State)> _known = [];

        /// <returns>Figures of the second edit, and the state after it.</returns>
        internal async Task<(EditFigures Figures, string State)> AfterTwoEditsAsync(string family)
        {
            if (_known.TryGetValue(family, out var known))
                return known;
            using var model = new ClusterOfTinyModel(family);
            await using var cluster = await model.OpenAsync(Stages);
            await cluster.EditAsync("who is the mayor", "a woman");
            var receipt = await cluster.EditAsync("what is red", "the south");
            return _known[family] = (receipt.Figures, await model.StateAsync(cluster));
        }
    }

    private static RestartingShard Restarting(ClusterOfTinyModel model, List<RestartingShard> shards, IModelShard shard)
    {
        var options = new ShardOptions(model.Model, model.Editor, shards.Count, Stages);
        shards.Add(new(shard, () => new ModelShard(options, TimeProvider.System)));
        return shards[^1];
    }
}
