using MendCluster.Contracts;
using Orleans.CodeGeneration;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// One stage of one replica; the key is a <see cref="ShardKey"/>. The promises are those of <see cref="IModelShard"/>. A call to a silo
/// that dies fails when the others know; the timeouts are for a reply that is lost between silos that live, and longer than honest work.
/// </summary>
[Alias("mend.ModelShard"), Version(WireProtocol.Version)]
public interface IModelShardGrain : IGrainWithStringKey
{
    [Alias("load"), ResponseTimeout("00:30:00")]
    Task<ShardStatus> LoadAsync(CancellationToken cancellation = default);

    [Alias("status")]
    Task<ShardStatus> StatusAsync(CancellationToken cancellation = default);

    [Alias("apply"), ResponseTimeout("00:02:00")]
    Task ApplyAsync(LedgerRecord[] records, CancellationToken cancellation = default);

    [Alias("generate"), ResponseTimeout("00:02:00")]
    Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default);

    [Alias("forward"), ResponseTimeout("00:02:00")]
    Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default);

    [Alias("backward"), ResponseTimeout("00:02:00")]
    Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default);

    [Alias("try"), ResponseTimeout("00:02:00")]
    Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default);

    [Alias("branch"), ResponseTimeout("00:02:00")]
    Task BranchAsync(BranchRequest request, CancellationToken cancellation = default);

    [Alias("begin-fit"), ResponseTimeout("00:05:00")]
    Task BeginFitAsync(BeginFitRequest request, CancellationToken cancellation = default);

    [Alias("step-fit"), ResponseTimeout("00:02:00")]
    Task StepFitAsync(StepFitRequest request, CancellationToken cancellation = default);

    [Alias("take-fit"), ResponseTimeout("00:02:00")]
    Task<FitReply> TakeFitAsync(long session, CancellationToken cancellation = default);

    [Alias("end")]
    Task EndAsync(long session, CancellationToken cancellation = default);
}
