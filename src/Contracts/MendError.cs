namespace MendCluster.Contracts;

/// <summary>Everything that can go wrong for a caller. The names are stable; docs/errors.md has an entry for each.</summary>
public enum MendError
{
    /// <summary>The prompt is empty or has no tokens.</summary>
    EmptyPrompt = 1,

    /// <summary>The target is empty or has no tokens.</summary>
    EmptyTarget,

    /// <summary>Prompt and answer are longer than the model's context.</summary>
    TooLong,

    /// <summary>An option is out of its range.</summary>
    InvalidOption,

    /// <summary>No such edit.</summary>
    UnknownEdit,

    /// <summary>The edit was taken back already.</summary>
    AlreadyReverted,

    /// <summary>The idempotency key was used for another edit.</summary>
    IdempotencyKeyReused,

    /// <summary>The edit costs more of the probes' answers than allowed.</summary>
    DrawdownExceeded,

    /// <summary>The edited model does not answer the target, and success was required.</summary>
    EditUnsuccessful,

    /// <summary>A number became NaN or infinite on the way.</summary>
    NotFinite,

    /// <summary>There is no editor, or it was made for another model.</summary>
    EditorMissing,

    /// <summary>A shard does not answer or failed.</summary>
    ShardLost,

    /// <summary>A shard lacks records of the version it was asked at.</summary>
    VersionBehind,

    /// <summary>A shard dropped the version it was asked at.</summary>
    VersionGone,

    /// <summary>A record is missing between a shard's version and the records it was given.</summary>
    VersionGap,

    /// <summary>The ledger is damaged, or is another model's.</summary>
    LedgerUnusable,

    /// <summary>Another process has the ledger open.</summary>
    LedgerInUse,

    /// <summary>The ledger could not be written; nothing was changed.</summary>
    LedgerWriteFailed,

    /// <summary>Model, tokenizer or editor files cannot be read.</summary>
    ModelUnusable,

    /// <summary>A text is not Unicode.</summary>
    InvalidText,

    /// <summary>The target is no label of this classifier.</summary>
    UnknownLabel,

    /// <summary>The cluster's coordinator does not answer. Whether the request was carried out is not known.</summary>
    CoordinatorLost,

    /// <summary>The ledger's database does not answer; nothing was changed.</summary>
    LedgerUnreachable,

    /// <summary>The ledger's database stopped answering in a commit. Whether the edit was made is not known yet.</summary>
    LedgerInDoubt,

    /// <summary>Replicas of an editor in training are no longer equal.</summary>
    ReplicasDiffer,

    /// <summary>Another run is under way: of the same model, or in the same folder.</summary>
    TrainerBusy,

    /// <summary>The database of a cluster's membership does not answer.</summary>
    MembershipUnreachable,

    /// <summary>The database of a cluster's membership refuses, or its tables are missing or of another version.</summary>
    MembershipUnusable,

    /// <summary>A device's memory does not hold what the request needs; nothing was changed.</summary>
    OutOfMemory,

    /// <summary>What lies where a command was to write was not made by it.</summary>
    OutputTaken,

    /// <summary>A training's folder was begun with other settings, data or another model.</summary>
    RunDiffers,

    /// <summary>A file of data or settings is not in its form.</summary>
    InvalidData,

    /// <summary>A file, a folder or the standard output cannot be read or written.</summary>
    FileUnusable,

    /// <summary>Client and cluster are of versions that do not understand each other.</summary>
    ProtocolMismatch,

    /// <summary>The server does not know who asks: no key, or one that is unknown or expired.</summary>
    NotAuthenticated,

    /// <summary>Whoever asks has no right to this.</summary>
    NotAllowed,

    /// <summary>A request is not in the form of the API.</summary>
    InvalidRequest,

    /// <summary>There are too many requests, of one caller or in all.</summary>
    TooBusy,

    /// <summary>A request took longer than the server allows.</summary>
    TimedOut,

    /// <summary>The server is starting or stopping.</summary>
    Unavailable,

    /// <summary>The server met what nobody foresaw.</summary>
    Defect,

    /// <summary>No such training run.</summary>
    UnknownTraining,

    /// <summary>With the edit all edits in force would cost more together than allowed.</summary>
    BudgetExceeded,

    /// <summary>No edit of the scope is in force, or all are consolidated and answered as they should be.</summary>
    NothingToConsolidate,

    /// <summary>With the consolidation the model would be worse than with the edits as they were made, or one of them was taken back.</summary>
    ConsolidationRefused,
}

/// <summary>A failure with a stable code, what was wrong and where, and what to do about it.</summary>
public sealed class MendException(MendError error, string what, string hint, Exception? inner = null)
    : Exception($"{what} {hint}", inner)
{
    public MendError Error { get; } = error;

    /// <summary>What was wrong and where: the message without the hint.</summary>
    public string What { get; } = what;

    /// <summary>What to do.</summary>
    public string Hint { get; } = hint;

    /// <summary>Whether the same request may succeed when sent again.</summary>
    public bool IsTransient =>
        Error is MendError.ShardLost or MendError.CoordinatorLost or MendError.VersionBehind or MendError.VersionGone or MendError.VersionGap
        or MendError.LedgerWriteFailed or MendError.LedgerUnreachable or MendError.LedgerInDoubt or MendError.MembershipUnreachable
        or MendError.TooBusy or MendError.TimedOut or MendError.Unavailable;
}
