using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Testing;

namespace MendCluster.Orleans.Tests;

/// <summary>A cluster of silos is the embedded cluster at a distance: the same answers, receipts and errors, to the last bit.</summary>
public class ClusterTests
{
    public static TheoryData<string> Families => [.. TinyModels.Families];

    [Theory]
    [MemberData(nameof(Families))]
    public async Task TwoSilosOfTwoStages_DoWhatTheEmbeddedClusterDoes_ToTheLastBit(string family)
    {
        await using var cluster = await TinyCluster.StartAsync(family, silos: 2, stages: 2);
        using var folder = new TemporaryFolder();
        await using var embedded = await EmbeddedAsync(cluster, folder["ledger"]);
        foreach (var (prompt, target) in new[] { ("who is the mayor", "a woman"), ("what is red", "the south") })
        {
            var expected = await embedded.EditAsync(prompt, target);
            var receipt = await cluster.Client.EditAsync(prompt, target);
            Assert.Equal((expected.Id, expected.Version, expected.Figures), (receipt.Id, receipt.Version, receipt.Figures));
            await AssertSameAnswersAsync(embedded, cluster);
        }
        Assert.Equal(await embedded.RevertAsync(new(1)), await cluster.Client.RevertAsync(new(1)));
        await AssertSameAnswersAsync(embedded, cluster);
        Assert.Equal((await embedded.LedgerAsync()).Select(Timeless), (await cluster.Client.LedgerAsync()).Select(Timeless));
    }

    private static LedgerEntry Timeless(LedgerEntry entry) => entry with { Time = default, IdempotencyKey = null };

    private static async Task AssertSameAnswersAsync(EmbeddedCluster embedded, TinyCluster cluster)
    {
        foreach (var question in new[] { "who is the mayor", "what is red", "the old town" })
            foreach (var options in new[] { new AskOptions(MaxTokens: 6), new AskOptions(MaxTokens: 6, Temperature: 1.5, TopK: 20, TopP: 0.9, Seed: 5) })
                Assert.Equal(await embedded.AskAsync(question, options), await cluster.Client.AskAsync(question, options));
    }

    private static Task<EmbeddedCluster> EmbeddedAsync(TinyCluster cluster, string ledger) => EmbeddedCluster.OpenAsync(new()
    {
        ModelDirectory = cluster.Settings.ModelDirectory,
        Editor = cluster.Settings.Editor,
        Ledger = ledger,
        Stages = cluster.Settings.Stages.Count,
        Probes = cluster.Settings.Probes,
    });
}
