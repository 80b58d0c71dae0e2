using MendCluster.Contracts;
using MendCluster.Testing;

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
}
