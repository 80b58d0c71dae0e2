namespace MendCluster.Contracts;

/// <summary>
/// One pipeline stage of one replica of a model. A state machine over the ledger: base weights plus the active records up to a version.
/// Calls are carried out one at a time, in order; no call waits inside another.
/// </summary>
public interface IModelShard : IAsyncDisposable
{
    /// <summary>Reads the stage's weights and editor networks. Doing it again when loaded does nothing.</summary>
    Task<ShardStatus> LoadAsync(CancellationToken cancellation = default);

    Task<ShardStatus> StatusAsync(CancellationToken cancellation = default);

    /// <summary>Takes records in, in order; those it has are passed over.</summary>
    /// <exception cref="MendException"><see cref="MendError.VersionGap"/> when one is missing between.</exception>
    Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default);

    /// <exception cref="MendException"><see cref="MendError.VersionBehind"/>: give it the records it lacks and ask again.</exception>
    Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default);

    /// <exception cref="MendException">As <see cref="GenerateAsync"/>.</exception>
    Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default);

    /// <exception cref="MendException"><see cref="MendError.ShardLost"/>: what the forward half left is gone.</exception>
    Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default);

    /// <exception cref="MendException">As <see cref="GenerateAsync"/>.</exception>
    Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default);

    /// <summary>Gives a session a history of its own, which its requests are computed on, or adds to it.</summary>
    Task BranchAsync(BranchRequest request, CancellationToken cancellation = default);

    /// <summary>
    /// Begins to fit one update to many edits, of the weights of the stage's highest editable layer, in a session: it starts as nothing, or where
    /// consolidations stand for all of them already, as those, and is the session's candidate. From now on the session's
    /// <see cref="ForwardAsync"/> (again) has it on top, and its <see cref="BackwardAsync"/> gathers the gradient of it.
    /// </summary>
    /// <exception cref="MendException"><see cref="MendError.ConsolidationRefused"/>: the edits changed none of these weights.</exception>
    Task BeginFitAsync(BeginFitRequest request, CancellationToken cancellation = default);

    /// <summary>A step of Adam against what was gathered since the step before.</summary>
    /// <exception cref="MendException"><see cref="MendError.ShardLost"/>: the session has no fit, or is not at the step before.</exception>
    Task StepFitAsync(StepFitRequest request, CancellationToken cancellation = default);

    /// <summary>The update that the session's fit has come to, as the ledger keeps it.</summary>
    /// <exception cref="MendException"><see cref="MendError.ShardLost"/>: the session has no fit.</exception>
    Task<FitReply> TakeFitAsync(long session, CancellationToken cancellation = default);

    /// <summary>Drops what is kept under a session. Unknown sessions are no error.</summary>
    Task EndAsync(long session, CancellationToken cancellation = default);
}
