using MendCluster.Contracts;
using Orleans.CodeGeneration;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// The coordinator of one model; the key is the model's name in the cluster. The promises are those of <see cref="IEditCoordinator"/>.
/// </summary>
[Alias("mend.EditCoordinator"), Version(WireProtocol.Version)]
public interface IEditCoordinatorGrain : IGrainWithStringKey
{
    [Alias("edit"), ResponseTimeout("00:10:00")]
    Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options, CancellationToken cancellation = default);

    [Alias("preview"), ResponseTimeout("00:10:00")]
    Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options, CancellationToken cancellation = default);

    [Alias("ask"), ResponseTimeout("00:10:00")]
    Task<Answer> AskAsync(string prompt, AskOptions? options, CancellationToken cancellation = default);

    [Alias("askStream"), ResponseTimeout("00:10:00")]
    IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options, CancellationToken cancellation = default);

    [Alias("revert"), ResponseTimeout("01:00:00")]
    Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode, string? author, CancellationToken cancellation = default);

    [Alias("consolidate"), ResponseTimeout("02:00:00")]
    Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options, CancellationToken cancellation = default);

    [Alias("ledger")]
    Task<LedgerEntry[]> LedgerAsync(CancellationToken cancellation = default);

    [Alias("ledgerPage")]
    Task<LedgerEntry[]> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default);

    /// <summary>Whether a call is being carried out here; see <see cref="CallLivenessProbe"/>.</summary>
    [Alias("isUnderWay"), ResponseTimeout("00:00:05")]
    Task<bool> IsUnderWayAsync(Guid call);

    /// <summary>The state of every stage's shard, in order, replica after replica; null where none answers.</summary>
    [Alias("status")]
    Task<ShardStatus?[]> StatusAsync(CancellationToken cancellation = default);

    /// <summary>The same with each shard's place.</summary>
    [Alias("shards")]
    Task<ShardReport[]> ShardsAsync(CancellationToken cancellation = default);
}
