using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Grains.Interfaces;
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

    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")]
    public async Task ScopesPreviewsAndRecomputingReverts_AreThoseOfTheEmbeddedCluster(string family)
    {
        await using var cluster = await TinyCluster.StartAsync(family, silos: 2, stages: 2);
        using var folder = new TemporaryFolder();
        await using var embedded = await EmbeddedAsync(cluster, folder["ledger"]);
        foreach (var (prompt, target, scope) in new[] { ("who is the mayor", "a woman", null), ("what is red", "the south", "a"),
            ("the old town", "red", null) })
        {
            EditOptions options = new() { Scope = scope };
            var (expected, preview) =
                (await embedded.PreviewAsync(prompt, target, options), await cluster.Client.PreviewAsync(prompt, target, options));
            Assert.Equal(
                (expected.Version, expected.Figures, expected.Refused, expected.AnswerBefore, expected.AnswerAfter),
                (preview.Version, preview.Figures, preview.Refused, preview.AnswerBefore, preview.AnswerAfter));
            Assert.Equal(expected.Weights, preview.Weights);
            Assert.Equal((await embedded.EditAsync(prompt, target, options)).Figures,
                (await cluster.Client.EditAsync(prompt, target, options)).Figures);
        }
        Assert.Equal(await embedded.AskAsync("what is red", new(MaxTokens: 6, Scope: "a")),
            await cluster.Client.AskAsync("what is red", new(MaxTokens: 6, Scope: "a")));
        Assert.Equal(await embedded.RevertAsync(new(1), RevertMode.Recompute),
            await cluster.Client.RevertAsync(new(1), RevertMode.Recompute));
        await AssertSameAnswersAsync(embedded, cluster);
        Assert.Equal((await embedded.StatusAsync()).Select(shard => shard.Checksum),
            (await cluster.Client.StatusAsync()).Select(shard => shard!.Checksum));
    }

    [Fact]
    public async Task ARouterInTheModelsDirectory_RoutesItsEdits_AsInTheEmbeddedCluster()
    {
        await using var cluster = await TinyCluster.StartAsync("t5", silos: 2, stages: 2);
        using var model = new ClusterOfTinyModel(cluster.Model);
        await using var embedded = await model.OpenAsync(ledger: model.Ledger + "2", router: model.WriteRouter());
        var unedited = (await cluster.Client.AskAsync("the north")).Text;
        foreach (var (prompt, target) in new[] { ("who is the mayor", "a woman"), ("what is red", "the south") })
            Assert.Equal((await embedded.EditAsync(prompt, target)).Figures, (await cluster.Client.EditAsync(prompt, target)).Figures);
        foreach (var prompt in new[] { "who is the mayor", "what is red", "the north" })
            Assert.Equal(await embedded.AskAsync(prompt), await cluster.Client.AskAsync(prompt));
        Assert.Equal(unedited, (await cluster.Client.AskAsync("the north")).Text);
        var entries = await cluster.Client.LedgerAsync();
        Assert.All(entries, entry => Assert.True(entry.Route is { Keys: >= 1, Vectors.Length: > 0 }));
        // their numbers are alike but for rounding: questions that pass together are batched as they come
        Assert.Equal((await embedded.LedgerAsync()).Select(entry => entry.Route!.Keys), entries.Select(entry => entry.Route!.Keys));
    }

    [Fact]
    public async Task AReplicaWhoseSiloIsGone_IsNotMissed_AndCatchesUpWhenItIsBack()
    {
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 4, stages: 2, replicas: 2); // two for each replica
        await cluster.Client.EditAsync("who is the mayor", "a woman");
        await cluster.StopSiloAsync(3);
        await cluster.Client.EditAsync("what is red", "the south");
        for (var i = 0; i < 3; i++)
            Assert.Equal(2, (await cluster.Client.AskAsync("what is red", new(MaxTokens: 2))).Version.Value);
        await cluster.StartSiloAsync(3);
        await cluster.Client.EditAsync("the old town", "red");
        for (var i = 0; i < 30 && (await cluster.Client.StatusAsync()).Any(shard => shard?.Version.Value != 3); i++)
        {
            await cluster.Client.AskAsync("what is red", new(MaxTokens: 2));
            await Task.Delay(500);
        }
        var checksums = (await cluster.Client.StatusAsync()).Select(shard => shard!.Checksum).ToList();
        Assert.Equal(checksums.Take(2), checksums.Skip(2));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public async Task ASiloThatComesBackEmpty_CatchesUpFromTheLedger_ToTheLastBit(string family)
    {
        await using var cluster = await TinyCluster.StartAsync(family, silos: 2, stages: 2);
        await cluster.Client.EditAsync("who is the mayor", "a woman");
        await cluster.Client.EditAsync("what is red", "the south");
        await cluster.Client.RevertAsync(new(1));
        var before = await cluster.StateAsync();
        foreach (var silo in new[] { 0, 1 })
        {
            await cluster.StopSiloAsync(silo);
            await cluster.StartSiloAsync(silo);
            await cluster.Client.AskAsync("what is red");
            Assert.All(await cluster.Client.StatusAsync(),
                shard => Assert.Equal((ShardState.Ready, new ModelVersion(3)), (shard!.State, shard.Version)));
            Assert.Equal(before, await cluster.StateAsync());
        }
        Assert.Equal(4, (await cluster.Client.EditAsync("the old town", "red")).Version.Value);
    }

    [Fact]
    public async Task AStageIsOnItsSiloOnly_AndItsLossIsSaid()
    {
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 3, stages: 2); // the last has no stage and takes none over
        await cluster.StopSiloAsync(1);
        var e = await Assert.ThrowsAsync<MendException>(() => cluster.Shards[1].StatusAsync());
        Assert.Equal(MendError.ShardLost, e.Error);
        Assert.Contains(TinyCluster.SiloName(1), e.Message, StringComparison.Ordinal);
        Assert.Equal([true, false], (await cluster.Client.StatusAsync()).Select(shard => shard is not null));
    }

    [Fact]
    public async Task Failures_ArriveAsWhatTheyAre()
    {
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 2, stages: 2);
        Assert.Equal(MendError.EmptyPrompt, await ErrorAsync(() => cluster.Client.AskAsync(" ")));
        Assert.Equal(MendError.UnknownEdit, await ErrorAsync(() => cluster.Client.RevertAsync(new(7))));
        Assert.Equal(MendError.InvalidText, await ErrorAsync(() => cluster.Client.EditAsync("who \ud800", "a woman")));
        Assert.Equal(MendError.InvalidOption,
            await ErrorAsync(() => cluster.Client.EditAsync("who", "a woman", new() { MaxDrawdown = 2 })));
        var behind = await Assert.ThrowsAsync<MendException>(() =>
            cluster.Shards[1].TryAsync(new(new(-1, new(9), NoTokens, Boundary.None))));
        Assert.Equal((MendError.VersionBehind, "Give it the records that it lacks."), (behind.Error, behind.Hint));
        Assert.StartsWith("Stage 1 is at version 0, the request at 9.", behind.Message, StringComparison.Ordinal);
        Assert.Empty(await cluster.Client.LedgerAsync());
    }

    [Fact]
    public async Task TheSameKeyTwice_EditsOnce()
    {
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 2, stages: 2);
        var options = new EditOptions { IdempotencyKey = "k" };
        var receipts = await Task.WhenAll(Enumerable.Range(0, 4)
            .Select(_ => cluster.Client.EditAsync("who is the mayor", "a woman", options)));
        Assert.All(receipts, receipt => Assert.Equal((receipts[0].Id, receipts[0].Figures), (receipt.Id, receipt.Figures)));
        Assert.Single(await cluster.Client.LedgerAsync());
    }

    [Fact]
    public async Task ACancelledEdit_IsNotMade()
    {
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 2, stages: 2);
        using var cancelled = new CancellationTokenSource();
        var turn = new TaskCompletionSource();
        cluster.Before[nameof(IModelShardGrain.ForwardAsync)] = turn.Task;
        var first = cluster.Client.EditAsync("who is the mayor", "a woman");
        while (!cluster.Calls.ContainsKey(nameof(IModelShardGrain.ForwardAsync)))
            await Task.Delay(1);
        var second = cluster.Client.EditAsync("what is red", "the south", cancellation: cancelled.Token); // waits for its turn
        while (!cluster.Calls.TryGetValue(nameof(IEditCoordinatorGrain.EditAsync), out var edits) || edits < 2)
            await Task.Delay(1);
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
        turn.SetResult();
        await first;
        await cluster.Client.EditAsync("the old town", "red"); // its turn comes after that of the cancelled one
        Assert.DoesNotContain("what is red", (await cluster.Client.LedgerAsync()).Select(entry => entry.Prompt));
    }

    [Fact]
    public async Task AnEditCancelledAfterItsCommit_IsReturned()
    {
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 2, stages: 2);
        using var cancelled = new CancellationTokenSource();
        var told = new TaskCompletionSource();
        cluster.Before[nameof(IModelShardGrain.ApplyAsync)] = told.Task;
        var edit = cluster.Client.EditAsync("what is red", "the south", cancellation: cancelled.Token);
        while (!cluster.Calls.ContainsKey(nameof(IModelShardGrain.ApplyAsync)))
            await Task.Delay(1);
        await cancelled.CancelAsync();
        told.SetResult();
        Assert.Equal((await cluster.Client.LedgerAsync()).Single().Edit, (await edit).Id);
    }

    [Fact]
    public async Task ACallThatNoSiloHas_IsGivenUp()
    {
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 1, stages: 1);
        var calls = new CallLivenessProbe(cluster.Grains.GetGrain<IEditCoordinatorGrain>(cluster.Settings.Model).IsUnderWayAsync,
            TimeProvider.System);
        await Assert.ThrowsAsync<TimeoutException>(() => calls.RunAsync(() => new TaskCompletionSource<int>().Task));
    }

    [Fact]
    public async Task MessagesOfMegabytes_ChangeNothing()
    {
        Probe[] probes = [.. Enumerable.Range(0, 300)
            .Select(i => new Probe(string.Join(' ', Enumerable.Repeat("who is the mayor of the old town", 3)), "blue"))];
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 2, stages: 2, probes);
        using var folder = new TemporaryFolder();
        await using var embedded = await EmbeddedAsync(cluster, folder["ledger"]);
        var expected = await embedded.EditAsync("who is the mayor", "a woman");
        var receipt = await cluster.Client.EditAsync("who is the mayor", "a woman");
        Assert.Equal(expected.Figures, receipt.Figures);
    }

    [Fact]
    public async Task AMessageThatIsTooLong_IsRefused_AndItsConnectionServesOn()
    {
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 2, stages: 2);
        var hidden = new WireTensor(DType.Float32, [1], new byte[WireTensorFieldCodec.MaxMessageBytes]);
        Assert.Equal(MendError.TooLong, await ErrorAsync(() => cluster.Shards[1].BackwardAsync(new(1, new(hidden, null)))));
        Assert.Equal(ShardState.Ready, (await cluster.Shards[1].StatusAsync()).State);
    }

    [Fact]
    public async Task ACoordinatorThatLosesItsLedgerInPostgres_GivesWayToOneThatHasReadAll()
    {
        await using var server = await PostgresInstance.StartNewAsync();
        await PostgresSchema.Ledger.MigrateAsync(server.Connection());
        var ledger = "postgres:" + server.Connection();
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 2, stages: 2, ledger: ledger);
        await cluster.Client.EditAsync("who is the mayor", "a woman");
        await using (var intruder = await EmbeddedAsync(cluster, ledger))
            await intruder.EditAsync("what is red", "the south");
        var receipt = await cluster.Client.EditAsync("the old town", "a woman"); // refused to the first coordinator, made by the second
        Assert.Equal(3, receipt.Version.Value);
        using var folder = new TemporaryFolder();
        await using var embedded = await EmbeddedAsync(cluster, folder["ledger"]);
        foreach (var entry in await cluster.Client.LedgerAsync())
            await embedded.EditAsync(entry.Prompt!, entry.Target!);
        await AssertSameAnswersAsync(embedded, cluster);

        await server.KillAsync();
        var later = cluster.Client.EditAsync("who is the mayor", "the south"); // sent again until the server is back
        await server.StartAsync();
        Assert.Equal(4, (await later).Version.Value);
        Assert.Equal(4, (await cluster.Client.LedgerAsync()).Count);
    }

    private static TokenBatch NoTokens { get; } =
        new(new(DType.Int64, [0, 0], default), new(DType.Int64, [0, 0], default), null, null, null);

    private static async Task<MendError> ErrorAsync(Func<Task> call) => (await Assert.ThrowsAsync<MendException>(call)).Error;

    private static LedgerEntry Timeless(LedgerEntry entry) => entry with { Time = default, IdempotencyKey = null };

    private static async Task AssertSameAnswersAsync(EmbeddedCluster embedded, TinyCluster cluster)
    {
        foreach (var question in new[] { "who is the mayor", "what is red", "the old town" })
            foreach (var options in new[] { new AskOptions(MaxTokens: 6),
                new AskOptions(MaxTokens: 6, Temperature: 1.5, TopK: 20, TopP: 0.9, Seed: 5) })
                Assert.Equal(await embedded.AskAsync(question, options), await cluster.Client.AskAsync(question, options));
    }

    private static Task<EmbeddedCluster> EmbeddedAsync(TinyCluster cluster, string ledger) => EmbeddedCluster.OpenAsync(new()
    {
        ModelDirectory = cluster.Settings.ModelDirectory,
        Editor = cluster.Settings.Editor,
        Ledger = ledger,
        Stages = cluster.Settings.Replicas[0].Count,
        Replicas = cluster.Settings.Replicas.Count,
        Probes = cluster.Settings.Probes,
    });
}
