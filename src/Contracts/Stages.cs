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
/// Of the updates in force on this stage, in their order: SHA-256 in hexadecimal digits. Two shards of a stage with the same checksum
/// compute the same bits, whatever their histories. Empty until it is ready.
/// </param>
/// <param name="Epoch">Taken when it was loaded: of two shards that pass for the same, the one with the greater epoch is meant.</param>
/// <param name="LoadedFraction">Of its layers, from 0 to 1: how far loading is.</param>
[GenerateSerializer, Immutable, Alias("mend.ShardStatus")]
public sealed record ShardStatus(
    [property: Id(0)] ShardState State, [property: Id(1)] ModelVersion Version, [property: Id(2)] int FirstLayer,
    [property: Id(3)] int EndLayer, [property: Id(4)] IReadOnlyList<string> EditableWeights, [property: Id(5)] long WeightBytes,
    [property: Id(6)] string? Fault, [property: Id(7)] string Checksum = "", [property: Id(8)] long Epoch = 0,
    [property: Id(9)] double LoadedFraction = 0);

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

/// <summary>What passes between two stages: activations on the way up, their gradients on the way down.</summary>
/// <param name="Hidden">[B, T, C] float32; null at the entry of a stack.</param>
/// <param name="Memory">[B, S, C] float32, the encoder's output, once there is one.</param>
[GenerateSerializer, Immutable, Alias("mend.Boundary")]
public sealed record Boundary([property: Id(0)] WireTensor? Hidden, [property: Id(1)] WireTensor? Memory)
{
    public static readonly Boundary None = new(null, null);
}

/// <summary>One stage's part of a trip up the stages.</summary>
/// <param name="Session">Groups the trips of one answer or one edit.</param>
/// <param name="Version">All stages of a session compute at this version.</param>
/// <param name="Below">From the stage below; <see cref="Boundary.None"/> for the first.</param>
/// <param name="Scope">Whose edits are seen beside those for everybody.</param>
/// <param name="Branch">
/// Edits that the session's own history has to have (<see cref="BranchRequest"/>); null: computed on the version's. 0: the base model.
/// </param>
/// <param name="Epoch">
/// The greatest that is known of the stage's shard; one with a smaller epoch was superseded, and refuses. 0: none is known.
/// </param>
/// <param name="Route">Of a model that routes its edits: the edit that the trip sees; null: none of those that are routed.</param>
[GenerateSerializer, Immutable, Alias("mend.StageTrip")]
public sealed record StageTrip(
    [property: Id(0)] long Session, [property: Id(1)] ModelVersion Version, [property: Id(2)] TokenBatch Tokens,
    [property: Id(3)] Boundary Below, [property: Id(4)] string? Scope = null, [property: Id(5)] int? Branch = null,
    [property: Id(6)] long Epoch = 0, [property: Id(7)] EditId? Route = null);

/// <summary>What a stage has made of its part of a trip.</summary>
/// <param name="Above">For the stage above; <see cref="Boundary.None"/> from the last stage.</param>
/// <param name="Epoch">Of the shard that answers.</param>
[GenerateSerializer, Immutable, Alias("mend.StageResult")]
public sealed record StageResult([property: Id(0)] Boundary Above, [property: Id(1)] long Epoch);

/// <summary>Asks for the next token of an answer; keys and values of earlier ones are kept under the session.</summary>
/// <param name="Position">Decoder tokens before these, whose keys and values the session has.</param>
/// <param name="Sampling">How the last stage chooses the token.</param>
/// <param name="Candidate">With the session's candidate on top, its alpha times this; null: without.</param>
/// <param name="WantsState">At an answer's first token: the last stage says too what state it chooses that from.</param>
[GenerateSerializer, Immutable, Alias("mend.GenerateRequest")]
public sealed record GenerateRequest(
    [property: Id(0)] StageTrip Trip, [property: Id(1)] long Position, [property: Id(2)] AskOptions Sampling,
    [property: Id(3)] double? Candidate = null, [property: Id(4)] bool WantsState = false);

/// <param name="NextToken">From the last stage.</param>
/// <param name="State">What the model makes of the question, by which edits are routed; if it was asked for. [2 C] float32.</param>
[GenerateSerializer, Immutable, Alias("mend.GenerateReply")]
public sealed record GenerateReply(
    [property: Id(0)] StageResult Result, [property: Id(1)] int? NextToken = null, [property: Id(2)] WireTensor? State = null);

/// <summary>
/// The forward half of an edit, or of several, an example each: the graph and the editable layers' inputs are kept under the session.
/// </summary>
/// <param name="NeedsInputGradient">Whether a stage below has editable weights.</param>
/// <param name="Again">A later round: with the session's candidate on top, to which the backward half will add.</param>
/// <param name="Replay">
/// The loss is so many times the KL divergence of the session's reference (<see cref="TrialRequest"/>, of the same tokens) to this pass,
/// mean over the tokens and summed over the examples. Null: it is the labels' negative log-likelihood, summed alike.
/// </param>
/// <param name="Examples">
/// For each example its number in the session's fit: the stage begins at the fitted layer, with what a <see cref="TrialRequest"/> left there
/// under it. Then the trip's Below is none.
/// </param>
[GenerateSerializer, Immutable, Alias("mend.ForwardRequest")]
public sealed record ForwardRequest([property: Id(0)] StageTrip Trip, [property: Id(1)] bool NeedsInputGradient,
    [property: Id(2)] bool Again = false, [property: Id(3)] double? Replay = null, [property: Id(4)] IReadOnlyList<int>? Examples = null);

/// <param name="Scores">How well each target is predicted, from the last stage. Logits never travel.</param>
[GenerateSerializer, Immutable, Alias("mend.ForwardReply")]
public sealed record ForwardReply([property: Id(0)] StageResult Result, [property: Id(1)] IReadOnlyList<ExampleScore>? Scores = null);

/// <summary>Asks for scores of a batch, before an edit or with its candidate on top.</summary>
/// <param name="Candidate">The session's, its alpha times this; null: before the edit, or as <paramref name="Each"/> says.</param>
/// <param name="Probes">The batch is the probes; null: it is the edit's prompt.</param>
/// <param name="Resumes">
/// The stage begins at its lowest editable layer, with what an earlier pass of the same tokens left there: the session's forward half, or
/// <see cref="ProbePass.Before"/>; or at its fitted layer, with what was kept of the <paramref name="Examples"/>. Then the trip's Below is none.
/// </param>
/// <param name="Each">
/// For each example the factor on its own candidate's alpha; one with null is left out, and no score is given for it. Null: as
/// <paramref name="Candidate"/> says.
/// </param>
/// <param name="IsReference">
/// The last stage keeps the logits under the session until its next forward half, which takes them. Of the <paramref name="Examples"/> of a
/// fit that has met no gradient yet, its stage takes note what its weights react to, so that steps will go round that.
/// </param>
/// <param name="Examples">
/// For each example a number, under which the stage of the session's fit keeps what lies below the fitted layer, or has it already.
/// </param>
[GenerateSerializer, Immutable, Alias("mend.TrialRequest")]
public sealed record TrialRequest([property: Id(0)] StageTrip Trip, [property: Id(2)] double? Candidate = null,
    [property: Id(3)] ProbePass? Probes = null, [property: Id(4)] bool Resumes = false,
    [property: Id(5)] IReadOnlyList<double?>? Each = null, [property: Id(6)] bool IsReference = false,
    [property: Id(7)] IReadOnlyList<int>? Examples = null);

/// <summary>
/// A pass over the probes. What the shards keep of it is no session's: it serves as long as the model's version stays, and where the
/// candidate that it was made with becomes the next version, that one too.
/// </summary>
/// <param name="Number">Its name.</param>
/// <param name="Before">
/// The unedited model's, which this one is compared with. Null: this is the unedited model's, or the base model's.
/// </param>
/// <param name="Base">
/// The base model's, before any edit, which it is compared with too; null: with that it is not. Shards keep these three and no others.
/// </param>
[GenerateSerializer, Immutable, Alias("mend.ProbePass")]
public sealed record ProbePass([property: Id(0)] long Number, [property: Id(1)] long? Before, [property: Id(2)] long? Base);

/// <param name="Scores">From the last stage, one an example.</param>
/// <param name="Kl">
/// Of probes with a candidate, from the last stage: of before to after, mean over the probes' tokens.
/// </param>
/// <param name="TotalKl">The same of the base model to after, where the pass names the base model's.</param>
[GenerateSerializer, Immutable, Alias("mend.TrialReply")]
public sealed record TrialReply(
    [property: Id(0)] StageResult Result, [property: Id(1)] IReadOnlyList<ExampleScore>? Scores = null,
    [property: Id(2)] double? Kl = null, [property: Id(3)] double? TotalKl = null);

/// <summary>What would have been, had an edit not been made: a history for one session, beside the ledger's.</summary>
/// <param name="Begins">Forgets the branch that the session has; otherwise the rest is put on top of it.</param>
/// <param name="Keep">Edits of the version that the branch has too, in the version's order.</param>
/// <param name="Added">Edits that the version does not have so, after those.</param>
[GenerateSerializer, Immutable, Alias("mend.BranchRequest")]
public sealed record BranchRequest(
    [property: Id(0)] long Session, [property: Id(1)] ModelVersion Version, [property: Id(2)] bool Begins,
    [property: Id(3)] IReadOnlyList<EditId> Keep, [property: Id(4)] IReadOnlyList<LedgerRecord> Added);

/// <summary>
/// Asks for one update in the place of those of some edits of a version, of the weights of the highest editable layer: the stage has it.
/// </summary>
/// <param name="Of">The edits, all of one scope.</param>
/// <param name="MaxRank">Rows of the update's factors, at most.</param>
/// <param name="Resumes">
/// It starts as the consolidations that stand in the place of some of them; otherwise only where they stand in the place of all.
/// </param>
[GenerateSerializer, Immutable, Alias("mend.BeginFitRequest")]
public sealed record BeginFitRequest(
    [property: Id(0)] long Session, [property: Id(1)] ModelVersion Version, [property: Id(2)] IReadOnlyList<EditId> Of,
    [property: Id(3)] int MaxRank, [property: Id(4)] bool Resumes = false);

/// <param name="Step">Counts from 1. One that was taken already is not taken again.</param>
/// <param name="Rate">Of Adam, times the size of one edit.</param>
/// <param name="Decay">What the update is shrunk by, a fraction.</param>
[GenerateSerializer, Immutable, Alias("mend.StepFitRequest")]
public sealed record StepFitRequest(
    [property: Id(0)] long Session, [property: Id(1)] int Step, [property: Id(2)] double Rate, [property: Id(3)] double Decay);

/// <param name="Changes">Of this stage's weights.</param>
[GenerateSerializer, Immutable, Alias("mend.FitReply")]
public sealed record FitReply([property: Id(0)] IReadOnlyList<WeightChange> Changes);

/// <summary>How well one example's labels were predicted.</summary>
/// <param name="Exact">Every label is the most likely token.</param>
/// <param name="LogProbability">Mean over its labels, in nats.</param>
[GenerateSerializer, Immutable, Alias("mend.ExampleScore")]
public sealed record ExampleScore([property: Id(0)] bool Exact, [property: Id(1)] double LogProbability);

/// <summary>The backward half of an edit, or of several, on one stage, after its <see cref="ForwardRequest"/>.</summary>
/// <param name="Above">
/// dL/d(reply's Above) from the stage above; <see cref="Boundary.None"/> for the last stage, which has the loss.
/// </param>
[GenerateSerializer, Immutable, Alias("mend.BackwardRequest")]
public sealed record BackwardRequest([property: Id(0)] long Session, [property: Id(1)] Boundary Above);

/// <param name="Below">dL/d(request's Below), as far as a stage below needs it.</param>
/// <param name="Changes">For each example its candidate for this stage's weights; the stage keeps them for the trials.</param>
/// <param name="Editor">Time in the editor networks.</param>
/// <param name="Rounds">That the stage's editor takes for an edit, at most.</param>
[GenerateSerializer, Immutable, Alias("mend.BackwardReply")]
public sealed record BackwardReply(
    [property: Id(0)] Boundary Below, [property: Id(1)] IReadOnlyList<IReadOnlyList<WeightChange>> Changes,
    [property: Id(2)] TimeSpan Editor,
    [property: Id(3)] int Rounds = 1);
