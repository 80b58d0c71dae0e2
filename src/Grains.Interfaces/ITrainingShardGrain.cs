using MendCluster.Contracts;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// One stage of one replica while an editor is trained; the key is a <see cref="ShardKey"/>. The promises are those of <see cref="ITrainingShard"/>.
/// What may be large travels as a <see cref="Parcel{T}"/>; slices of the state and chunks of a ring are cut to less than a piece.
/// </summary>
[Alias("mend.TrainingShard")]
public interface ITrainingShardGrain : IParcelGrain
{
    [Alias("open"), ResponseTimeout("00:30:00")]
    Task<TrainingShardStatus> OpenAsync(TrainingSetup setup, CancellationToken cancellation = default);

    [Alias("read"), ResponseTimeout("00:05:00")]
    Task<WireTensor> ReadAsync(StateSlice slice, CancellationToken cancellation = default);

    [Alias("write"), ResponseTimeout("00:05:00")]
    Task WriteAsync(StateSlice slice, WireTensor values, CancellationToken cancellation = default);

    [Alias("restore"), ResponseTimeout("00:05:00")]
    Task RestoreAsync(Parcel<StateMark> mark, CancellationToken cancellation = default);

    [Alias("mark"), ResponseTimeout("00:05:00")]
    Task<StateMark> MarkAsync(CancellationToken cancellation = default);

    [Alias("begin"), ResponseTimeout("00:05:00")]
    Task BeginAsync(TrainingRound round, CancellationToken cancellation = default);

    [Alias("record"), ResponseTimeout("00:05:00")]
    Task<Parcel<Boundary>> RecordAsync(Parcel<RecordRequest> request, CancellationToken cancellation = default);

    [Alias("recordBackward"), ResponseTimeout("00:05:00")]
    Task<Parcel<RecordedReply>> RecordBackwardAsync(Parcel<PassBackward> request, CancellationToken cancellation = default);

    [Alias("propose"), ResponseTimeout("00:05:00")]
    Task ProposeAsync(Parcel<ProposeRequest> request, CancellationToken cancellation = default);

    [Alias("evaluate"), ResponseTimeout("00:05:00")]
    Task<Parcel<EvaluateReply>> EvaluateAsync(Parcel<EvaluateRequest> request, CancellationToken cancellation = default);

    [Alias("evaluateBackward"), ResponseTimeout("00:05:00")]
    Task<Parcel<EvaluatedReply>> EvaluateBackwardAsync(Parcel<PassBackward> request, CancellationToken cancellation = default);

    [Alias("gradient"), ResponseTimeout("00:30:00")]
    Task<bool> GradientAsync(GradientRequest request, CancellationToken cancellation = default);

    [Alias("reduce"), ResponseTimeout("00:30:00")]
    Task<ReduceReply> ReduceAsync(ReduceRequest request, CancellationToken cancellation = default);

    /// <summary>A chunk of a ring; the other <c>put</c> is of parcels.</summary>
    [Alias("chunk")]
    Task ChunkAsync(RingChunk chunk, CancellationToken cancellation = default);

    [Alias("commit"), ResponseTimeout("00:30:00")]
    Task<GroupDigest[]> CommitAsync(CommitRequest request, CancellationToken cancellation = default);

    [Alias("forget")]
    Task ForgetAsync(long round, int edit, CancellationToken cancellation = default);

    [Alias("end"), ResponseTimeout("00:05:00")]
    Task EndAsync(long round, CancellationToken cancellation = default);

    /// <summary>Whether a call is being carried out here; see <see cref="WatchedCalls"/>.</summary>
    [Alias("isUnderWay"), ResponseTimeout("00:00:05")]
    Task<bool> IsUnderWayAsync(Guid call);
}
