using MendCluster.Contracts;
using MendCluster.Testing;
using Microsoft.Extensions.Time.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>Every replica has every acknowledged edit, and one of them is enough.</summary>
public class ReplicaTests
{
    private const int Stages = 2;

    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")]
    public async Task AnEdit_IsOnAllReplicas_AndReadsAreSpreadOverThem(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        var counters = new List<Counting>();
        await using var cluster = await model.OpenAsync(Stages, replicas: 3, wrap: shard =>
        {
            counters.Add(new(shard));
            return counters[^1];
        });
        await cluster.EditAsync("what is red", "blue");
        var status = await cluster.StatusAsync();
        Assert.Equal(3 * Stages, status.Length);
        Assert.All(status, shard => Assert.Equal(new ModelVersion(1), shard.Version));
        for (var stage = 0; stage < Stages; stage++)
            Assert.Single(status.Where((_, i) => i % Stages == stage).Select(shard => shard.Checksum).Distinct());
        Assert.Equal(await model.StateAsync(cluster, 0, Stages), await model.StateAsync(cluster, 2, Stages));
        for (var i = 0; i < 6; i++)
            await cluster.AskAsync("what is red", new(MaxTokens: 2));
        Assert.All(counters, shard => Assert.True(shard.Generated > 0, "a replica was never asked"));
    }

    public static TheoryData<ShardStep, int> Losses
    {
        get
        {
            var data = new TheoryData<ShardStep, int>();
            foreach (var step in Enum.GetValues<ShardStep>())
                for (var stage = 0; stage < Stages; stage++)
                    data.Add(step, stage);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Losses))]
    public async Task AReplicaLostAtAnyStep_IsNoticedByNobody(ShardStep step, int stage)
    {
        using var model = new ClusterOfTinyModel("t5");
        var (made, lost, time) = (0, new Lost(step), new FakeTimeProvider());
        await using var cluster = await model.OpenAsync(Stages, replicas: 2, time: time,
            wrap: shard => made++ % Stages == stage && made <= Stages ? new Losing(shard, lost) : shard);
        lost.IsOver = false;
        await cluster.EditAsync("what is red", "blue");
        for (var i = 0; i < 4; i++)
            Assert.Equal(1, (await cluster.AskAsync("what is red", new(MaxTokens: 2))).Version.Value);
        Assert.True(lost.WasMet, "the loss was never met");
        await cluster.EditAsync("the old town", "red");

        lost.IsOver = true; // it comes back, and is brought up to date by the first request that it gets
        time.Advance(TimeSpan.FromMinutes(1));
        for (var i = 0; i < 2; i++)
            await cluster.AskAsync("what is red", new(MaxTokens: 2));
        Assert.All(await cluster.StatusAsync(), shard => Assert.Equal(new ModelVersion(2), shard.Version));
        var state = await model.StateAsync(cluster, 0, Stages);
        Assert.Equal(state, await model.StateAsync(cluster, 1, Stages));
        await cluster.DisposeAsync();

        await using var alone = await model.OpenAsync(Stages, ledger: model.Ledger + "2");
        await alone.EditAsync("what is red", "blue");
        await alone.EditAsync("the old town", "red");
        Assert.Equal(state, await model.StateAsync(alone));
    }

    [Fact]
    public async Task NoReplica_IsRefused()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        Assert.Equal(MendError.InvalidOption, (await Assert.ThrowsAsync<MendException>(() => model.OpenAsync(replicas: 0))).Error);
    }

    private sealed class Counting(IModelShard shard) : ShardDecorator(shard)
    {
        public int Generated { get; private set; }

        public override Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default)
        {
            Generated++;
            return base.GenerateAsync(request, cancellation);
        }
    }

    private sealed class Lost(ShardStep step)
    {
        private bool _began;

        public bool IsOver { get; set; } = true;

        public bool WasMet => _began;

        /// <summary>From the first such step on, every call is lost.</summary>
        public bool Meets(ShardStep met) => !IsOver && (_began |= met == step);
    }

    private sealed class Losing(IModelShard shard, Lost lost) : InterruptedShard(shard)
    {
        protected override Task MeetAsync(ShardStep step) => lost.Meets(step)
            ? Task.FromException(new TimeoutException($"no answer at {step}")) : Task.CompletedTask;
    }
}
