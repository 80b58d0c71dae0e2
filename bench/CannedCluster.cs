using MendCluster.Contracts;

namespace MendCluster.Bench;

/// <summary>Answers at once with what a cluster once answered: what is left of a request's time is the road's.</summary>
internal sealed class CannedCluster(Answer answer, EditReceipt edit, RevertReceipt revert, IReadOnlyList<ShardReport> shards)
    : IMendCluster
{
    public Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default) =>
        Task.FromResult(answer);

    public Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default) => Task.FromResult(edit);

    public Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options = null,
        CancellationToken cancellation = default) => throw new NotSupportedException();

    public Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode = RevertMode.Remove, string? author = null,
        CancellationToken cancellation = default) => Task.FromResult(revert);

    public Task<IReadOnlyList<ShardReport>> ShardsAsync(CancellationToken cancellation = default) => Task.FromResult(shards);

    public Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default) =>
        Task.FromResult<IReadOnlyList<LedgerEntry>>([]);

    public Task<IReadOnlyList<LedgerEntry>> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default) =>
        LedgerAsync(cancellation);

    public Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default) => throw new NotSupportedException("nothing previews here");

    public IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options = null,
        CancellationToken cancellation = default) => throw new NotSupportedException("nothing streams here");

    public ValueTask DisposeAsync() => ValueTask.CompletedTask;
}
