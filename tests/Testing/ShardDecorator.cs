using MendCluster.Contracts;

namespace MendCluster.Testing;

/// <summary>Passes every call on. A test's shard overrides the calls that it is about.</summary>
public abstract class ShardDecorator(IModelShard shard) : IModelShard
{
    protected IModelShard Shard { get; set; } = shard;

    public virtual Task<ShardStatus> LoadAsync(CancellationToken cancellation = default) => Shard.LoadAsync(cancellation);

    public virtual Task<ShardStatus> StatusAsync(CancellationToken cancellation = default) => Shard.StatusAsync(cancellation);

    public virtual Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default) =>
        Shard.ApplyAsync(records, cancellation);

    public virtual Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default) =>
        Shard.GenerateAsync(request, cancellation);

    public virtual Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default) =>
        Shard.ForwardAsync(request, cancellation);

    public virtual Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default) =>
        Shard.TryAsync(request, cancellation);

    public virtual Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default) =>
        Shard.BackwardAsync(request, cancellation);

    public virtual Task BranchAsync(BranchRequest request, CancellationToken cancellation = default) =>
        Shard.BranchAsync(request, cancellation);

    public virtual Task BeginFitAsync(BeginFitRequest request, CancellationToken cancellation = default) =>
        Shard.BeginFitAsync(request, cancellation);

    public virtual Task StepFitAsync(StepFitRequest request, CancellationToken cancellation = default) =>
        Shard.StepFitAsync(request, cancellation);

    public virtual Task<FitReply> TakeFitAsync(long session, CancellationToken cancellation = default) =>
        Shard.TakeFitAsync(session, cancellation);

    public virtual Task EndAsync(long session, CancellationToken cancellation = default) => Shard.EndAsync(session, cancellation);

    public virtual ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        return Shard.DisposeAsync();
    }
}

/// <summary>The calls of a shard that an edit or an answer is made of.</summary>
public enum ShardStep
{
    Generate,
    Forward,
    Backward,
    TryBefore,
    TryAfter,
    Apply,
    End,
}

/// <summary>Does something before each of those calls.</summary>
public abstract class InterruptedShard(IModelShard shard) : ShardDecorator(shard)
{
    /// <summary>What it throws, the caller meets instead of the call.</summary>
    protected abstract Task MeetAsync(ShardStep step);

    public override async Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default)
    {
        await MeetAsync(ShardStep.Apply);
        await base.ApplyAsync(records, cancellation);
    }

    public override async Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default)
    {
        await MeetAsync(ShardStep.Generate);
        return await base.GenerateAsync(request, cancellation);
    }

    public override async Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default)
    {
        await MeetAsync(ShardStep.Forward);
        return await base.ForwardAsync(request, cancellation);
    }

    public override async Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default)
    {
        await MeetAsync(request.Candidate is null ? ShardStep.TryBefore : ShardStep.TryAfter);
        return await base.TryAsync(request, cancellation);
    }

    public override async Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default)
    {
        await MeetAsync(ShardStep.Backward);
        return await base.BackwardAsync(request, cancellation);
    }

    public override async Task EndAsync(long session, CancellationToken cancellation = default)
    {
        await MeetAsync(ShardStep.End);
        await base.EndAsync(session, cancellation);
    }
}
