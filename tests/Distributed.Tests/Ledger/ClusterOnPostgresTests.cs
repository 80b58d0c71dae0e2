using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;
using Microsoft.Extensions.Time.Testing;

namespace MendCluster.Distributed.Tests.Ledger;

/// <summary>A whole cluster on a ledger in PostgreSQL is the cluster on a file, to the last bit.</summary>
public sealed class ClusterOnPostgresTests(PostgresWithLedger postgres) : IClassFixture<PostgresWithLedger>
{
    [Fact]
    public async Task EditsAndReverts_AreThoseOfAFile_AndOutliveTheProcess()
    {
        using var model = new ClusterOfTinyModel(TinyModels.Families[0]);
        var ledger = "postgres:" + postgres.Connection;
        var expected = new List<string>();
        await using (var cluster = await model.OpenAsync())
            await ChangeAsync(cluster, expected);
        var states = new List<string>();
        await using (var cluster = await model.OpenAsync(ledger: ledger))
            await ChangeAsync(cluster, states);
        Assert.Equal(expected, states);
        Assert.Equal(3, states.Distinct().Count());

        await using var again = await model.OpenAsync(ledger: ledger);
        await again.AskAsync("what is red");
        Assert.Equal(expected[^1], await model.StateAsync(again));
        Assert.Equal([LedgerKind.Edit, LedgerKind.Edit, LedgerKind.Revert], (await again.LedgerAsync()).Select(entry => entry.Kind));
        Assert.Equal(new EditId(2), (await again.EditAsync("what is red", "the south", new() { IdempotencyKey = "again" })).Id);
        await again.RevertAsync(new(2));
        Assert.Equal(4, (await again.LedgerAsync()).Count);

        async Task ChangeAsync(EmbeddedCluster cluster, List<string> seen)
        {
            await cluster.EditAsync("who is the mayor", "a woman");
            seen.Add(await model.StateAsync(cluster));
            await cluster.EditAsync("what is red", "the south", new() { IdempotencyKey = "again" });
            seen.Add(await model.StateAsync(cluster));
            await cluster.RevertAsync(new(1));
            seen.Add(await model.StateAsync(cluster));
        }
    }

    /// <summary>It cannot be given the edits that it lacks.</summary>
    [Fact]
    public async Task AReplicaStartedAnewWhileTheServerIsGone_IsPassedOver_AndTheOtherAnswers()
    {
        const int stages = 2;
        using var model = new ClusterOfTinyModel(TinyModels.Families[1]);
        var (shards, time) = (new List<RestartingShard>(), new FakeTimeProvider());
        var ledger = "postgres:" + postgres.Connection;
        await using var cluster = await model.OpenAsync(stages, ledger: ledger, replicas: 2, time: time, wrap: shard =>
        {
            var options = new ShardOptions(model.Model, model.Editor, shards.Count % stages, stages);
            shards.Add(new(shard, () => new ModelShard(options, TimeProvider.System)));
            return shards[^1];
        });
        await cluster.EditAsync("who is the mayor", "a woman");
        shards[0].Arm(ShardStep.Generate);
        await postgres.Server.StopAsync();
        for (var i = 0; i < 4; i++)
            Assert.Equal(1, (await cluster.AskAsync("what is red", new(MaxTokens: 2))).Version.Value);
        Assert.False(shards[0].IsArmed, "it was never started anew");
        Assert.Contains((await cluster.StatusAsync()).Select(shard => shard.Version), version => version == ModelVersion.Base);
        await cluster.PreviewAsync("what is red", "the south");
        Assert.Equal(MendError.LedgerWriteFailed,
            (await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("what is red", "the south"))).Error);

        await postgres.Server.StartAsync();
        time.Advance(TimeSpan.FromMinutes(1)); // it is tried again
        await cluster.EditAsync("what is red", "the south");
        for (var i = 0; i < 2; i++)
            await cluster.AskAsync("what is red", new(MaxTokens: 2));
        Assert.Equal(await model.StateAsync(cluster, 0, stages), await model.StateAsync(cluster, 1, stages));
    }
}
