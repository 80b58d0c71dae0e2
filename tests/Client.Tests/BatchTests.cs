using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Testing;

namespace MendCluster.Client.Tests;

public sealed class BatchTests : IAsyncLifetime, IDisposable
{
    private static readonly Fact[] Facts = [new("what is red", "blue"), new("the old town", "south"), new("who is the mayor", "a woman")];

    private readonly TemporaryFolder _folder = new();
    private EmbeddedCluster _cluster = null!;

    public async Task InitializeAsync()
    {
        TinyModels.Write(_folder.Path, "gpt2");
        _cluster = await EmbeddedCluster.OpenAsync(new()
        {
            ModelDirectory = _folder.Path,
            Editor = _folder["editor.safetensors"],
            Ledger = _folder["ledger"]
        });
    }

    public Task DisposeAsync() => _cluster.DisposeAsync().AsTask();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task Many_AreMadeInOrder_AndOnceHoweverOftenTheBatchIsSent()
    {
        EditOptions options = new() { IdempotencyKey = "batch", Author = "me" };
        var first = await _cluster.EditManyAsync(Facts, options).ToListAsync();
        Assert.Equal(Facts.Select(fact => fact.Prompt), (await _cluster.LedgerAsync()).Select(entry => entry.Prompt));
        Assert.Equal(first.Select(receipt => receipt.Id),
            (await _cluster.EditManyAsync(Facts, options).ToListAsync()).Select(receipt => receipt.Id));
        Assert.Equal(Facts.Length, (await _cluster.LedgerAsync()).Count);
        Assert.All(await _cluster.LedgerAsync(), entry => Assert.Equal("me", entry.Author));
    }

    [Fact]
    public async Task ManyAtOnce_AreGivenInOrder_AndNoneIsUnderWayWhenOneFails()
    {
        var made = await _cluster.EditManyAsync(Facts, new() { IdempotencyKey = "batch" }, atOnce: 2).ToListAsync();
        var entries = await _cluster.LedgerAsync();
        Assert.Equal(Facts.Select(fact => fact.Prompt), made.Select(receipt => entries.First(entry => entry.Edit == receipt.Id).Prompt));
        Assert.Equal(Facts.Length, entries.Count);

        var given = new List<EditReceipt>();
        await Assert.ThrowsAsync<MendException>(async () =>
        {
            await foreach (var receipt in _cluster.EditManyAsync([Facts[0], new("", "nothing"), Facts[1]], atOnce: 3))
                given.Add(receipt);
        });
        Assert.Single(given);
        Assert.Equal(Facts.Length + 2, (await _cluster.LedgerAsync()).Count); // the one after it was sent with it, and has been made
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => _cluster.EditManyAsync(Facts, atOnce: 0).ToListAsync().AsTask());
    }

    [Fact]
    public async Task All_OrNoneStaysInForce()
    {
        var untouched = await ChecksumsAsync();
        var told = new List<EditId>();
        var refused = await Assert.ThrowsAsync<MendException>(() =>
            _cluster.EditAllAsync([.. Facts, new("", "nothing")], progress: new Told(told)));
        Assert.Equal(MendError.EmptyPrompt, refused.Error);
        Assert.Equal(untouched, await ChecksumsAsync());
        Assert.Equal([new(1), new(2), new(3)], told);
        Assert.Equal([3, 2, 1], (await _cluster.LedgerAsync()).Where(entry => entry.Kind == LedgerKind.Revert)
            .Select(entry => entry.Edit.Value));

        Assert.Equal(Facts.Length, (await _cluster.EditAllAsync(Facts)).Count);
        Assert.NotEqual(untouched, await ChecksumsAsync());
    }

    [Fact]
    public async Task ACancelledBatch_LeavesNothingInForce()
    {
        var untouched = await ChecksumsAsync();
        using var cancelled = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() =>
            _cluster.EditAllAsync(Facts, progress: new Told([], cancelled.Cancel), cancellation: cancelled.Token));
        Assert.Equal(untouched, await ChecksumsAsync());
    }

    private async Task<IReadOnlyList<string>> ChecksumsAsync() => [.. (await _cluster.StatusAsync()).Select(shard => shard.Checksum)];

    private sealed class Told(List<EditId> edits, Action? then = null) : IProgress<EditReceipt>
    {
        public void Report(EditReceipt value)
        {
            edits.Add(value.Id);
            then?.Invoke();
        }
    }
}
