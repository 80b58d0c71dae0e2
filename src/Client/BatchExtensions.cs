using System.Runtime.CompilerServices;
using MendCluster.Contracts;

namespace MendCluster.Client;

/// <summary>A fact to be put into a model: what it is to answer from now on.</summary>
public sealed record Fact(string Prompt, string Target);

/// <summary>Several edits in a row, on any cluster: embedded, or at a distance.</summary>
public static class BatchExtensions
{
    /// <summary>Makes edits one after another, each a transaction of its own, and gives every receipt as soon as there is one.</summary>
    /// <param name="options">
    /// Of every edit. With an idempotency key, each edit has that key and its number: the batch may be sent again as a whole.
    /// </param>
    /// <param name="atOnce">
    /// Edits that are sent before the first of them is answered. A model makes edits that wait at once together, which takes less time; 1:
    /// each is made on top of those before it.
    /// </param>
    /// <exception cref="MendException">
    /// An edit was refused or failed. Those that were given before it stand, and so do those that were sent with it and made: the ledger has
    /// them, and sent again under the same key they are not made twice.
    /// </exception>
    /// <example>
    /// <code>
    /// await foreach (var made in cluster.EditManyAsync(facts, new() { IdempotencyKey = "import-17" }, atOnce: 32))
    ///     Console.WriteLine($"{made.Id}: {made.Figures.Success}");
    /// </code>
    /// </example>
    public static async IAsyncEnumerable<EditReceipt> EditManyAsync(
        this IEditCoordinator cluster, IEnumerable<Fact> facts, EditOptions? options = null, int atOnce = 1,
        [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(atOnce, 1);
        options ??= new();
        var (number, sent) = (0, new Queue<Task<EditReceipt>>());
        try
        {
            foreach (var (prompt, target) in facts)
            {
                if (sent.Count == atOnce)
                    yield return await sent.Dequeue().ConfigureAwait(false);
                var key = options.IdempotencyKey is { } batch ? $"{batch}/{++number}" : null;
                sent.Enqueue(cluster.EditAsync(prompt, target, options with { IdempotencyKey = key }, cancellation));
            }
            while (sent.TryDequeue(out var edit))
                yield return await edit.ConfigureAwait(false);
        }
        finally
        {
            foreach (var edit in sent) // nothing goes on behind the caller's back
                await ((Task)edit).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    /// <summary>
    /// Makes all of the edits, or leaves none in force: when one is refused or fails, those made before it are taken back, the last one
    /// first. Each is a transaction of its own, so others see the edits come, and go again. Give a scope to keep them apart until all are
    /// there.
    /// </summary>
    /// <param name="progress">Told of every edit that was made.</param>
    /// <exception cref="MendException">An edit was refused or failed, and those before it were taken back.</exception>
    /// <exception cref="AggregateException">
    /// One was refused or failed, and taking back another failed too; the ledger says which are in force.
    /// </exception>
    /// <example>
    /// <code>
    /// var receipts = await cluster.EditAllAsync(facts, new() { MaxDrawdown = 0.01 }, new Progress&lt;EditReceipt&gt;(made
    /// => Console.WriteLine(made.Id)));
    /// </code>
    /// </example>
    public static async Task<IReadOnlyList<EditReceipt>> EditAllAsync(
        this IEditCoordinator cluster, IEnumerable<Fact> facts, EditOptions? options = null, IProgress<EditReceipt>? progress = null,
        CancellationToken cancellation = default)
    {
        var made = new List<EditReceipt>();
        try
        {
            await foreach (var receipt in cluster.EditManyAsync(facts, options, cancellation: cancellation).ConfigureAwait(false))
            {
                made.Add(receipt);
                progress?.Report(receipt);
            }
            return made;
        }
        catch (Exception e)
        {
            await TakeBackAsync(cluster, made, e).ConfigureAwait(false);
            throw;
        }
    }

    private static async Task TakeBackAsync(IEditCoordinator cluster, List<EditReceipt> made, Exception why)
    {
        var failures = new List<Exception> { why };
        foreach (var receipt in Enumerable.Reverse(made))
            try
            {
                await cluster.RevertAsync(receipt.Id).ConfigureAwait(false);
            }
            catch (MendException e) when (e.Error == MendError.AlreadyReverted)
            {
                // By somebody else in between.
            }
            catch (Exception e)
            {
                failures.Add(e);
            }
        if (failures.Count > 1)
            throw new AggregateException(failures);
    }
}
