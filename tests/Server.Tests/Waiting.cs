using MendCluster.Contracts;

namespace MendCluster.Server.Tests;

/// <summary>A cluster whose edits wait for something.</summary>
internal sealed class Waiting(IMendCluster cluster, Task gate) : IMendCluster
{
    private int _count;

    /// <summary>Edits that came.</summary>
    public int Count => Volatile.Read(ref _count);

    public async Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default)
    {
        Interlocked.Increment(ref _count);
        await gate.WaitAsync(cancellation);
        return await cluster.EditAsync(prompt, target, options, cancellation);
    }

    public Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default) => cluster.PreviewAsync(prompt, target, options, cancellation);

    public Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default) =>
        cluster.AskAsync(prompt, options, cancellation);

    public IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options = null,
        CancellationToken cancellation = default) => cluster.AskStreamAsync(prompt, options, cancellation);

    public Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options = null,
        CancellationToken cancellation = default) => cluster.ConsolidateAsync(options, cancellation);

    public Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode = RevertMode.Remove, string? author = null,
        CancellationToken cancellation = default) => cluster.RevertAsync(edit, mode, author, cancellation);

    public Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default) => cluster.LedgerAsync(cancellation);

    public Task<IReadOnlyList<LedgerEntry>> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default) =>
        cluster.LedgerPageAsync(query, cancellation);

    public Task<IReadOnlyList<ShardReport>> ShardsAsync(CancellationToken cancellation = default) => cluster.ShardsAsync(cancellation);

    public ValueTask DisposeAsync() => cluster.DisposeAsync();
}
