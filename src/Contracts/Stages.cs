using Orleans;

namespace MendCluster.Contracts;

/// <summary>The life of a shard. <see cref="Ready"/> is at a version.</summary>
public enum ShardState
{
    Cold,
    Loading,
    Ready,
    Faulted,
}

/// <param name="FirstLayer">Of the model's layers, from 0.</param>
/// <param name="EndLayer">One past its last layer.</param>
/// <param name="EditableWeights">Those of this stage.</param>
/// <param name="WeightBytes">Memory of the stage's weights.</param>
/// <param name="Fault">Why it cannot serve, when it is faulted.</param>
/// <param name="Checksum">
/// Of the updates in force on this stage, in their order: SHA-256 in hexadecimal digits. Two shards of a stage with the same checksum compute the same
/// bits, whatever their histories. Empty until it is ready.
/// </param>
/// <param name="Epoch">Taken when it was loaded: of two shards that pass for the same, the one with the greater epoch is meant.</param>
[GenerateSerializer, Immutable, Alias("mend.ShardStatus")]
public sealed record ShardStatus(
    [property: Id(0)] ShardState State, [property: Id(1)] ModelVersion Version, [property: Id(2)] int FirstLayer,
    [property: Id(3)] int EndLayer, [property: Id(4)] IReadOnlyList<string> EditableWeights, [property: Id(5)] long WeightBytes,
    [property: Id(6)] string? Fault, [property: Id(7)] string Checksum = "", [property: Id(8)] long Epoch = 0);

/// <summary>A stage of a replica as the cluster sees it.</summary>
/// <param name="Status">Null: it does not answer.</param>
[GenerateSerializer, Immutable, Alias("mend.ShardReport")]
public sealed record ShardReport([property: Id(0)] ShardPlace Place, [property: Id(1)] ShardStatus? Status);

/// <summary>A batch of token ids: B examples, S source tokens, T decoder tokens, int64, padded on the right.</summary>
/// <param name="InputIds">[B, S].</param>
/// <param name="AttentionMask">[B, S], 1 = token.</param>
/// <param name="DecoderInputIds">[B, T], encoder-decoder models only.</param>
/// <param name="DecoderAttentionMask">[B, T]; absent: every position is a token.</param>
/// <param name="Labels">[B, T], -100 = not scored; read by the last stage.</param>
[GenerateSerializer, Immutable, Alias("mend.TokenBatch")]
public sealed record TokenBatch(
    [property: Id(0)] WireTensor InputIds, [property: Id(1)] WireTensor AttentionMask, [property: Id(2)] WireTensor? DecoderInputIds,
    [property: Id(3)] WireTensor? DecoderAttentionMask, [property: Id(4)] WireTensor? Labels);

/// <summary>What a trip up the stages is for.</summary>
public enum StagePurpose
{
    /// <summary>The next token of an answer; keys and values of earlier ones are kept under the session.</summary>
    Generate,

    /// <summary>The forward half of an edit: the graph and the editable layers' inputs are kept under the session.</summary>
    Record,

    /// <summary>Scores under the session's version.</summary>
    TryBefore,

    /// <summary>Scores with the session's candidate on top, and the KL to <see cref="TryBefore"/>.</summary>
    TryAfter,
}

/// <summary>One stage's part of a trip.</summary>
/// <param name="Session">Groups the trips of one answer or one edit.</param>
/// <param name="Version">All stages of a session compute at this version.</param>
/// <param name="Hidden">[B, T, C] float32 from the stage below; null for the first stage and at the entry of a decoder.</param>
/// <param name="Memory">[B, S, C] float32, the encoder's output, once there is one.</param>
/// <param name="NeedsInputGradient">Record: whether a stage below has editable weights.</param>
/// <param name="FirstProbe">Try: examples from this one on are probes.</param>
/// <param name="Strength">TryAfter: factor on the candidate's alpha.</param>
/// <param name="Position">Generate: decoder tokens before these, whose keys and values the session has.</param>
/// <param name="Sampling">Generate: how the last stage chooses the token.</param>
/// <param name="Scope">Whose edits are seen beside those for everybody.</param>
/// <param name="WithCandidate">Generate: with the session's candidate on top, times <paramref name="Strength"/>.</param>
/// <param name="Epoch">The greatest that is known of the stage's shard; one with a smaller epoch was superseded, and refuses. 0: none is known.</param>
/// <param name="Branch">Edits that the session's own history has to have (<see cref="BranchRequest"/>); null: computed on the version's.</param>
[GenerateSerializer, Immutable, Alias("mend.StageRequest")]
public sealed record StageRequest(
    [property: Id(0)] long Session, [property: Id(1)] ModelVersion Version, [property: Id(2)] StagePurpose Purpose,
    [property: Id(3)] TokenBatch Tokens, [property: Id(4)] WireTensor? Hidden = null, [property: Id(5)] WireTensor? Memory = null,
    [property: Id(6)] bool NeedsInputGradient = false, [property: Id(7)] int FirstProbe = 0, [property: Id(8)] double Strength = 1,
    [property: Id(9)] long Position = 0, [property: Id(10)] AskOptions? Sampling = null, [property: Id(11)] string? Scope = null,
    [property: Id(12)] bool WithCandidate = false, [property: Id(13)] int? Branch = null, [property: Id(14)] long Epoch = 0);

/// <summary>What would have been, had an edit not been made: a history for one session, beside the ledger's.</summary>
/// <param name="Begins">Forgets the branch that the session has; otherwise the rest is put on top of it.</param>
/// <param name="Keep">Edits of the version that the branch has too, in the version's order.</param>
/// <param name="Added">Edits that the version does not have so, after those.</param>
[GenerateSerializer, Immutable, Alias("mend.BranchRequest")]
public sealed record BranchRequest(
    [property: Id(0)] long Session, [property: Id(1)] ModelVersion Version, [property: Id(2)] bool Begins,
    [property: Id(3)] IReadOnlyList<EditId> Keep, [property: Id(4)] IReadOnlyList<LedgerRecord> Added);

/// <summary>How well one example's labels were predicted.</summary>
/// <param name="Exact">Every label is the most likely token.</param>
/// <param name="LogProbability">Mean over its labels, in nats.</param>
[GenerateSerializer, Immutable, Alias("mend.ExampleScore")]
public sealed record ExampleScore([property: Id(0)] bool Exact, [property: Id(1)] double LogProbability);

/// <param name="Hidden">For the stage above; null from the last stage.</param>
/// <param name="NextToken">Generate, last stage.</param>
/// <param name="Scores">Record and try, last stage: one an example. Logits never travel.</param>
/// <param name="Kl">TryAfter, last stage: of before to after, mean over the probes' tokens.</param>
/// <param name="Epoch">Of the shard that answers.</param>
[GenerateSerializer, Immutable, Alias("mend.StageReply")]
public sealed record StageReply(
    [property: Id(0)] WireTensor? Hidden, [property: Id(1)] WireTensor? Memory, [property: Id(2)] int? NextToken = null,
    [property: Id(3)] IReadOnlyList<ExampleScore>? Scores = null, [property: Id(4)] double? Kl = null, [property: Id(5)] long Epoch = 0);

/// <summary>The backward half of an edit on one stage, after its <see cref="StagePurpose.Record"/>.</summary>
/// <param name="Hidden">dL/d(reply's Hidden) from the stage above; null for the last stage, which has the loss.</param>
/// <param name="Memory">dL/d(reply's Memory) from the stages above.</param>
[GenerateSerializer, Immutable, Alias("mend.BackwardRequest")]
public sealed record BackwardRequest(
    [property: Id(0)] long Session, [property: Id(1)] WireTensor? Hidden, [property: Id(2)] WireTensor? Memory);

/// <param name="Hidden">dL/d(request's Hidden), when a stage below needs it.</param>
/// <param name="Memory">dL/d(request's Memory), when a stage below needs it.</param>
/// <param name="Changes">The candidate for this stage's weights; the stage keeps it for the try.</param>
/// <param name="Editor">Time in the editor networks.</param>
[GenerateSerializer, Immutable, Alias("mend.BackwardReply")]
public sealed record BackwardReply(
    [property: Id(0)] WireTensor? Hidden, [property: Id(1)] WireTensor? Memory, [property: Id(2)] IReadOnlyList<WeightChange> Changes,
    [property: Id(3)] TimeSpan Editor);
