using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>A shard is lost at a step of an edit. Before the append nothing happened; after it the edit did.</summary>
public class FaultTests
{
    /// <summary>With a code, as our shards fail; without, as a network or libtorch does.</summary>
    public static TheoryData<ShardStep, int, bool> Faults
    {
        get
        {
            var data = new TheoryData<ShardStep, int, bool>();
            foreach (var step in Enum.GetValues<ShardStep>().Where(step => step != ShardStep.Generate))
                for (var stage = 0; stage < 2; stage++)
                    foreach (var coded in new[] { true, false })
                        data.Add(step, stage, coded);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task AShardLostOnce_LosesNothing(ShardStep step, int stage, bool coded)
    {
        using var model = new ClusterOfTinyModel("t5");
        var fault = new Fault(step, coded);
        var made = 0;
        await using var cluster = await model.OpenAsync(wrap: shard => made++ == stage ? new FaultyShard(shard, fault) : shard);
        var before = await model.StateAsync(cluster);
        fault.IsArmed = true;
        var durable = step is ShardStep.Apply or ShardStep.End;
        if (durable)
        {
            await cluster.EditAsync("what is red", "blue");
        }
        else
        {
            var lost = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("what is red", "blue"));
            Assert.Equal(MendError.ShardLost, lost.Error);
            Assert.Empty(await cluster.LedgerAsync());
            Assert.Equal(before, await model.StateAsync(cluster));
            await cluster.EditAsync("what is red", "blue"); // sent again
        }
        Assert.False(fault.IsArmed, "the fault was never met");
        var answer = await cluster.AskAsync("what is red"); // brings a shard that missed the broadcast up to date
        Assert.Equal(1, answer.Version.Value);
        var after = await model.StateAsync(cluster);
        await cluster.DisposeAsync();

        await using var whole = await model.OpenAsync(ledger: model.Ledger + "2");
        await whole.EditAsync("what is red", "blue");
        Assert.Equal(after, await model.StateAsync(whole));
    }

    [Fact]
    public async Task AShardThatLoadsWhenTheFirstEditComes_IsNotTakenForOneWithoutEditableWeights()
    {
        using var model = new ClusterOfTinyModel("t5");
        var made = 0;
        await using var cluster = await model.OpenAsync(wrap: shard => made++ == 0 ? new StillLoading(shard) : shard);
        var refused = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("what is red", "blue"));
        Assert.True(refused.IsTransient);
        Assert.Equal(1, (await cluster.EditAsync("what is red", "blue")).Version.Value);
    }

    private sealed class Fault(ShardStep step, bool coded)
    {
        public bool IsArmed { get; set; }

        public void Meet(ShardStep met)
        {
            if (!IsArmed || met != step)
                return;
            IsArmed = false;
            throw coded ? new MendException(MendError.ShardLost, $"The shard was lost at {met}.", "Send it again.")
                : new TimeoutException($"no answer at {met}");
        }
    }

    private sealed class FaultyShard(IModelShard shard, Fault fault) : InterruptedShard(shard)
    {
        protected override Task MeetAsync(ShardStep step)
        {
            fault.Meet(step);
            return Task.CompletedTask;
        }
    }

    /// <summary>Says so once, as the host of a shard does until it can be asked.</summary>
    private sealed class StillLoading(IModelShard shard) : ShardDecorator(shard)
    {
        private bool _asked;

        public override async Task<ShardStatus> StatusAsync(CancellationToken cancellation = default)
        {
            var status = await base.StatusAsync(cancellation);
            (var asked, _asked) = (_asked, true);
            return asked ? status : status with { State = ShardState.Loading, EditableWeights = [] };
        }
    }
}
