namespace MendCluster.Contracts;

/// <summary>
/// A language model that can be edited. An edit is a transaction: ordered, durable, applied to all of the model or to none of it, and
/// exactly reversible. Every method may be called from several threads; reads run while an edit is under way.
/// </summary>
public interface IMendCluster : IEditCoordinator, IAsyncDisposable;

/// <summary>Orders the edits of one model, runs the distributed passes, decides, writes the ledger and tells the shards.</summary>
public interface IEditCoordinator
{
    /// <summary>Makes the model answer <paramref name="target"/> to <paramref name="prompt"/> and to its paraphrases.</summary>
    /// <returns>When the edit is durable and in force.</returns>
    /// <exception cref="MendException">The edit was refused or failed; the model is what it was before.</exception>
    Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null, CancellationToken cancellation = default);

    /// <summary>Computes and measures an edit as <see cref="EditAsync"/> does, and does not make it. Takes its turn among the edits.</summary>
    Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options = null, CancellationToken cancellation = default);

    /// <summary>What the model answers now. The whole answer is of one version of the model.</summary>
    Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default);

    /// <summary>Takes an edit back, in any order. With all edits taken back the model is bit for bit the one that was loaded.</summary>
    Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode = RevertMode.Remove, CancellationToken cancellation = default);

    /// <summary>Everything that was ever done to the model, oldest first.</summary>
    Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default);
}
