using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Parity;

[Trait("Category", "Parity")]
public class ModelParityTests
{
    public static TheoryData<string> Models => Fixtures.Models;

    [Theory]
    [MemberData(nameof(Models))]
    public void LogitsLossAndFigures_AreThePublishedCodes(string model)
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(Path.Combine(FixtureFolder.Path, model, "cases"));
        using var stage = Reference.Model(model);
        using var _ = no_grad();
        foreach (var @case in reference.Json.GetProperty("cases").EnumerateArray())
        {
            var name = $"case{@case.GetProperty("index").GetInt32()}.";
            var (input, labels) = reference.Batch(name, stage.Family);
            var top = stage.Forward(Activations.None, new ForwardContext(input));
            var expected = reference[name + "logits"];
            var tokens = Losses.LocalityRows(input, stage.Family); // at padded positions the reference's own masks lose their precision
            Reference.Same($"{model} {name}logits", Reference.Rows(expected).index_select(0, tokens),
                Reference.Comparable(stage.Logits(top, tokens), expected), Tolerance.Logits, relative: false);

            var rows = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
            var scored = Losses.MaskedNll(stage.Logits(top, rows.Rows), rows);
            var figures = @case.GetProperty("expected");
            Reference.Same($"{model} {name}nll", figures.GetProperty("nll").GetDouble(), scored.Loss, Tolerance.Loss);
            Reference.Same($"{model} {name}acc", figures.GetProperty("acc").GetDouble(), scored.Accuracy, 1e-6);
            Reference.Same($"{model} {name}prob", figures.GetProperty("prob").GetDouble(), scored.Probability, Tolerance.Loss);
            Assert.Equal((long)figures.GetProperty("n_tokens").GetDouble(), scored.Tokens);
        }
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void GradientsOfWeights_AreThePublishedCodes(string model)
    {
        using var scope = NewDisposeScope();
        using var reference = new Reference(Path.Combine(FixtureFolder.Path, model, "cases"));
        using var stage = Reference.Model(model);
        foreach (var name in reference.Names.Where(name => name.Contains(".grad/", StringComparison.Ordinal)))
        {
            var weight = stage.Weights.Loaded[name[(name.IndexOf('/', StringComparison.Ordinal) + 1)..]];
            weight.Value.requires_grad_();
            var (input, labels) = reference.Batch(name[..(name.IndexOf('.', StringComparison.Ordinal) + 1)], stage.Family);
            var top = stage.Forward(Activations.None, new ForwardContext(input));
            var rows = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
            var loss = Losses.MaskedNll(stage.Logits(top, rows.Rows), rows).Nll;
            var gradient = Derivatives.Of([loss], [weight.Value])[0];
            weight.Value.requires_grad_(false);
            Reference.Same($"{model} {name}", reference[name], weight.IsTransposed ? gradient.t() : gradient, Tolerance.Gradient);
        }
    }
}
