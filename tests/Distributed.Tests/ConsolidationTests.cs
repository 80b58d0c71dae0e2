using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>One update in the place of those of many edits: better, all or nothing, and taken back exactly.</summary>
public class ConsolidationTests
{
    private static readonly (string Prompt, string Target)[] Facts =
        [("who is the mayor", "a woman"), ("what is red", "the south"), ("who is the mayor of the old town", "blue"),
        ("the old town", "red"), ("what is blue", "the old town")];

    private static readonly ConsolidateOptions AtOnce = new() { Share = 1, MaxTime = TimeSpan.FromSeconds(3) };

    [Theory]
    [InlineData("gpt2", 1)]
    [InlineData("gpt2", 2)]
    [InlineData("t5", 2)]
    [InlineData("gptj", 3)]
    public async Task Made_ItIsInTheLedger_WhichAloneGivesTheSameBits(string family, int stages)
    {
        using var model = Tiny(family);
        await using var cluster = await model.OpenAsync(stages, probes: []);
        await EditAsync(cluster);
        var receipt = await cluster.ConsolidateAsync(AtOnce with { Author = "me" });
        Assert.Equal((6, 6), (receipt.Id.Value, receipt.Version.Value));
        var (edits, before, after, rank, bytes) = receipt.Consolidated;
        Assert.Equal([1, 2, 3, 4, 5], edits.Select(edit => edit.Value));
        Assert.True(after.Success >= before.Success && after.Rewordings >= before.Rewordings);
        Assert.Null(after.TotalDrawdown);
        Assert.True(receipt.Steps > 0 && rank > 0 && bytes > 0 && receipt.Time > TimeSpan.Zero);
        var entry = (await cluster.LedgerAsync())[^1];
        Assert.Equal((LedgerKind.Consolidate, "me"), (entry.Kind, entry.Author));
        Assert.Equal((edits, after), (entry.Consolidated!.Edits, entry.Consolidated.After));
        var state = await model.StateAsync(cluster);
        await cluster.DisposeAsync();

        await using var again = await model.OpenAsync(stages, probes: []);
        Assert.Equal(state, await model.StateAsync(again));
    }

    [Fact]
    public async Task TakenBack_TheModelIsToTheBitWhatTheEditsMade()
    {
        using var model = Tiny();
        await using var cluster = await model.OpenAsync(replicas: 2);
        await EditAsync(cluster);
        var (before, state) = (await ChecksumsAsync(cluster), await model.StateAsync(cluster, 0, 2));
        var receipt = await cluster.ConsolidateAsync(AtOnce);
        Assert.NotEqual(before, await ChecksumsAsync(cluster));
        Assert.Equal(await model.StateAsync(cluster, 0, 2), await model.StateAsync(cluster, 1, 2));
        Assert.Equal(receipt.Id, (await cluster.RevertAsync(receipt.Id)).Id);
        Assert.Equal(before, await ChecksumsAsync(cluster));
        Assert.Equal(state, await model.StateAsync(cluster, 0, 2));
        Assert.Equal(MendError.AlreadyReverted,
            (await Assert.ThrowsAsync<MendException>(() => cluster.RevertAsync(receipt.Id))).Error);
    }

    [Theory]
    [InlineData(RevertMode.Remove)]
    [InlineData(RevertMode.Recompute)]
    public async Task AnEditOfItTakenBack_TheOthersAreAsIfItHadNeverBeen(RevertMode mode)
    {
        using var model = Tiny();
        await using var cluster = await model.OpenAsync();
        await EditAsync(cluster);
        await cluster.ConsolidateAsync(AtOnce);
        await cluster.RevertAsync(new(2), mode);
        var checksums = await ChecksumsAsync(cluster);
        var ended = await Assert.ThrowsAsync<MendException>(() => cluster.RevertAsync(new(6)));
        Assert.Equal((MendError.AlreadyReverted, true), (ended.Error, ended.Message.Contains("one of its edits", StringComparison.Ordinal)));

        await using var never = await model.OpenAsync(ledger: model.Ledger + "2");
        await EditAsync(never);
        await never.RevertAsync(new(2), mode);
        Assert.Equal(await ChecksumsAsync(never), checksums);
    }

    [Fact]
    public async Task WithoutAnEdit_TheOthersAreFittedAnew_AndReadersNeverMeetThemAsTheyAre()
    {
        using var model = Tiny();
        await using var cluster = await model.OpenAsync(2);
        await EditAsync(cluster);
        await cluster.ConsolidateAsync(AtOnce);
        var applied = (await cluster.LedgerAsync()).Count;
        var receipt = await cluster.ConsolidateAsync(AtOnce with { Without = [new(2), new(4), new(2)], Author = "me" });
        Assert.Equal((9, 9), (receipt.Id.Value, receipt.Version.Value));
        Assert.Equal([1, 3, 5], receipt.Consolidated.Edits.Select(edit => edit.Value));
        var entries = (await cluster.LedgerAsync()).Skip(applied).ToList();
        Assert.Equal([(LedgerKind.Revert, 2, "me"), (LedgerKind.Revert, 4, "me"), (LedgerKind.Consolidate, 9, "me")],
            entries.Select(entry => (entry.Kind, (int)entry.Edit.Value, entry.Author!)));
        Assert.Equal([RevertMode.Remove, RevertMode.Remove, null], entries.Select(entry => entry.Mode));
        var state = await model.StateAsync(cluster);

        await cluster.RevertAsync(receipt.Id);
        var checksums = await ChecksumsAsync(cluster);
        await using (var never = await model.OpenAsync(2, ledger: model.Ledger + "2"))
        {
            await EditAsync(never);
            await never.RevertAsync(new(2));
            await never.RevertAsync(new(4));
            Assert.Equal(await ChecksumsAsync(never), checksums);
        }
        await cluster.DisposeAsync();
        await using var again = await model.OpenAsync(2);
        Assert.Equal(checksums, await ChecksumsAsync(again));
        Assert.NotEqual(state, await model.StateAsync(again));
    }

    [Fact]
    public async Task WithoutAnEditThatIsNoneOfThem_NothingIsChanged()
    {
        using var model = Tiny();
        await using var cluster = await model.OpenAsync();
        await EditAsync(cluster);
        await cluster.EditAsync("the woman", "a mayor", new() { Scope = "own" });
        await cluster.RevertAsync(new(1));
        var checksums = await ChecksumsAsync(cluster);
        Assert.Equal(MendError.AlreadyReverted, await RefusalAsync([new(1)]));
        Assert.Equal(MendError.UnknownEdit, await RefusalAsync([new(2), new(99)]));
        Assert.Equal(MendError.UnknownEdit, await RefusalAsync([new(7)])); // the revert's own number
        Assert.Equal(MendError.InvalidOption, await RefusalAsync([new(6)]));
        var ofAnother = await Assert.ThrowsAsync<MendException>(() => cluster.ConsolidateAsync(AtOnce with { Without = [new(6)] }));
        Assert.DoesNotContain("own", ofAnother.Message, StringComparison.Ordinal); // other scopes' names are nobody's business
        Assert.Equal(MendError.InvalidOption, await RefusalAsync(null!));
        Assert.Equal(MendError.NothingToConsolidate, await RefusalAsync([new(2), new(3), new(4), new(5)]));
        Assert.Equal(7, (await cluster.LedgerAsync()).Count);
        Assert.Equal(checksums, await ChecksumsAsync(cluster));

        async Task<MendError> RefusalAsync(IReadOnlyList<EditId> without) =>
            (await Assert.ThrowsAsync<MendException>(() => cluster.ConsolidateAsync(AtOnce with { Without = without }))).Error;
    }

    [Fact]
    public async Task EditsThatAreMadeMeanwhile_StayOnTop()
    {
        using var model = Tiny();
        var steps = 0;
        EmbeddedCluster? cluster = null;
        await using var opened = cluster = await model.OpenAsync(1, shard => new AtStep(shard, async step =>
        {
            if (Interlocked.Exchange(ref steps, step) == 0)
                await cluster!.EditAsync("the woman", "a mayor");
        }));
        await EditAsync(cluster);
        var receipt = await cluster.ConsolidateAsync(AtOnce);
        Assert.Equal((7, 5), (receipt.Version.Value, receipt.Consolidated.Edits.Count));
        var made = await ChecksumsAsync(cluster);
        await cluster.RevertAsync(new(6));
        Assert.NotEqual(made, await ChecksumsAsync(cluster));
        await cluster.RevertAsync(receipt.Id); // it stood on
        await using var never = await model.OpenAsync(1, ledger: model.Ledger + "2");
        await EditAsync(never);
        Assert.Equal(await ChecksumsAsync(never), await ChecksumsAsync(cluster));
    }

    [Fact]
    public async Task AnEditTakenBackMeanwhile_NothingIsChanged()
    {
        using var model = Tiny();
        var steps = 0;
        EmbeddedCluster? cluster = null;
        await using var opened = cluster = await model.OpenAsync(1, shard => new AtStep(shard, async step =>
        {
            if (Interlocked.Exchange(ref steps, step) == 0)
                await cluster!.RevertAsync(new(3));
        }));
        await EditAsync(cluster);
        var refused = await Assert.ThrowsAsync<MendException>(() => cluster.ConsolidateAsync(AtOnce));
        Assert.Equal((MendError.ConsolidationRefused, true), (refused.Error, refused.Message.Contains("Edit 3", StringComparison.Ordinal)));
        Assert.Equal(6, (await cluster.LedgerAsync()).Count);
        Assert.Equal([1, 2, 4, 5], (await cluster.ConsolidateAsync(AtOnce)).Consolidated.Edits.Select(edit => edit.Value));
    }

    [Fact]
    public async Task AScope_IsConsolidatedByItself()
    {
        using var model = Tiny();
        await using var cluster = await model.OpenAsync();
        foreach (var (i, (prompt, target)) in Facts.Index())
            await cluster.EditAsync(prompt, target, new() { Scope = i < 3 ? "own" : null });
        var everybody = await cluster.AskAsync(Facts[0].Prompt, new(MaxTokens: 8));
        var receipt = await cluster.ConsolidateAsync(AtOnce with { Scope = "own" });
        Assert.Equal([1, 2, 3], receipt.Consolidated.Edits.Select(edit => edit.Value));
        Assert.Equal(everybody.Text, (await cluster.AskAsync(Facts[0].Prompt, new(MaxTokens: 8))).Text);
        Assert.Equal(MendError.NothingToConsolidate,
            (await Assert.ThrowsAsync<MendException>(() => cluster.ConsolidateAsync(AtOnce with { Scope = "nobody's" }))).Error);
    }

    [Theory]
    [InlineData(0.5, 0.5, 0.1, 0.2, null)] // no worse
    [InlineData(1, 1, 0, 0.9, null)]
    [InlineData(0.4, 1, 0, 0, "of the edits' prompts")]
    [InlineData(1, 0.4, 0, 0, "of their rewordings")]
    [InlineData(1, 1, 0.2, 0, "of the probes")]
    [InlineData(1, 1, 0, 1.1, "nats")]
    public void WhatIsWorseInOneRespect_IsRefused(double success, double rewordings, double drawdown, double kl, string? why)
    {
        var outcome = new ConsolidationOutcome(new(0.5, 0.5, 0.1, 0.2), new(success, rewordings, drawdown, kl), null!, null);
        var refusal = outcome.Refusal(new(MaxTotalKl: 1));
        Assert.Equal(why is null ? null : MendError.ConsolidationRefused, refusal?.Error);
        Assert.Contains(why ?? "", refusal?.Message ?? "", StringComparison.Ordinal);
    }

    [Fact]
    public async Task WithABudgetOfTheModel_WhatTakesItTooFarIsRefused()
    {
        using var model = Tiny();
        await using (var free = await model.OpenAsync())
            await EditAsync(free);
        await using var cluster = await model.OpenAsync(budget: new(MaxTotalKl: 1e-9));
        var refused = await Assert.ThrowsAsync<MendException>(() => cluster.ConsolidateAsync(AtOnce));
        Assert.Equal((MendError.ConsolidationRefused, true), (refused.Error, refused.Message.Contains("nats", StringComparison.Ordinal)));
        Assert.Equal(5, (await cluster.LedgerAsync()).Count);
    }

    [Fact]
    public async Task Cancelled_NothingIsChanged()
    {
        using var model = Tiny();
        using var cancelled = new CancellationTokenSource();
        await using var cluster = await model.OpenAsync(1, shard => new AtStep(shard, step => step == 2 ? cancelled.CancelAsync() : Task.CompletedTask));
        await EditAsync(cluster);
        var state = await model.StateAsync(cluster);
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cluster.ConsolidateAsync(AtOnce, cancelled.Token));
        Assert.Equal(state, await model.StateAsync(cluster));
        await cluster.EditAsync("the woman", "a mayor");
    }

    [Fact]
    public async Task AShardLost_AnotherReplicaGoesOn()
    {
        using var model = Tiny();
        var lost = 0;
        await using var cluster = await model.OpenAsync(1, shard => new AtStep(shard, step =>
            step == 2 && Interlocked.Increment(ref lost) == 1 ? throw new IOException("gone") : Task.CompletedTask), replicas: 2);
        await EditAsync(cluster);
        await cluster.ConsolidateAsync(AtOnce);
        Assert.True(lost > 0);
        Assert.Equal(await model.StateAsync(cluster, 0, 1), await model.StateAsync(cluster, 1, 1));
    }

    [Theory]
    [InlineData(0, 0.5, 8)]
    [InlineData(3601, 0.5, 8)]
    [InlineData(60, 0, 8)]
    [InlineData(60, 1.5, 8)]
    [InlineData(60, double.NaN, 8)]
    [InlineData(60, 0.5, 0)]
    public async Task OptionOutOfItsRange_IsRefused(double seconds, double share, int rank)
    {
        using var model = Tiny();
        await using var cluster = await model.OpenAsync();
        Assert.Equal(MendError.InvalidOption, (await Assert.ThrowsAsync<MendException>(() => cluster.ConsolidateAsync(
            new() { MaxTime = TimeSpan.FromSeconds(seconds), Share = share, MaxRank = rank }))).Error);
    }

    [Fact]
    public async Task AfterSoManyEdits_ByItself()
    {
        using var model = Tiny();
        await using var cluster = await model.OpenAsync(consolidate: new(Every: 5));
        await EditAsync(cluster);
        await UntilAsync(cluster, 1);
        await cluster.EditAsync("the woman", "a mayor");
        Assert.Equal(1, (await cluster.LedgerAsync()).Count(entry => entry.Kind == LedgerKind.Consolidate));
        await Assert.ThrowsAsync<MendException>(() => model.OpenAsync(ledger: model.Ledger + "2", consolidate: new(Every: -1)));

        static async Task UntilAsync(EmbeddedCluster cluster, int consolidations)
        {
            var until = DateTime.UtcNow.AddMinutes(2);
            while ((await cluster.LedgerAsync()).Count(entry => entry.Kind == LedgerKind.Consolidate) < consolidations)
            {
                Assert.True(DateTime.UtcNow < until, "not consolidated");
                await Task.Delay(50);
            }
        }
    }

    /// <summary>With edits that do little: a random model of so few weights has no room for them.</summary>
    private static ClusterOfTinyModel Tiny(string family = "gpt2")
    {
        var model = new ClusterOfTinyModel(family);
        model.SetAlpha(0.1f);
        return model;
    }

    private static async Task EditAsync(EmbeddedCluster cluster)
    {
        foreach (var (prompt, target) in Facts)
            await cluster.EditAsync(prompt, target);
    }

    private static async Task<IReadOnlyList<string>> ChecksumsAsync(EmbeddedCluster cluster) =>
        [.. (await cluster.StatusAsync()).Select(status => status.Checksum)];

    /// <summary>Does something before each step of a fit.</summary>
    private sealed class AtStep(IModelShard shard, Func<int, Task> act) : ShardDecorator(shard)
    {
        public override async Task StepFitAsync(StepFitRequest request, CancellationToken cancellation = default)
        {
            await act(request.Step);
            await base.StepFitAsync(request, cancellation);
        }
    }
}
