namespace MendCluster.Contracts;

/// <summary>
/// One stage of one replica while an editor is trained: the stage's frozen layers, the editor networks of its weights' shapes, and their
/// part of the optimiser. Calls that compute are carried out one at a time, in order.
///
/// Everything between <see cref="BeginAsync"/> and <see cref="CommitAsync"/> is kept under a round and changes nothing that a later step
/// reads: a shard that is asked to begin again has forgotten the round before. A call that names a round which the shard does not have is
/// answered with <see cref="MendError.ShardLost"/>: the shard was restarted in between.
/// </summary>
public interface ITrainingShard : IAsyncDisposable
{
    /// <summary>Reads the stage's weights and makes its part of an editor. With the same setup again it does nothing, but tells.</summary>
    Task<TrainingShardStatus> OpenAsync(TrainingSetup setup, CancellationToken cancellation = default);

    /// <summary>Part of a tensor of the editor's state: of phi, alpha, Adam's moments, the running average.</summary>
    Task<WireTensor> ReadAsync(StateSlice slice, CancellationToken cancellation = default);

    Task WriteAsync(StateSlice slice, WireTensor values, CancellationToken cancellation = default);

    /// <summary>The state is whole: from here on the shard can begin the step that is named.</summary>
    Task RestoreAsync(OptimizerProgress mark, CancellationToken cancellation = default);

    /// <summary>Where Adam and the running average stand.</summary>
    Task<OptimizerProgress> MarkAsync(CancellationToken cancellation = default);

    /// <summary>Drops the round before, whatever came of it.</summary>
    /// <exception cref="MendException"><see cref="MendError.ShardLost"/> when the shard is not at the round's step.</exception>
    Task BeginAsync(TrainingRound round, CancellationToken cancellation = default);

    /// <summary>Forward half of an edit's own pass (phase 1).</summary>
    Task<Boundary> RecordAsync(RecordRequest request, CancellationToken cancellation = default);

    /// <summary>Its backward half; the stage keeps (u, delta).</summary>
    Task<RecordedReply> RecordBackwardAsync(PassBackward request, CancellationToken cancellation = default);

    /// <summary>Turns the kept factors of some edits into updates (phase 2), which are kept too.</summary>
    Task ProposeAsync(ProposeRequest request, CancellationToken cancellation = default);

    /// <summary>Forward half of an edit's losses: the edited model on a rephrase, both models on unrelated examples.</summary>
    Task<EvaluateReply> EvaluateAsync(EvaluateRequest request, CancellationToken cancellation = default);

    /// <summary>Its backward half; the stage keeps dL/d(uTilde, deltaTilde, alpha).</summary>
    Task<EvaluatedReply> EvaluateBackwardAsync(PassBackward request, CancellationToken cancellation = default);

    /// <summary>
    /// One pass of the editor networks with graph over the rows of some edits (phase 3): the stage's gradients of phi and alpha.
    /// </summary>
    /// <returns>Whether all of them are finite.</returns>
    Task<bool> GradientAsync(GradientRequest request, CancellationToken cancellation = default);

    /// <summary>Sums gradients with the other owners, around rings (phase 4). Ends when this shard has every sum.</summary>
    Task<ReduceReply> ReduceAsync(ReduceRequest request, CancellationToken cancellation = default);

    /// <summary>Puts down what the neighbour in a ring sends. Never waits for arithmetic or for another shard.</summary>
    Task PutAsync(RingChunk chunk, CancellationToken cancellation = default);

    /// <summary>Takes the step. After it the shard is at the next one.</summary>
    /// <returns>A digest of each group's state: phi or alpha, Adam's moments, statistics. Equal on all owners.</returns>
    Task<IReadOnlyList<GroupDigest>> CommitAsync(CommitRequest request, CancellationToken cancellation = default);

    /// <summary>Drops what is kept of one edit.</summary>
    Task ForgetAsync(long round, int edit, CancellationToken cancellation = default);

    /// <summary>Drops the round, if it is still this one.</summary>
    Task EndAsync(long round, CancellationToken cancellation = default);
}
