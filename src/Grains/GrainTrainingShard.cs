using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;

namespace MendCluster.Grains;

/// <summary>
/// A training shard on some silo, as the trainer and its neighbour in a ring see it. However the way there fails, it is a lost shard.
/// </summary>
public sealed class GrainTrainingShard(ITrainingShardGrain grain, ShardKey key) : ITrainingShard
{
    /// <summary>Finds the training shards of a cluster.</summary>
    public static Func<ShardPlace, ITrainingShard> In(IGrainFactory grains, string model) => place =>
    {
        var key = new ShardKey(model, place.Replica, place.Stage);
        return new GrainTrainingShard(grains.GetGrain<ITrainingShardGrain>(key.ToString()), key);
    };

    public Task<TrainingShardStatus> OpenAsync(TrainingSetup setup, CancellationToken cancellation = default) =>
        CallAsync(() => grain.OpenAsync(setup, cancellation), cancellation);

    public Task<WireTensor> ReadAsync(StateSlice slice, CancellationToken cancellation = default) =>
        CallAsync(() => grain.ReadAsync(slice, cancellation), cancellation);

    public Task WriteAsync(StateSlice slice, WireTensor values, CancellationToken cancellation = default) =>
        CallAsync(() => grain.WriteAsync(slice, values, cancellation), cancellation);

    public Task RestoreAsync(OptimizerProgress mark, CancellationToken cancellation = default) =>
        CallAsync(() => grain.RestoreAsync(mark, cancellation), cancellation);

    public Task<OptimizerProgress> MarkAsync(CancellationToken cancellation = default) =>
        CallAsync(() => grain.MarkAsync(cancellation), cancellation);

    public Task BeginAsync(TrainingRound round, CancellationToken cancellation = default) =>
        CallAsync(() => grain.BeginAsync(round, cancellation), cancellation);

    public Task<Boundary> RecordAsync(RecordRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.RecordAsync(request, cancellation), cancellation);

    public Task<RecordedReply> RecordBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.RecordBackwardAsync(request, cancellation), cancellation);

    public Task ProposeAsync(ProposeRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.ProposeAsync(request, cancellation), cancellation);

    public Task<EvaluateReply> EvaluateAsync(EvaluateRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.EvaluateAsync(request, cancellation), cancellation);

    public Task<EvaluatedReply> EvaluateBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.EvaluateBackwardAsync(request, cancellation), cancellation);

    public Task<bool> GradientAsync(GradientRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.GradientAsync(request, cancellation), cancellation);

    public Task<ReduceReply> ReduceAsync(ReduceRequest request, CancellationToken cancellation = default) =>
        CallAsync(() => grain.ReduceAsync(request, cancellation), cancellation);

    public Task PutAsync(RingChunk chunk, CancellationToken cancellation = default) =>
        CallAsync(() => grain.PutAsync(chunk, cancellation), cancellation);

    public async Task<IReadOnlyList<GroupDigest>> CommitAsync(CommitRequest request, CancellationToken cancellation = default) =>
        await CallAsync(() => grain.CommitAsync(request, cancellation), cancellation).ConfigureAwait(false);

    public Task ForgetAsync(long round, int edit, CancellationToken cancellation = default) =>
        CallAsync(() => grain.ForgetAsync(round, edit, cancellation), cancellation);

    public Task EndAsync(long round, CancellationToken cancellation = default) =>
        CallAsync(() => grain.EndAsync(round, cancellation), cancellation);

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
            throw new MendException(MendError.ShardLost, $"Training shard {key} does not answer: {e.Message}",
                "The step is repeated without it.", e);
        }
    }
}
