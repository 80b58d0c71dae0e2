using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;

namespace MendCluster.Grains;

/// <summary>A training shard on some silo, as the trainer and its neighbour in a ring see it. However the way there fails, it is a lost shard.</summary>
public sealed class GrainTrainingShard(ITrainingShardGrain grain, ShardKey key, TimeProvider time) : ITrainingShard
{
    private readonly WatchedCalls _calls = new(grain.IsUnderWayAsync, time);

    /// <summary>Finds the training shards of a cluster.</summary>
    public static Func<ShardPlace, ITrainingShard> In(IGrainFactory grains, string model, TimeProvider time) => place =>
    {
        var key = new ShardKey(model, place.Replica, place.Stage);
        return new GrainTrainingShard(grains.GetGrain<ITrainingShardGrain>(key.ToString()), key, time);
    };

    public Task<TrainingShardStatus> OpenAsync(TrainingSetup setup, CancellationToken cancellation = default) => CallAsync(() => grain.OpenAsync(setup, cancellation), cancellation);

    public Task<WireTensor> ReadAsync(StateSlice slice, CancellationToken cancellation = default) => CallAsync(() => grain.ReadAsync(slice, cancellation), cancellation);

    public Task WriteAsync(StateSlice slice, WireTensor values, CancellationToken cancellation = default) =>
        CallAsync(() => grain.WriteAsync(slice, values, cancellation), cancellation);

    public Task RestoreAsync(StateMark mark, CancellationToken cancellation = default) =>
        CallAsync(async () => await grain.RestoreAsync(await SendAsync(mark, cancellation).ConfigureAwait(false), cancellation).ConfigureAwait(false), cancellation);

    public Task<StateMark> MarkAsync(CancellationToken cancellation = default) => CallAsync(() => grain.MarkAsync(cancellation), cancellation);

    public Task BeginAsync(TrainingRound round, CancellationToken cancellation = default) => CallAsync(() => grain.BeginAsync(round, cancellation), cancellation);

    public Task<Boundary> RecordAsync(RecordRequest request, CancellationToken cancellation = default) => AskAsync<RecordRequest, Boundary>(request, grain.RecordAsync, cancellation);

    public Task<RecordedReply> RecordBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
        AskAsync<PassBackward, RecordedReply>(request, grain.RecordBackwardAsync, cancellation);

    public Task ProposeAsync(ProposeRequest request, CancellationToken cancellation = default) =>
        CallAsync(async () => await grain.ProposeAsync(await SendAsync(request, cancellation).ConfigureAwait(false), cancellation).ConfigureAwait(false), cancellation);

    public Task<EvaluateReply> EvaluateAsync(EvaluateRequest request, CancellationToken cancellation = default) =>
        AskAsync<EvaluateRequest, EvaluateReply>(request, grain.EvaluateAsync, cancellation);

    public Task<EvaluatedReply> EvaluateBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
        AskAsync<PassBackward, EvaluatedReply>(request, grain.EvaluateBackwardAsync, cancellation);

    public Task<bool> GradientAsync(GradientRequest request, CancellationToken cancellation = default) => CallAsync(() => grain.GradientAsync(request, cancellation), cancellation);

    public Task<ReduceReply> ReduceAsync(ReduceRequest request, CancellationToken cancellation = default) => CallAsync(() => grain.ReduceAsync(request, cancellation), cancellation);

    public Task PutAsync(RingChunk chunk, CancellationToken cancellation = default) => CallAsync(() => grain.ChunkAsync(chunk, cancellation), cancellation);

    public async Task<IReadOnlyList<GroupDigest>> CommitAsync(CommitRequest request, CancellationToken cancellation = default) =>
        await CallAsync(() => grain.CommitAsync(request, cancellation), cancellation).ConfigureAwait(false);

    public Task ForgetAsync(long round, int edit, CancellationToken cancellation = default) => CallAsync(() => grain.ForgetAsync(round, edit, cancellation), cancellation);

    public Task EndAsync(long round, CancellationToken cancellation = default) => CallAsync(() => grain.EndAsync(round, cancellation), cancellation);

    /// <summary>The shard is its silo's; it stays.</summary>
    public ValueTask DisposeAsync() => ValueTask.CompletedTask;

    private Task<Parcel<T>> SendAsync<T>(T message, CancellationToken cancellation) where T : class => Parcels.SendAsync(grain, message, cancellation);

    /// <summary>A call whose request and reply may be large.</summary>
    private Task<TReply> AskAsync<TRequest, TReply>(TRequest request, Func<Parcel<TRequest>, CancellationToken, Task<Parcel<TReply>>> ask, CancellationToken cancellation)
        where TRequest : class where TReply : class => CallAsync(async () =>
    {
        var parcel = await SendAsync(request, cancellation).ConfigureAwait(false);
        return await Parcels.ReceiveAsync(grain, await ask(parcel, cancellation).ConfigureAwait(false), cancellation).ConfigureAwait(false);
    }, cancellation);

    private Task CallAsync(Func<Task> call, CancellationToken cancellation) => CallAsync(async () =>
    {
        await call().ConfigureAwait(false);
        return true;
    }, cancellation);

    private async Task<T> CallAsync<T>(Func<Task<T>> call, CancellationToken cancellation)
    {
        try
        {
            return await _calls.RunAsync(call).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not MendException && !(e is OperationCanceledException && cancellation.IsCancellationRequested))
        {
            throw new MendException(MendError.ShardLost, $"Training shard {key} does not answer: {e.Message}", "The step is repeated without it.", e);
        }
    }
}
