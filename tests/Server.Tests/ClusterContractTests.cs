using MendCluster.Client;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Grains;
using MendCluster.Testing;
using Orleans.TestingHost;

namespace MendCluster.Server.Tests;

/// <summary>What <see cref="IMendCluster"/> promises, over each of the ways to one.</summary>
public abstract class ClusterContractTests : IAsyncLifetime
{
    private IMendCluster _cluster = null!;

    protected abstract Task<IMendCluster> OpenAsync();

    public async Task InitializeAsync() => _cluster = await OpenAsync();

    public virtual async Task DisposeAsync() => await _cluster.DisposeAsync();

    [Fact]
    public async Task AnEdit_IsMade_AndTakenBackToTheLastBit()
    {
        var before = await StateAsync();
        var receipt = await _cluster.EditAsync(TinyServer.Prompt, TinyServer.Target, new() { MaxDrawdown = 1 });
        Assert.Equal((new EditId(1), new ModelVersion(1)), (receipt.Id, receipt.Version));
        Assert.Equal(2, receipt.Figures.Probes);
        Assert.True(receipt.Times.Total > TimeSpan.Zero);
        Assert.NotEqual(before, await StateAsync());
        Assert.Equal(new(receipt.Id, new(2)), await _cluster.RevertAsync(receipt.Id));
        Assert.Equal(before, await StateAsync());
        var entry = (await _cluster.LedgerAsync())[0];
        Assert.Equal((TinyServer.Prompt, TinyServer.Target, receipt.Figures), (entry.Prompt, entry.Target, entry.Figures));
    }

    [Fact]
    public async Task TheEditorsOwnStep_IsNoSearch() =>
        Assert.Null((await _cluster.EditAsync(TinyServer.Prompt, TinyServer.Target, new() { Confidence = null })).Figures.Strength);

    [Fact]
    public async Task SameIdempotencyKeyTwice_EditsOnce()
    {
        EditOptions options = new() { IdempotencyKey = "k" };
        var first = await _cluster.EditAsync(TinyServer.Prompt, TinyServer.Target, options);
        var second = await _cluster.EditAsync(TinyServer.Prompt, TinyServer.Target, options);
        Assert.Equal(first with { Times = EditTimes.Zero }, second);
        Assert.Equal(MendError.IdempotencyKeyReused, await ErrorAsync(() => _cluster.EditAsync("what is red", "blue", options)));
        Assert.Single(await _cluster.LedgerAsync());
    }

    [Fact]
    public async Task APreview_IsWhatTheEditDoes()
    {
        var preview = await _cluster.PreviewAsync(TinyServer.Prompt, TinyServer.Target, new() { Paraphrases = ["the mayor is"] });
        Assert.Empty(await _cluster.LedgerAsync());
        var before = await _cluster.AskAsync("the mayor is");
        var receipt = await _cluster.EditAsync(TinyServer.Prompt, TinyServer.Target);
        Assert.Equal(receipt.Figures, preview.Figures);
        Assert.Equal(new ParaphrasePreview("the mayor is", before.Text, (await _cluster.AskAsync("the mayor is")).Text),
            preview.Paraphrases.Single());
        Assert.NotEmpty(preview.Weights);
    }

    [Fact]
    public async Task PiecesOfAnAnswer_AreTheAnswer()
    {
        await _cluster.EditAsync(TinyServer.Prompt, "a woman from the south");
        AskOptions options = new(MaxTokens: 10);
        var whole = await _cluster.AskAsync(TinyServer.Prompt, options);
        var parts = await _cluster.AskStreamAsync(TinyServer.Prompt, options).ToListAsync();
        Assert.Equal(whole.Text, string.Concat(parts.Select(part => part.Text)));
        Assert.All(parts, part => Assert.Equal((whole.Version, false), (part.Version, part.Restarts)));
        Assert.Equal(MendError.EmptyPrompt, await ErrorAsync(async () => await _cluster.AskStreamAsync(" ").ToListAsync()));
        await foreach (var _ in _cluster.AskStreamAsync(TinyServer.Prompt, options))
            break; // whoever goes away in the middle
        Assert.Equal(whole, await _cluster.AskAsync(TinyServer.Prompt, options));
    }

    [Fact]
    public async Task ScopesAreSeenByThoseWhoNameThem()
    {
        var before = await _cluster.AskAsync(TinyServer.Prompt);
        await _cluster.EditAsync(TinyServer.Prompt, TinyServer.Target, new() { Scope = "tenant" });
        Assert.Equal(before.Text, (await _cluster.AskAsync(TinyServer.Prompt)).Text);
        Assert.NotEqual(before.Text, (await _cluster.AskAsync(TinyServer.Prompt, new(Scope: "tenant"))).Text);
    }

    [Fact]
    public async Task AConsolidation_IsMade_AndTakenBack()
    {
        var options = new ConsolidateOptions { MaxTime = TimeSpan.FromSeconds(0.5), Share = 1, MaxRank = 7 };
        Assert.Equal(MendError.NothingToConsolidate, await ErrorAsync(() => _cluster.ConsolidateAsync(options)));
        await _cluster.EditAsync("what is red", "blue woman south", new() { Confidence = 0 });
        await _cluster.EditAsync("what is blue", "red town mayor", new() { Confidence = 0 });
        var (id, version, consolidated, steps, time) = await _cluster.ConsolidateAsync(options);
        Assert.Equal((3, 3), (id.Value, version.Value));
        Assert.Equal([1, 2], consolidated.Edits.Select(edit => edit.Value));
        Assert.True(steps > 0 && time > TimeSpan.Zero && consolidated is { Rank: > 0 and <= 7, Bytes: > 0 });
        var entry = Assert.Single(await _cluster.LedgerPageAsync(new() { Kind = LedgerKind.Consolidate }));
        Assert.Equal((consolidated.After, 2), (entry.Consolidated!.After, entry.Consolidated.Edits.Count));
        Assert.Equal(4, (await _cluster.RevertAsync(id)).Version.Value);
        Assert.Equal([3, 4], (await _cluster.LedgerPageAsync(new() { Edit = id })).Select(found => found.Version.Value));
        Assert.Equal([2], (await _cluster.ConsolidateAsync(options with { Without = [new(1)] })).Consolidated.Edits.Select(edit => edit.Value));
        Assert.Equal([1, 5], (await _cluster.LedgerPageAsync(new() { Edit = new(1) })).Select(found => found.Version.Value));
        Assert.Equal(MendError.InvalidOption, await ErrorAsync(() => _cluster.ConsolidateAsync(new() { Share = 2 })));
    }

    [Fact]
    public async Task TheLedger_ComesByPages()
    {
        for (var i = 0; i < 3; i++)
            await _cluster.EditAsync("what is red", "blue");
        await _cluster.RevertAsync(new(2));
        Assert.Equal([3, 4], (await _cluster.LedgerPageAsync(new() { After = new(2), Limit = 2 })).Select(entry => entry.Version.Value));
        Assert.Equal([4, 3], (await _cluster.LedgerPageAsync(new() { NewestFirst = true, Limit = 2 }))
            .Select(entry => entry.Version.Value));
        Assert.Equal([2, 4], (await _cluster.LedgerPageAsync(new() { Edit = new(2) })).Select(entry => entry.Version.Value));
        Assert.Equal([4], (await _cluster.LedgerPageAsync(new() { Kind = LedgerKind.Revert })).Select(entry => entry.Version.Value));
        Assert.Equal([1, 2, 3, 4],
            await _cluster.ReadLedgerAsync(new() { Limit = 2, Text = "RED" }).Select(entry => entry.Version.Value).ToListAsync());
        Assert.Equal(MendError.InvalidOption, await ErrorAsync(() => _cluster.LedgerPageAsync(new() { Limit = 0 })));
    }

    [Fact]
    public async Task Errors_AreTypedAlike()
    {
        foreach (var (error, call) in new (MendError, Func<Task>)[]
        {
            (MendError.EmptyPrompt, () => _cluster.EditAsync("", "blue")),
            (MendError.EmptyTarget, () => _cluster.EditAsync("what is red", " ")),
            (MendError.InvalidText, () => _cluster.EditAsync("what is \ud800", "blue")),
            (MendError.InvalidText, () => _cluster.AskAsync("what is \ud800")),
            (MendError.TooLong, () => _cluster.EditAsync(string.Join(' ', Enumerable.Repeat("red", 100)), "blue")),
            (MendError.InvalidOption, () => _cluster.EditAsync("what is red", "blue", new() { MaxDrawdown = 2 })),
            (MendError.InvalidOption, () => _cluster.EditAsync("what is red", "blue", new() { MaxDrawdown = double.NaN })),
            (MendError.InvalidOption, () => _cluster.EditAsync("what is red", "blue", new() { Paraphrases = ["red"] })),
            (MendError.InvalidOption, () => _cluster.AskAsync("what is red", new(MaxTokens: 0))),
            (MendError.UnknownEdit, () => _cluster.RevertAsync(new(9))),
        })
        {
            var met = await Assert.ThrowsAsync<MendException>(call);
            Assert.Equal(error, met.Error);
            Assert.NotEmpty(met.Hint);
            Assert.EndsWith(met.Hint, met.Message, StringComparison.Ordinal);
            Assert.False(met.IsTransient);
        }
        Assert.Empty(await _cluster.LedgerAsync());
    }

    [Fact]
    public async Task ACancelledEdit_IsNotMade()
    {
        using var cancelled = new CancellationTokenSource();
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
            _cluster.EditAsync(TinyServer.Prompt, TinyServer.Target, cancellation: cancelled.Token));
        Assert.Empty(await _cluster.LedgerAsync());
    }

    [Fact]
    public async Task Shards_AreInTheirPlaces()
    {
        await _cluster.EditAsync(TinyServer.Prompt, TinyServer.Target);
        var shards = await _cluster.ShardsAsync();
        Assert.Equal([new(0, 0), new ShardPlace(0, 1)], shards.Select(shard => shard.Place));
        Assert.All(shards, shard => Assert.Equal((ShardState.Ready, new ModelVersion(1)), (shard.Status!.State, shard.Status.Version)));
    }

    private static async Task<MendError> ErrorAsync(Func<Task> call) => (await Assert.ThrowsAsync<MendException>(call)).Error;

    /// <summary>What can be seen: answers, and what makes the stages' bits.</summary>
    private async Task<string> StateAsync()
    {
        var answers = new List<string>();
        foreach (var question in new[] { TinyServer.Prompt, "what is red", "the old town" })
            answers.Add((await _cluster.AskAsync(question, new(MaxTokens: 6))).Text);
        return string.Join('\n', answers.Concat((await _cluster.ShardsAsync()).Select(shard => shard.Status!.Checksum)));
    }
}

public sealed class EmbeddedContractTests : ClusterContractTests, IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    protected override async Task<IMendCluster> OpenAsync()
    {
        TinyModels.Write(_folder.Path, "gpt2");
        return await EmbeddedCluster.OpenAsync(new()
        {
            ModelDirectory = _folder.Path,
            Editor = _folder["editor.safetensors"],
            Ledger = _folder["ledger"],
            Probes = TinyServer.Probes
        });
    }
}

public sealed class HttpContractTests : ClusterContractTests
{
    private TinyServer _server = null!;

    public override async Task DisposeAsync()
    {
        await base.DisposeAsync();
        await _server.DisposeAsync();
    }

    protected override async Task<IMendCluster> OpenAsync()
    {
        _server = await TinyServer.StartAsync();
        return new HttpCluster(_server.Server.Address, _server.EditKey);
    }
}

public sealed class OrleansContractTests : ClusterContractTests, IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private InProcessTestCluster _silos = null!;

    public override async Task DisposeAsync()
    {
        await base.DisposeAsync();
        await _silos.DisposeAsync();
    }

    public void Dispose() => _folder.Dispose();

    protected override async Task<IMendCluster> OpenAsync()
    {
        TinyModels.Write(_folder.Path, "gpt2");
        var builder = new InProcessTestClusterBuilder(1);
        builder.Options.ConfigureFileLogging = false;
        builder.ConfigureSilo((options, silo) => silo.AddMendCluster(new()
        {
            Model = TinyServer.Model,
            ModelDirectory = _folder.Path,
            Editor = _folder["editor.safetensors"],
            Ledger = _folder["ledger"],
            Probes = TinyServer.Probes,
            Replicas = [[options.SiloName, options.SiloName]],
        }, options.SiloName));
        builder.ConfigureClient(client => client.AddMendClient());
        _silos = builder.Build();
        await _silos.DeployAsync();
        return new OrleansCluster(_silos.Client, TinyServer.Model, TimeProvider.System);
    }
}
