using System.Runtime.CompilerServices;
using MendCluster.Contracts;

namespace MendCluster.Client;

/// <summary>The ledger entry by entry, on any cluster.</summary>
public static class LedgerExtensions
{
    /// <summary>What a query asks for and all that follows, page after page as they are read.</summary>
    /// <param name="query">Its limit is a page's.</param>
    /// <example>
    /// <code>
    /// await foreach (var entry in cluster.ReadLedgerAsync(new() { Author = "alice", Kind = LedgerKind.Edit }))
    ///     Console.WriteLine($"{entry.Version} {entry.Prompt} -> {entry.Target}");
    /// </code>
    /// </example>
    public static async IAsyncEnumerable<LedgerEntry> ReadLedgerAsync(
        this IEditCoordinator cluster, LedgerQuery? query = null, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        query ??= new();
        while (true)
        {
            var page = await cluster.LedgerPageAsync(query, cancellation).ConfigureAwait(false);
            foreach (var entry in page)
                yield return entry;
            if (page.Count < query.Limit)
                yield break;
            query = query with { After = page[^1].Version };
        }
    }
}
