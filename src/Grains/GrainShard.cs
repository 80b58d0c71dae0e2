using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;

namespace MendCluster.Grains;

/// <summary>A shard on some silo, as the coordinator sees it. However the way there fails, it is a lost shard.</summary>
public sealed class GrainShard(IModelShardGrain grain, ShardKey key) : IModelShard
{
    /// <summary>Of factors in one message. Catching up a shard that was restarted may take many.</summary>
    private const long MaxBytesAtOnce = 4 << 20;

    public Task<ShardStatus> LoadAsync(CancellationToken cancellation = default) =>
        CallAsync(() => grain.LoadAsync(cancellation), cancellation);

    public Task<ShardStatus> StatusAsync(CancellationToken cancellation = default) =>
        CallAsync(() => grain.StatusAsync(cancellation), cancellation);

    public Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default) => CallAsync(async () =>
    {
        foreach (var batch in Batches(records))
            await grain.ApplyAsync(batch, cancellation).ConfigureAwait(false);
        return true;
    }, cancellation);

    public Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.GenerateAsync(request, cancellation), cancellation);

    public Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.ForwardAsync(request, cancellation), cancellation);

    public Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.TryAsync(request, cancellation), cancellation);

    public Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.BackwardAsync(request, cancellation), cancellation);

    public Task BranchAsync(BranchRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.BranchAsync(request, cancellation), cancellation);

    public Task BeginFitAsync(BeginFitRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.BeginFitAsync(request, cancellation), cancellation);

    public Task StepFitAsync(StepFitRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.StepFitAsync(request, cancellation), cancellation);

    public Task<FitReply> TakeFitAsync(long session, CancellationToken cancellation = default) =>
        CallAsync(() => grain.TakeFitAsync(session, cancellation), cancellation);

    public Task EndAsync(long session, CancellationToken cancellation = default) =>
        CallAsync(() => grain.EndAsync(session, cancellation), cancellation);

    /// <summary>The shard is its silo's; it stays.</summary>
    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private Task CallAsync(Func<Task> call, CancellationToken cancellation) => CallAsync(async () =>
    {
        await call().ConfigureAwait(false);
        return true;
    }, cancellation);

    private async Task<T> CallAsync<T>(Func<Task<T>> call, CancellationToken cancellation)
    {
        try
        {
            return await call().ConfigureAwait(false);
        }
        catch (Exception e) when (e is not MendException && !(e is OperationCanceledException && cancellation.IsCancellationRequested))
        {
            throw new MendException(MendError.ShardLost, $"Shard {key} does not answer: {e.Message}",
                "Nothing was changed. Send the request again; if it fails again, look after the silo.", e);
        }
    }

    private static IEnumerable<LedgerRecord[]> Batches(IReadOnlyList<LedgerRecord> records)
    {
        List<LedgerRecord> batch = [];
        long bytes = 0;
        foreach (var record in records)
        {
            batch.Add(record);
            bytes += record.Changes.Sum(change => change.CountBytes());
            if (bytes < MaxBytesAtOnce)
                continue;
            yield return [.. batch];
            batch.Clear();
            bytes = 0;
        }
        if (batch.Count > 0)
            yield return [.. batch];
    }
}
