using MendCluster.Contracts;

namespace MendCluster.Testing;

/// <summary>The calls of a training shard.</summary>
public enum TrainingCall
{
    Open,
    Read,
    Write,
    Restore,
    Mark,
    Begin,
    Record,
    RecordBackward,
    Propose,
    Evaluate,
    EvaluateBackward,
    Gradient,
    Reduce,
    Put,
    Commit,
    Forget,
    End,
}

/// <summary>Passes every call on, after doing something. A test's shard overrides the calls that it is about.</summary>
public abstract class InterruptedTrainingShard(ITrainingShard shard) : ITrainingShard
{
    protected ITrainingShard Shard { get; set; } = shard;

    /// <summary>What it throws, the caller meets instead of the call.</summary>
    protected virtual Task MeetAsync(TrainingCall call) => Task.CompletedTask;

    public virtual Task<TrainingShardStatus> OpenAsync(TrainingSetup setup, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Open, () => Shard.OpenAsync(setup, cancellation));

    public virtual Task<WireTensor> ReadAsync(StateSlice slice, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Read, () => Shard.ReadAsync(slice, cancellation));

    public virtual Task WriteAsync(StateSlice slice, WireTensor values, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Write, () => Shard.WriteAsync(slice, values, cancellation));

    public virtual Task RestoreAsync(OptimizerProgress mark, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Restore, () => Shard.RestoreAsync(mark, cancellation));

    public virtual Task<OptimizerProgress> MarkAsync(CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Mark, () => Shard.MarkAsync(cancellation));

    public virtual Task BeginAsync(TrainingRound round, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Begin, () => Shard.BeginAsync(round, cancellation));

    public virtual Task<Boundary> RecordAsync(RecordRequest request, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Record, () => Shard.RecordAsync(request, cancellation));

    public virtual Task<RecordedReply> RecordBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.RecordBackward, () => Shard.RecordBackwardAsync(request, cancellation));

    public virtual Task ProposeAsync(ProposeRequest request, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Propose, () => Shard.ProposeAsync(request, cancellation));

    public virtual Task<EvaluateReply> EvaluateAsync(EvaluateRequest request, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Evaluate, () => Shard.EvaluateAsync(request, cancellation));

    public virtual Task<EvaluatedReply> EvaluateBackwardAsync(PassBackward request, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.EvaluateBackward, () => Shard.EvaluateBackwardAsync(request, cancellation));

    public virtual Task<bool> GradientAsync(GradientRequest request, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Gradient, () => Shard.GradientAsync(request, cancellation));

    public virtual Task<ReduceReply> ReduceAsync(ReduceRequest request, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Reduce, () => Shard.ReduceAsync(request, cancellation));

    public virtual Task PutAsync(RingChunk chunk, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Put, () => Shard.PutAsync(chunk, cancellation));

    public virtual Task<IReadOnlyList<GroupDigest>> CommitAsync(CommitRequest request, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Commit, () => Shard.CommitAsync(request, cancellation));

    public virtual Task ForgetAsync(long round, int edit, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.Forget, () => Shard.ForgetAsync(round, edit, cancellation));

    public virtual Task EndAsync(long round, CancellationToken cancellation = default) =>
        AfterAsync(TrainingCall.End, () => Shard.EndAsync(round, cancellation));

    public virtual ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return Shard.DisposeAsync();
    }

    private async Task<T> AfterAsync<T>(TrainingCall call, Func<Task<T>> pass)
    {
        await MeetAsync(call);
        return await pass();
    }

    private async Task AfterAsync(TrainingCall call, Func<Task> pass)
    {
        await MeetAsync(call);
        await pass();
    }
}

/// <summary>A training shard whose process dies just before a call, is away for as long as a test likes, and comes back empty.</summary>
/// <param name="start">Makes the next one, not opened.</param>
public sealed class MortalTrainingShard(ITrainingShard shard, Func<ITrainingShard> start) : InterruptedTrainingShard(shard)
{
    private TrainingCall? _dies;

    public bool IsAway { get; private set; }

    /// <summary>The next call of this kind finds it dead.</summary>
    public void Arm(TrainingCall call) => _dies = call;

    public async Task ComeBackAsync()
    {
        await Shard.DisposeAsync();
        Shard = start();
        IsAway = false;
    }

    protected override Task MeetAsync(TrainingCall call)
    {
        if (_dies == call)
            (_dies, IsAway) = (null, true);
        return IsAway ? throw new TimeoutException($"no answer to {call}") : Task.CompletedTask;
    }
}
