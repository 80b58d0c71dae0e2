using MendCluster.Contracts;

namespace MendCluster.Distributed.Tests;

/// <summary>A shard is lost at a step of an edit. Before the append nothing happened; after it the edit did.</summary>
public class FaultTests
{
    public enum Step
    {
        Record,
        Backward,
        TryBefore,
        TryAfter,
        Apply,
        End,
    }

    public static TheoryData<Step, int> Faults
    {
        get
        {
            var data = new TheoryData<Step, int>();
            foreach (var step in Enum.GetValues<Step>())
                for (var stage = 0; stage < 2; stage++)
                    data.Add(step, stage);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task AShardLostOnce_LosesNothing(Step step, int stage)
    {
        using var model = new ClusterOfTinyModel("t5");
        var fault = new Fault(step);
        var made = 0;
        await using var cluster = await model.OpenAsync(wrap: shard => made++ == stage ? new FaultyShard(shard, fault) : shard);
        var before = await model.StateAsync(cluster);
        fault.IsArmed = true;
        var durable = step is Step.Apply or Step.End;
        if (durable)
        {
            await cluster.EditAsync("what is red", "blue");
        }
        else
        {
            var lost = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("what is red", "blue"));
            Assert.True(lost.IsTransient);
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

    private sealed class Fault(Step step)
    {
        public bool IsArmed { get; set; }

        public void Meet(Step met)
        {
            if (!IsArmed || met != step)
                return;
            IsArmed = false;
            throw new MendException(MendError.ShardLost, $"The shard was lost at {met}.", "Send it again.");
        }
    }

    private sealed class FaultyShard(IModelShard shard, Fault fault) : IModelShard
    {
        public Task<ShardStatus> LoadAsync(CancellationToken cancellation) => shard.LoadAsync(cancellation);

        public Task<ShardStatus> StatusAsync(CancellationToken cancellation) => shard.StatusAsync(cancellation);

        public Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation)
        {
            fault.Meet(Step.Apply);
            return shard.ApplyAsync(records, cancellation);
        }

        public Task<StageReply> ForwardAsync(StageRequest request, CancellationToken cancellation)
        {
            if (Enum.TryParse<Step>(request.Purpose.ToString(), out var step))
                fault.Meet(step);
            return shard.ForwardAsync(request, cancellation);
        }

        public Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation)
        {
            fault.Meet(Step.Backward);
            return shard.BackwardAsync(request, cancellation);
        }

        public Task EndAsync(long session, CancellationToken cancellation)
        {
            fault.Meet(Step.End);
            return shard.EndAsync(session, cancellation);
        }

        public ValueTask DisposeAsync() => shard.DisposeAsync();
    }
}
