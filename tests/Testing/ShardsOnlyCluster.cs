using MendCluster.Contracts;

namespace MendCluster.Testing;

/// <summary>A cluster that says how its shards are, and does nothing.</summary>
public sealed class ShardsOnlyCluster(params ShardReport[] shards) : IMendCluster
{
    public Task<IReadOnlyList<ShardReport>> ShardsAsync(CancellationToken cancellation = default) =>
        Task.FromResult<IReadOnlyList<ShardReport>>(shards);

    public Task<IReadOnlyList<LedgerEntry>> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default) =>
        Task.FromResult<IReadOnlyList<LedgerEntry>>([]);

    public Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default) => throw new NotSupportedException();

    public Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default) => throw new NotSupportedException();

    public Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default) =>
        throw new NotSupportedException();

    public IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options = null,
        CancellationToken cancellation = default) => throw new NotSupportedException();

    public Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options = null,
        CancellationToken cancellation = default) => throw new NotSupportedException();

    public Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode = RevertMode.Remove, string? author = null,
        CancellationToken cancellation = default) => throw new NotSupportedException();

    public Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default) => throw new NotSupportedException();

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
