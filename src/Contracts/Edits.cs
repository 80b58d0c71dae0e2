using System.Text.Json.Serialization;
using Orleans;

namespace MendCluster.Contracts;

/// <summary>Names an edit: the number of the version that it made.</summary>
[GenerateSerializer, Immutable, Alias("mend.EditId")]
public readonly record struct EditId([property: Id(0)] long Value)
{
    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>Counts what was done to a model: 0 as loaded, one more with every edit and every revert.</summary>
[GenerateSerializer, Immutable, Alias("mend.ModelVersion")]
public readonly record struct ModelVersion([property: Id(0)] long Value) : IComparable<ModelVersion>
{
    public static readonly ModelVersion Base = new(0);

    public ModelVersion Next() => new(Value + 1);

    public static bool operator <(ModelVersion left, ModelVersion right) => left.Value < right.Value;

    public static bool operator >(ModelVersion left, ModelVersion right) => left.Value > right.Value;

    public static bool operator <=(ModelVersion left, ModelVersion right) => left.Value <= right.Value;

    public static bool operator >=(ModelVersion left, ModelVersion right) => left.Value >= right.Value;

    public int CompareTo(ModelVersion other) => Value.CompareTo(other.Value);

    public override string ToString() => Value.ToString(System.Globalization.CultureInfo.InvariantCulture);
}

/// <summary>How an edit is to be made.</summary>
[GenerateSerializer, Immutable, Alias("mend.EditOptions")]
public sealed record EditOptions
{
    /// <summary>
    /// Refuses the edit when it costs more than this fraction of the probes' answers; an error where there are no probes. Null: never.
    /// </summary>
    [Id(0)]
    public double? MaxDrawdown { get; init; }

    /// <summary>
    /// The edit is made as strong as it has to be: with the smallest of 0.7 to 2 times the editor's own step (alpha) that gives the target
    /// this probability (geometric mean over its tokens). Spares unrelated answers where less is enough; costs a forward pass of the prompt
    /// for each try. Where none makes the target the answer, the edit has the editor's own step, if it may be made at all: see
    /// <see cref="RequireSuccess"/>.
    /// </summary>
    /// <value>From 0 to 1. Null: the editor's own step, as in the MEND paper.</value>
    [Id(1)]
    public double? Confidence { get; init; } = 0.95;

    /// <summary>
    /// Refuses the edit when the edited model does not answer the target to the prompt. So does a limit of what all edits may cost together,
    /// the model's or the caller's, whatever this says: nothing of it is spent on an edit that does not do what it is for.
    /// </summary>
    [Id(2)]
    public bool RequireSuccess { get; init; }

    /// <summary>A request sent twice with the same key is carried out once and answered twice.</summary>
    [Id(3)]
    public string? IdempotencyKey { get; init; }

    /// <summary>Who asks; kept in the ledger.</summary>
    [Id(4)]
    public string? Author { get; init; }

    /// <summary>
    /// Makes the edit visible only to requests that name this scope: for one tenant, or to try it out. It is made on what that scope sees,
    /// the edits without a scope and its own.
    /// </summary>
    /// <value>Null: for everybody.</value>
    [Id(5)]
    public string? Scope { get; init; }

    /// <summary>The prompt in other words, of a preview: it shows the answers to them too. An edit takes none.</summary>
    [Id(6)]
    public IReadOnlyList<string> Paraphrases { get; init; } = [];

    /// <summary>
    /// Refuses the edit when with it all edits in force together cost more than this fraction of the probes: those that the base model
    /// answers rightly and the edited one does not. Unlike <see cref="MaxDrawdown"/> it is not had anew by every edit, and a probe that
    /// became right pays for none that became wrong. An error where there are no probes; costs a forward pass of them. A model may have a
    /// budget of its own, and then the smaller of the two holds. Null: never.
    /// </summary>
    [Id(7)]
    public double? MaxTotalDrawdown { get; init; }

    /// <summary>
    /// The same of the KL divergence of the base model to the edited one on the probes, per token, in nats. Null: never.
    /// </summary>
    [Id(8)]
    public double? MaxTotalKl { get; init; }
}

/// <summary>What an edit did, measured on the edited model before the edit was made durable.</summary>
/// <param name="Success">Every token of the target is the most likely one, after the prompt.</param>
/// <param name="ProbabilityBefore">Of the target, before the edit: mean over its tokens, geometric.</param>
/// <param name="ProbabilityAfter">The same, after.</param>
/// <param name="Probes">Unrelated questions that were asked before and after: the fixed ones, and those nearest to the prompt.</param>
/// <param name="Drawdown">
/// Fraction of them whose answer was right before, less the same after. Null: there were no probes, so it was not measured.
/// </param>
/// <param name="Kl">KL divergence of the model before to the model after on the fixed probes, per token, in nats. Null: as the drawdown.</param>
/// <param name="Strength">
/// What the search for <see cref="EditOptions.Confidence"/> chose, times the editor's own step; null: there was none.
/// </param>
/// <param name="Rank">Rows of the update's factors, the most of any weight. 0 in ledgers from before it was kept.</param>
/// <param name="Bytes">Of the factors of all weights, as the ledger keeps them. 0 as the rank.</param>
[GenerateSerializer, Immutable, Alias("mend.EditFigures")]
public sealed record EditFigures(
    [property: Id(0)] bool Success, [property: Id(1)] double ProbabilityBefore, [property: Id(2)] double ProbabilityAfter,
    [property: Id(3)] int Probes, double? Drawdown, double? Kl, [property: Id(6)] double? Strength = null,
    [property: Id(7), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] long Rank = 0,
    [property: Id(8), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingDefault)] long Bytes = 0)
{
    [Id(4)]
    public double? Drawdown { get; init; } = Probes == 0 ? null : Drawdown; // older ledgers have 0 where nothing was measured

    [Id(5)]
    public double? Kl { get; init; } = Probes == 0 ? null : Kl;

    /// <summary>
    /// Fraction of the probes that the base model answers rightly and the model with all edits in force, this one too, does not. Null: the
    /// model has no budget, and the edit was asked for without <see cref="EditOptions.MaxTotalDrawdown"/> and
    /// <see cref="EditOptions.MaxTotalKl"/>.
    /// </summary>
    [Id(9)]
    public double? TotalDrawdown { get; init; }

    /// <summary>KL divergence of the base model to that model on the probes, per token, in nats. Null: as the total drawdown.</summary>
    [Id(10)]
    public double? TotalKl { get; init; }

    /// <summary>
    /// What is left of the model's budget, or where it has none of those limits, as a fraction of the one that is nearer to its end. Null:
    /// as the total drawdown.
    /// </summary>
    [Id(11)]
    public double? BudgetLeft { get; init; }

    /// <summary>
    /// Edits that were tried and made together, this one among them: success and probability after are with all of them in force, and
    /// drawdown, KL divergence and totals are those of all of them. Null: it was made alone.
    /// </summary>
    [Id(12), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public int? Together { get; init; }
}

/// <summary>How long the parts of an edit took.</summary>
/// <param name="Forward">Up the stages with the prompt.</param>
/// <param name="Backward">Down to the lowest editable layer.</param>
/// <param name="Editor">The editor networks, on all stages.</param>
/// <param name="Try">The edited model on prompt and probes, and the unedited one beside it.</param>
/// <param name="Append">Until the record was on the disk.</param>
/// <param name="Broadcast">Until every shard had the new version.</param>
[GenerateSerializer, Immutable, Alias("mend.EditTimes")]
public sealed record EditTimes(
    [property: Id(0)] TimeSpan Forward, [property: Id(1)] TimeSpan Backward, [property: Id(2)] TimeSpan Editor,
    [property: Id(3)] TimeSpan Try, [property: Id(4)] TimeSpan Append, [property: Id(5)] TimeSpan Broadcast)
{
    public static readonly EditTimes Zero = new(default, default, default, default, default, default);

    public TimeSpan Total => Forward + Backward + Editor + Try + Append + Broadcast;
}

/// <summary>An edit that is in force.</summary>
/// <param name="Version">The first version that has it.</param>
/// <param name="Times">All zero when the edit was made by an earlier request with the same idempotency key.</param>
[GenerateSerializer, Immutable, Alias("mend.EditReceipt")]
public sealed record EditReceipt(
    [property: Id(0)] EditId Id, [property: Id(1)] ModelVersion Version, [property: Id(2)] EditFigures Figures,
    [property: Id(3)] EditTimes Times);

/// <summary>
/// How an edit is taken back. Either way the model is afterwards, to the last bit, what some history without that edit would have made it.
/// </summary>
public enum RevertMode
{
    /// <summary>
    /// Its stored update is removed; the others stay as they were computed, with the edit in force. At the cost of one record, and later
    /// edits keep exactly the effect that was measured for them as far as they are independent of the one taken back.
    /// </summary>
    Remove,

    /// <summary>
    /// The later edits are computed anew on a model that never had it, each with the options it was made with, and all of it is one
    /// transaction: the model becomes the one of a history in which the edit was never made. Costs an edit's passes for each later edit.
    /// </summary>
    Recompute,
}

/// <param name="Version">The first version without the edit.</param>
/// <param name="Recomputed">Later edits that were computed anew.</param>
[GenerateSerializer, Immutable, Alias("mend.RevertReceipt")]
public sealed record RevertReceipt(
    [property: Id(0)] EditId Id, [property: Id(1)] ModelVersion Version, [property: Id(2)] int Recomputed = 0);

/// <summary>A probe whose answer an edit would change.</summary>
/// <param name="RightBefore">The unedited model gives the probe's answer.</param>
/// <param name="RightAfter">The edited model does.</param>
/// <param name="ProbabilityBefore">Of the probe's answer, geometric mean over its tokens.</param>
[GenerateSerializer, Immutable, Alias("mend.ProbeChange")]
public sealed record ProbeChange(
    [property: Id(0)] string Question, [property: Id(1)] string Answer, [property: Id(2)] bool RightBefore,
    [property: Id(3)] bool RightAfter, [property: Id(4)] double ProbabilityBefore, [property: Id(5)] double ProbabilityAfter);

/// <summary>What an edit would change about one weight.</summary>
/// <param name="Rank">Of the update.</param>
/// <param name="Norm">Of the update, Frobenius.</param>
[GenerateSerializer, Immutable, Alias("mend.WeightPreview")]
public sealed record WeightPreview([property: Id(0)] string Weight, [property: Id(1)] long Rank, [property: Id(2)] double Norm);

/// <summary>What an edit would change about the answer to a prompt in other words.</summary>
[GenerateSerializer, Immutable, Alias("mend.ParaphrasePreview")]
public sealed record ParaphrasePreview([property: Id(0)] string Prompt, [property: Id(1)] string AnswerBefore,
    [property: Id(2)] string AnswerAfter);

/// <summary>What an edit would do. Nothing was changed.</summary>
/// <param name="Version">Of the model that it was tried on.</param>
/// <param name="Refused">Why the edit would be refused with these options; null: it would be made.</param>
/// <param name="AnswerBefore">What the model answers to the prompt now.</param>
/// <param name="AnswerAfter">What it would answer.</param>
/// <param name="Probes">Those whose answer would become right or wrong.</param>
/// <param name="InForce">The last edit of the same prompt, target and scope that is in force already; null: there is none.</param>
[GenerateSerializer, Immutable, Alias("mend.EditPreview")]
public sealed record EditPreview(
    [property: Id(0)] ModelVersion Version, [property: Id(1)] EditFigures Figures, [property: Id(2)] string? Refused,
    [property: Id(3)] string AnswerBefore, [property: Id(4)] string AnswerAfter, [property: Id(5)] IReadOnlyList<ProbeChange> Probes,
    [property: Id(6)] IReadOnlyList<WeightPreview> Weights, [property: Id(7)] EditTimes Times, [property: Id(8)] EditId? InForce = null)
{
    /// <summary>Of <see cref="EditOptions.Paraphrases"/>, in their order.</summary>
    [Id(9)]
    public IReadOnlyList<ParaphrasePreview> Paraphrases { get; init; } = [];
}

/// <summary>How the next token of an answer is chosen.</summary>
/// <param name="MaxTokens">Most tokens of the answer.</param>
/// <param name="Temperature">0: always the most likely token.</param>
/// <param name="TopK">Draw among this many most likely tokens; 0: all.</param>
/// <param name="TopP">Draw among the fewest most likely tokens whose probabilities reach this sum.</param>
/// <param name="Seed">Of the draws.</param>
/// <param name="Scope">Asks the model with this scope's edits beside those for everybody.</param>
[GenerateSerializer, Immutable, Alias("mend.AskOptions")]
public sealed record AskOptions(
    [property: Id(0)] int MaxTokens = 32, [property: Id(1)] double Temperature = 0, [property: Id(2)] int TopK = 0,
    [property: Id(3)] double TopP = 1, [property: Id(4)] int Seed = 0, [property: Id(5)] string? Scope = null);

/// <param name="Version">Of the model that gave the answer.</param>
[GenerateSerializer, Immutable, Alias("mend.Answer")]
public sealed record Answer([property: Id(0)] string Text, [property: Id(1)] ModelVersion Version);

/// <summary>A piece of an answer that is being given.</summary>
/// <param name="Text">What comes after the pieces before it; it may be empty. All of them together are the answer.</param>
/// <param name="Version">Of the model that gives the answer.</param>
/// <param name="Tokens">Of the answer so far.</param>
/// <param name="Restarts">The pieces before it do not count: the answer begins anew, at a newer version or on another replica.</param>
[GenerateSerializer, Immutable, Alias("mend.AnswerPart")]
public sealed record AnswerPart(
    [property: Id(0)] string Text, [property: Id(1)] ModelVersion Version, [property: Id(2)] int Tokens,
    [property: Id(3)] bool Restarts = false);
