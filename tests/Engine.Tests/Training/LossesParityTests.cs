using MendCluster.Engine.Tests.Parity;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Training;

/// <summary>
/// The losses and accuracies against the published code. What it computes of one logit s is here computed of the logits [0, s] of two
/// classes.
/// </summary>
[Trait("Category", "Parity")]
public class LossesParityTests
{
    public static TheoryData<int> MaskedNll => Cases("masked_log_probs", "pred", binary: false);

    public static TheoryData<int> BinaryNll => Cases("masked_log_probs", "pred", binary: true);

    public static TheoryData<int> LocalityKl => Cases("kl_loc_loss", "pre", binary: false);

    public static TheoryData<int> BinaryKl => Cases("kl_loc_loss", "pre", binary: true);

    [Theory]
    [MemberData(nameof(MaskedNll))]
    public void MaskedNll_AndItsGradient_AreThePublishedCodes(int index)
    {
        using var scope = NewDisposeScope();
        using var reference = Open();
        var (predictions, labels) = (reference[$"{index}.pred"].requires_grad_(), reference[$"{index}.targ"]);
        var isSequence = predictions.dim() == 3;
        var @case = reference.Json[index];
        // Predictions without a sequence: each is an example of one position, which is never shifted.
        var rows = ScoredPositions.Of(isSequence ? labels : labels.unsqueeze(1), isSequence && @case.GetProperty("shift").GetBoolean());

        var scored = Losses.MaskedNll(predictions.reshape(-1, predictions.shape[^1]).index_select(0, rows.Rows), rows);

        var (name, expected) = (@case.GetProperty("name").GetString()!, @case.GetProperty("expected"));
        Reference.Same($"{name}: nll", expected.GetProperty("nll").GetDouble(), scored.Nll.item<float>(), Tolerance.Loss);
        Reference.Same($"{name}: prob", expected.GetProperty("prob").GetDouble(), scored.Probability, Tolerance.Loss);
        Reference.Same($"{name}: acc", expected.GetProperty("acc").GetDouble(), scored.Accuracy, 1e-6);
        Assert.Equal((long)expected.GetProperty("n_tokens").GetDouble(), scored.Tokens);
        Reference.Same($"{name}: gradient", reference[$"{index}.grad_nll"], Derivatives.Of([scored.Nll], [predictions])[0],
            Tolerance.Gradient);
    }

    [Theory]
    [MemberData(nameof(LocalityKl))]
    public void LocalityKl_AndItsGradient_AreThePublishedCodes(int index)
    {
        using var scope = NewDisposeScope();
        using var reference = Open();
        var (before, after) = (reference[$"{index}.pre"], reference[$"{index}.post"].requires_grad_());
        var rows = reference[$"{index}.mask"].reshape(-1).nonzero().squeeze(1);

        var kl = Losses.LocalityKl(Rows(before), Rows(after));

        var @case = reference.Json[index];
        var name = @case.GetProperty("name").GetString()!;
        Reference.Same($"{name}: kl", @case.GetProperty("expected").GetDouble(), kl.item<float>(), Tolerance.Loss);
        // Where both models are the same the gradient is 0 but for rounding, of which there is no fraction to allow.
        var expected = reference[$"{index}.grad_post"];
        var isZero = expected.abs().max().item<float>() < 1e-7;
        Reference.Same($"{name}: gradient", expected, Derivatives.Of([kl], [after])[0], isZero ? 1e-7 : Tolerance.Gradient,
            relative: !isZero);

        Tensor Rows(Tensor logits) => logits.reshape(-1, logits.shape[2]).index_select(0, rows);
    }

    [Theory]
    [MemberData(nameof(BinaryNll))]
    public void MaskedNll_OfTwoClasses_IsThePublishedCodesOfOneLogit(int index)
    {
        using var scope = NewDisposeScope();
        using var reference = Open();
        var (predictions, labels) =
            (reference[$"{index}.pred"].requires_grad_(), reference[$"{index}.targ"].to_type(ScalarType.Int64).reshape(-1, 1));
        var scored = Losses.MaskedNll(TwoClasses(predictions), ScoredPositions.Of(labels, shifts: false));

        var @case = reference.Json[index];
        var (name, expected) = (@case.GetProperty("name").GetString()!, @case.GetProperty("expected"));
        Reference.Same($"{name}: nll", expected.GetProperty("nll").GetDouble(), scored.Nll.item<float>(), Tolerance.Loss);
        if (!name.Contains("boundary", StringComparison.Ordinal)) // there neither class is right in the published code; here the first is
            Reference.Same($"{name}: acc", expected.GetProperty("acc").GetDouble(), scored.Accuracy, 1e-6);
        Assert.Equal((long)expected.GetProperty("n_tokens").GetDouble(), scored.Tokens);
        Reference.Same($"{name}: gradient", reference[$"{index}.grad_nll"], Derivatives.Of([scored.Nll], [predictions])[0],
            Tolerance.Gradient);
    }

    [Theory]
    [MemberData(nameof(BinaryKl))]
    public void LocalityKl_OfTwoClasses_IsThePublishedCodesOfOneLogit(int index)
    {
        using var scope = NewDisposeScope();
        using var reference = Open();
        var (before, after) = (reference[$"{index}.pre"], reference[$"{index}.post"].requires_grad_());
        var kl = Losses.LocalityKl(TwoClasses(before), TwoClasses(after));
        var @case = reference.Json[index];
        var name = @case.GetProperty("name").GetString()!;
        Reference.Same($"{name}: kl", @case.GetProperty("expected").GetDouble(), kl.item<float>(), Tolerance.Loss);
        Reference.Same($"{name}: gradient", reference[$"{index}.grad_post"], Derivatives.Of([kl], [after])[0], Tolerance.Gradient);
    }

    private static Tensor TwoClasses(Tensor logits) => cat([zeros_like(logits.reshape(-1, 1)), logits.reshape(-1, 1)], 1);

    private static Reference Open() => new(Path.Combine(FixtureFolder.Path, "metrics"));

    private static TheoryData<int> Cases(string function, string tensor, bool binary)
    {
        using var reference = Open();
        using var scope = NewDisposeScope();
        var indices = new TheoryData<int>();
        foreach (var @case in reference.Json.EnumerateArray().Where(@case => @case.GetProperty("fn").GetString() == function))
        {
            var index = @case.GetProperty("index").GetInt32();
            if (reference[$"{index}.{tensor}"].shape[^1] == 1 == binary)
                indices.Add(index);
        }
        return indices;
    }
}
