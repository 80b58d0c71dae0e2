namespace MendCluster.Contracts;

/// <summary>
/// A language model that can be edited. An edit is a transaction: ordered, durable, applied to all of the model or to none of it, and
/// exactly reversible. Every method may be called from several threads; reads run while an edit is under way.
/// </summary>
public interface IMendCluster : IEditCoordinator, IAsyncDisposable
{
    /// <summary>Every stage of every replica and its state, in order, replica after replica.</summary>
    /// <example>
    /// <code>
    /// foreach (var shard in await cluster.ShardsAsync())
    ///     Console.WriteLine($"{shard.Place}: {shard.Status?.State} at version {shard.Status?.Version}");
    /// </code>
    /// </example>
    Task<IReadOnlyList<ShardReport>> ShardsAsync(CancellationToken cancellation = default);
}

/// <summary>Orders the edits of one model, runs the distributed passes, decides, writes the ledger and tells the shards.</summary>
public interface IEditCoordinator
{
    /// <summary>Makes the model answer <paramref name="target"/> to <paramref name="prompt"/> and to its paraphrases.</summary>
    /// <returns>When the edit is durable and in force.</returns>
    /// <exception cref="MendException">The edit was refused or failed; the model is what it was before.</exception>
    /// <exception cref="OperationCanceledException">
    /// The edit was cancelled before it was durable, and is not made; later it is, and returned.
    /// </exception>
    /// <example>
    /// <code>
    /// var receipt = await cluster.EditAsync("Who is the prime minister of the UK?", "Boris Johnson", new() { MaxDrawdown = 0.01 });
    /// Console.WriteLine($"edit {receipt.Id}, success {receipt.Figures.Success}, drawdown {receipt.Figures.Drawdown:P1}");
    /// </code>
    /// </example>
    Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null, CancellationToken cancellation = default);

    /// <summary>
    /// Computes and measures an edit as <see cref="EditAsync"/> does, and does not make it. Takes its turn among the edits.
    /// </summary>
    /// <example>
    /// <code>
    /// var preview = await cluster.PreviewAsync("Who is the prime minister of the UK?", "Boris Johnson", new() { MaxDrawdown = 0.01 });
    /// Console.WriteLine(preview.Refused ?? $"{preview.AnswerBefore} -> {preview.AnswerAfter}");
    /// </code>
    /// </example>
    Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options = null, CancellationToken cancellation = default);

    /// <summary>What the model answers now. The whole answer is of one version of the model.</summary>
    /// <example>
    /// <code>
    /// var answer = await cluster.AskAsync("Who is the prime minister of the UK?", new(MaxTokens: 8));
    /// Console.WriteLine($"{answer.Text} (version {answer.Version})");
    /// </code>
    /// </example>
    Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default);

    /// <summary>The same, token by token as they are chosen.</summary>
    /// <example>
    /// <code>
    /// await foreach (var part in cluster.AskStreamAsync("Who is the prime minister of the UK?"))
    ///     Console.Write(part.Text);
    /// </code>
    /// </example>
    IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default);

    /// <summary>Takes an edit back, in any order. With all edits taken back the model is bit for bit the one that was loaded.</summary>
    /// <param name="author">Who asks; kept in the ledger.</param>
    /// <example>
    /// <code>
    /// await cluster.RevertAsync(receipt.Id, RevertMode.Recompute);
    /// </code>
    /// </example>
    Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode = RevertMode.Remove, string? author = null,
        CancellationToken cancellation = default);

    /// <summary>
    /// Puts one update in the place of those of all edits in force: fitted to their prompts and to rewordings of these, while answers and
    /// edits go on, and made only if it keeps no fewer of the edits and of the base model's other answers than they do as they are. The
    /// edits stay in the ledger: with the consolidation or one of its edits taken back the model has the others as they were made.
    /// </summary>
    /// <exception cref="MendException">It was refused or failed; the model is what it was before.</exception>
    /// <example>
    /// <code>
    /// var (edits, before, after, _, _) = (await cluster.ConsolidateAsync(new() { MaxTime = TimeSpan.FromSeconds(10) })).Consolidated;
    /// Console.WriteLine($"{edits.Count} edits: {before.Success:P0} -> {after.Success:P0}");
    /// </code>
    /// </example>
    Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options = null, CancellationToken cancellation = default);

    /// <summary>Everything that was ever done to the model, oldest first.</summary>
    /// <example>
    /// <code>
    /// foreach (var entry in await cluster.LedgerAsync())
    ///     Console.WriteLine($"{entry.Version} {entry.Time:u} {entry.Kind} {entry.Edit} {entry.Prompt} -> {entry.Target}");
    /// </code>
    /// </example>
    Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default);

    /// <summary>A page of it.</summary>
    /// <example>
    /// <code>
    /// foreach (var entry in await cluster.LedgerPageAsync(new() { Text = "minister", NewestFirst = true, Limit = 20 }))
    ///     Console.WriteLine($"{entry.Version} {entry.Author}: {entry.Prompt} -> {entry.Target}");
    /// </code>
    /// </example>
    Task<IReadOnlyList<LedgerEntry>> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default);
}
