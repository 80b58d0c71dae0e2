using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Editors;

public class FineTuneTests
{
    private static readonly IReadOnlyList<EditableWeight> Weights = [new("a", 3, 2), new("b", 2, 4)];

    public static TheoryData<string> Families => [.. TinyModel.Families];

    [Theory]
    [MemberData(nameof(Families))]
    public void GradientMadeOfTheRecordedFactors_IsThatOfTheWeight(string family)
    {
        using var scope = NewDisposeScope();
        using var stage = TinyModel.Load(family);
        var (input, labels) = TinyModel.Text(stage).Of([("Who leads it?", "Ann"), ("Where?", "Rome")]);
        var (_, factors) = TrainingStep.Record(stage, new(input, labels));

        foreach (var name in stage.EditableOrder)
        {
            var W = stage.Weights.Loaded[name].Value.requires_grad_();
            var top = stage.Forward(Activations.None, new ForwardContext(input)).Hidden!;
            var rows = ScoredPositions.Of(labels, stage.Family.ShiftsLabels);
            var nll = Losses.MaskedNll(stage.Head!.Logits(top.reshape(-1, top.shape[2]).index_select(0, rows.Rows)), rows).Nll;
            var expected = Derivatives.Of([nll], [W])[0];
            W.requires_grad_(false);
            var largest = expected.abs().max().item<float>();
            Assert.True((FineTune.Gradient(factors[name]) - expected).abs().max().item<float>() <= 1e-5 * largest, name);
        }
    }

    [Fact]
    public void DenseUpdate_TakesFromTheOutputWhatTheEditedWeightWould()
    {
        using var scope = NewDisposeScope();
        var (x, W, R) = (randn([2, 5, 3]), randn([4, 3]), randn([4, 3]));
        var edited = nn.functional.linear(x, W.Plus(R));
        Assert.True((edited - (nn.functional.linear(x, W) - new DenseUpdate(R).Of(x))).abs().max().item<float>() < 1e-5);
    }

    [Fact]
    public void Adam_StepsAsTheTrainersDoes()
    {
        using var scope = NewDisposeScope();
        using var fineTune = new FineTune(new FineTuneOptions { Opt = FineTuneOptimiser.Adam, EditLr = 0.1, GradClip = 2 }, Weights);
        var oracle = Weights.ToDictionary(weight => weight.Name, weight => zeros(weight.OutFeatures, weight.InFeatures));
        using var adam = new Adam([new([.. oracle.Select(pair => (pair.Key, pair.Value))], 0.1)]);
        for (var step = 0; step < 5; step++)
        {
            var gradients = Gradients(step);
            Tensor[] copies = [.. oracle.Keys.Select(name => gradients[name].clone())];
            Adam.ClipNorm(copies, 2);
            adam.Step(copies);
            fineTune.Step(gradients);
            foreach (var (name, expected) in oracle)
                Assert.True((R(fineTune, name) - expected).abs().max().item<float>() < 1e-6, $"{name}, step {step}");
        }
    }

    [Theory]
    [InlineData(1000.0, 1)]
    [InlineData(0.5, 0.5)]
    public void GradientsAreClipped_AllWeightsTogether(double clip, double norm)
    {
        using var scope = NewDisposeScope();
        using var fineTune = new FineTune(new FineTuneOptions { Opt = FineTuneOptimiser.Sgd, EditLr = 1, GradClip = clip }, Weights);
        var gradients = Gradients(0);
        var all = Math.Sqrt(gradients.Values.Sum(g => Math.Pow(g.norm().item<float>(), 2)));
        foreach (var g in gradients.Values)
            g.Mul_(1 / all);

        fineTune.Step(gradients);

        Assert.Equal(norm, Math.Sqrt(Weights.Sum(weight => Math.Pow(R(fineTune, weight.Name).norm().item<float>(), 2))), 1e-4);
    }

    [Fact]
    public void AGradientThatIsNotFinite_ChangesNothingAndIsNamed()
    {
        using var scope = NewDisposeScope();
        using var fineTune = new FineTune(new FineTuneOptions(), Weights);
        var gradients = Gradients(0);
        gradients["b"].Mul_(double.NaN);
        Assert.Contains("step 0", Refusal.Of(MendError.InvalidOption, () => fineTune.Step(gradients)).What, StringComparison.Ordinal);
        Assert.Equal(0, R(fineTune, "a").abs().max().item<float>());
    }

    [Fact]
    public void SettingsThatMakeNoSense_AreRefused()
    {
        Refusal.Of(MendError.InvalidOption, () => new FineTune(new FineTuneOptions { MaxEditSteps = 0 }, Weights));
        Refusal.Of(MendError.InvalidOption, () => new FineTune(new FineTuneOptions { EditLr = double.NaN }, Weights));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void FineTuning_StopsAtTheFirstPassThatAnswersTheEdit_AndLeavesTheModelAlone(string family)
    {
        using var scope = NewDisposeScope();
        using var stage = TinyModel.Load(family);
        var weights = stage.EditableOrder.ToDictionary(name => name, name => stage.Weights.Loaded[name].Value.clone());

        var (_, steps) = FineTuning.Edit(stage, new FineTuneOptions { EditLr = 1e-3 },
            TinyModel.Text(stage).Of([("Who leads it?", "Ann")]));

        Assert.InRange(steps.Count, 2, 99);
        Assert.Equal(1, steps[^1].EditAccuracy);
        Assert.All(steps.SkipLast(1), step => Assert.NotEqual(1, step.EditAccuracy));
        foreach (var (name, before) in weights)
            Assert.True(before.eq(stage.Weights.Loaded[name].Value).all().item<bool>(), name);
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void LocalityLoss_KeepsTheModelNearerToItself(string family)
    {
        using var scope = NewDisposeScope();
        using var stage = TinyModel.Load(family);
        var text = TinyModel.Text(stage);
        var options = new FineTuneOptions { EditLr = 3e-3, MaxEditSteps = 20 };
        var edit = text.Of([("Who leads it?", "Ann")]);
        var (unrelated, _) = text.Of([("What is this?", "a cat")]);

        var (plain, plainSteps) = FineTuning.Edit(stage, options, edit);
        var (kept, keptSteps) = FineTuning.Edit(stage, options with { MaxEditSteps = plainSteps.Count }, edit, _ => unrelated);

        Assert.All(plainSteps, step => Assert.Null(step.Locality));
        Assert.Equal(0, keptSteps[0].Locality!.Value, 1e-6);
        Assert.True(Kl(kept) < Kl(plain), $"{Kl(kept)} with the KL, {Kl(plain)} without");

        float Kl(WeightUpdates edits)
        {
            using var _ = no_grad();
            var rows = Losses.LocalityRows(unrelated, stage.Family);
            Tensor Logits(WeightUpdates active)
            {
                var top = stage.Forward(Activations.None, new ForwardContext(unrelated, active)).Hidden!;
                return stage.Head!.Logits(top.reshape(-1, top.shape[2]).index_select(0, rows));
            }
            return Losses.LocalityKl(Logits(WeightUpdates.None), Logits(edits)).item<float>();
        }
    }

    private static Dictionary<string, Tensor> Gradients(int seed)
    {
        using var generator = new Generator((ulong)seed + 1);
        return Weights.ToDictionary(weight => weight.Name, weight => randn([weight.OutFeatures, weight.InFeatures], generator: generator));
    }

    private static Tensor R(FineTune fineTune, string name) => ((DenseUpdate)fineTune.Updates[name]).R;
}
