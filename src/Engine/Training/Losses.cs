using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Engine.Training;

/// <summary>
/// Which rows of the head's input predict a label, on the host. Only these go through the head: at 50,000 words it is the largest product
/// of a pass.
/// </summary>
/// <param name="Rows">[N] int64, indices into the flattened [B * T] positions.</param>
/// <param name="Targets">[N] int64, the token each row has to predict.</param>
/// <param name="Sequences">[N] int64, the example each row belongs to.</param>
/// <param name="BatchSize">B.</param>
public sealed record ScoredPositions(Tensor Rows, Tensor Targets, Tensor Sequences, long BatchSize)
{
    /// <summary>Labels of -100 are not scored.</summary>
    public const long Ignored = -100;

    /// <param name="labels">[B, T] int64, on the host.</param>
    /// <param name="shifts">Whether position t predicts label t + 1 (<see cref="ModelFamily.ShiftsLabels"/>).</param>
    public static ScoredPositions Of(Tensor labels, bool shifts)
    {
        var (B, T) = (labels.shape[0], labels.shape[1]);
        var scored = shifts ? labels.narrow(1, 1, T - 1) : labels; // [B, T'] the label that position t predicts
        var places = scored.Ne(Ignored).nonzero();                 // [N, 2]
        var (sequences, positions) = (places.select(1, 0), places.select(1, 1));
        var targets = scored.reshape(-1).index_select(0, sequences.Times(scored.shape[1]).Plus(positions));
        return new(sequences.Times(T).Plus(positions), targets, sequences, B);
    }

    /// <summary>The first scored row of each example that has one: where its answer begins.</summary>
    public IReadOnlyList<long> First()
    {
        var (rows, sequences) = (Rows.Host().data<long>().ToArray(), Sequences.Host().data<long>().ToArray());
        return [.. rows.Where((_, i) => i == 0 || sequences[i] != sequences[i - 1])];
    }

    /// <summary>Where the scored rows are among others that they are all of, so that their logits are not computed again.</summary>
    /// <param name="rows">[M] int64, on the host, into the flattened [B * T] positions.</param>
    /// <param name="positions">B * T.</param>
    /// <returns>[N] int64, on the host, into <paramref name="rows"/>.</returns>
    public Tensor Among(Tensor rows, long positions) =>
        zeros([positions], ScalarType.Int64, CPU)
            .IndexAdd_(0, rows, NewTensor.Arange(0, rows.shape[0], ScalarType.Int64, CPU)).index_select(0, Rows);
}

/// <summary>
/// Figures of one scored pass (mend-spec 3.1). They stay on the device, and must not be disposed of, until the first number is asked for;
/// then all come at once.
/// </summary>
/// <param name="nll">[] float32, carries the graph.</param>
/// <param name="figures">[3] float32: NLL, accuracy, probability.</param>
public sealed class Scored(Tensor nll, Tensor figures, long tokens)
{
    private float[]? _numbers;

    /// <summary>Negative log-likelihood, one mean over all scored tokens. [] float32, carries the graph.</summary>
    public Tensor Nll => nll;

    /// <summary>The same as a number.</summary>
    public float Loss => Numbers[0];

    /// <summary>Fraction of the examples whose every scored token is the most likely one; an example without any counts.</summary>
    public double Accuracy => Numbers[1];

    /// <summary>Mean probability of the scored tokens.</summary>
    public double Probability => Numbers[2];

    /// <summary>Scored tokens.</summary>
    public long Tokens => tokens;

    /// <summary>Loss, accuracy and probability, for whoever reads more numbers in the same copy. [3] float32.</summary>
    public Tensor Figures => figures;

    private float[] Numbers => _numbers ??= Devices.Numbers(figures);
}

/// <summary>The losses of MEND's training (paper, section 3.2) and the figures that are read off them.</summary>
public static class Losses
{
    /// <param name="logits">[N, V], the rows of <paramref name="labels"/>.</param>
    public static Scored MaskedNll(Tensor logits, ScoredPositions labels)
    {
        var logProbabilities = logits.to_type(ScalarType.Float32).log_softmax(-1);
        var targets = labels.Targets.On(logits.device);
        var ofTarget = logProbabilities.gather(1, targets.unsqueeze(1)).squeeze(1); // [N]
        var nll = -ofTarget.mean();
        var found = ofTarget.detach();
        var wrong = logits.detach().argmax(1).ne(targets).to_type(ScalarType.Float32);
        var wrongInSequence = zeros([labels.BatchSize], ScalarType.Float32, wrong.device)
            .IndexAdd_(0, labels.Sequences.On(wrong.device), wrong);
        var accuracy = wrongInSequence.Eq(0).to_type(ScalarType.Float32).mean();
        return new(nll, stack([nll.detach(), accuracy, found.exp().mean()], 0), labels.Targets.shape[0]);
    }

    /// <summary>
    /// Each example's mean over its scored tokens, summed over the examples: the gradient of each is what it would be alone.
    /// </summary>
    /// <param name="logits">[N, V], the rows of <paramref name="labels"/>.</param>
    /// <returns>[] float32, carries the graph.</returns>
    public static Tensor SummedNll(Tensor logits, ScoredPositions labels)
    {
        var sequences = labels.Sequences.On(logits.device);
        // [N]
        var ofTarget = logits.to_type(ScalarType.Float32).log_softmax(-1).gather(1,
            labels.Targets.On(logits.device).unsqueeze(1)).squeeze(1);
        var tokens = zeros([labels.BatchSize], ScalarType.Float32, ofTarget.device).IndexAdd_(0, sequences, ones_like(ofTarget.detach()));
        return -(ofTarget / tokens.index_select(0, sequences)).sum();
    }

    /// <summary>
    /// Locality: KL(before || after) over the vocabulary, mean over the rows that the mask names. Unshifted: every token position counts,
    /// those of the prompt too (mend-spec 3.3).
    /// </summary>
    /// <param name="before">[N, V] logits of the unedited model.</param>
    /// <param name="after">[N, V] logits of the edited model.</param>
    public static Tensor LocalityKl(Tensor before, Tensor after)
    {
        var p = before.detach().to_type(ScalarType.Float32).log_softmax(-1);
        var q = after.to_type(ScalarType.Float32).log_softmax(-1);
        return (p.exp() * (p - q)).sum([1]).mean();
    }

    /// <summary>
    /// The rows that locality is measured on. [N] int64, on the host, into the flattened [B * T] positions of the head's input.
    /// </summary>
    public static Tensor LocalityRows(ModelInput input, ModelFamily family) =>
        // a classifier's head reads one row an example
        family.Labels is not null ? NewTensor.Arange(0, input.BatchSize, ScalarType.Int64, input.InputIds.device)
        : (input.DecoderAttentionMask ?? (input.DecoderInputIds is null ? input.AttentionMask : ones_like(input.DecoderInputIds)))
        .reshape(-1).nonzero().squeeze(1);
}
