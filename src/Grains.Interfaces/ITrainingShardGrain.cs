using MendCluster.Contracts;
using Orleans.CodeGeneration;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// One stage of one replica while an editor is trained; the key is a <see cref="ShardKey"/>. The promises are those of
/// <see cref="ITrainingShard"/>, timeouts as in <see cref="IModelShardGrain"/>.
/// </summary>
[Alias("mend.TrainingShard"), Version(WireProtocol.Version)]
public interface ITrainingShardGrain : IGrainWithStringKey
{
    [Alias("open"), ResponseTimeout("00:30:00")]
    Task<TrainingShardStatus> OpenAsync(TrainingSetup setup, CancellationToken cancellation = default);

    [Alias("read"), ResponseTimeout("00:02:00")]
    Task<WireTensor> ReadAsync(StateSlice slice, CancellationToken cancellation = default);

    [Alias("write"), ResponseTimeout("00:02:00")]
    Task WriteAsync(StateSlice slice, WireTensor values, CancellationToken cancellation = default);

    [Alias("restore"), ResponseTimeout("00:02:00")]
    Task RestoreAsync(OptimizerProgress mark, CancellationToken cancellation = default);

    [Alias("mark"), ResponseTimeout("00:02:00")]
    Task<OptimizerProgress> MarkAsync(CancellationToken cancellation = default);

    [Alias("begin"), ResponseTimeout("00:02:00")]
    Task BeginAsync(TrainingRound round, CancellationToken cancellation = default);

    [Alias("record"), ResponseTimeout("00:02:00")]
    Task<Boundary> RecordAsync(RecordRequest request, CancellationToken cancellation = default);

    [Alias("recordBackward"), ResponseTimeout("00:02:00")]
    Task<RecordedReply> RecordBackwardAsync(PassBackward request, CancellationToken cancellation = default);

    [Alias("propose"), ResponseTimeout("00:02:00")]
    Task ProposeAsync(ProposeRequest request, CancellationToken cancellation = default);

    [Alias("evaluate"), ResponseTimeout("00:02:00")]
    Task<EvaluateReply> EvaluateAsync(EvaluateRequest request, CancellationToken cancellation = default);

    [Alias("evaluateBackward"), ResponseTimeout("00:02:00")]
    Task<EvaluatedReply> EvaluateBackwardAsync(PassBackward request, CancellationToken cancellation = default);

    [Alias("gradient"), ResponseTimeout("00:05:00")]
    Task<bool> GradientAsync(GradientRequest request, CancellationToken cancellation = default);

    [Alias("reduce"), ResponseTimeout("00:05:00")]
    Task<ReduceReply> ReduceAsync(ReduceRequest request, CancellationToken cancellation = default);

    [Alias("put")]
    Task PutAsync(RingChunk chunk, CancellationToken cancellation = default);

    [Alias("commit"), ResponseTimeout("00:05:00")]
    Task<GroupDigest[]> CommitAsync(CommitRequest request, CancellationToken cancellation = default);

    [Alias("forget")]
    Task ForgetAsync(long round, int edit, CancellationToken cancellation = default);

    [Alias("end"), ResponseTimeout("00:02:00")]
    Task EndAsync(long round, CancellationToken cancellation = default);
}
