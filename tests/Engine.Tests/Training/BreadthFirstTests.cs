using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Training;

public class BreadthFirstTests
{
    private static readonly BreadthFirstOptions Options = new() { EditLr = 1e-2, BatchSize = 10, MaxEpochs = 200 };

    private static (WeightUpdates Edits, IReadOnlyList<BreadthFirstEpoch> Epochs) Run(Stage stage, BreadthFirstOptions options,
        LabelledInput edits, Func<int, int, ModelInput>? replay = null) =>
        FineTuning.BreadthFirst(stage, options, edits,
        epoch => Prng.At(options.Seed, (ulong)epoch).Shuffle(Enumerable.Range(0, (int)edits.Input.BatchSize)), replay);

    public static TheoryData<string> Families => [.. TinyModel.Families];

    [Theory]
    [InlineData("gpt2")]
    [InlineData("gpt_neo")]
    [InlineData("gptj")]
    public void TwentyFiveEdits_AreLearntInOneWeight_UntilAnEpochIsAnsweredThroughout(string family)
    {
        using var scope = NewDisposeScope();
        using var stage = Load(family);
        var before = stage.Weights.Loaded.ToDictionary(weight => weight.Key, weight => weight.Value.Value.clone());

        var (edits, epochs) = Run(stage, Options, Edits(stage, 25));

        Assert.InRange(epochs.Count, 2, Options.MaxEpochs - 1);
        Assert.Equal(1, epochs[^1].EditAccuracy, 1e-9);
        Assert.All(epochs.SkipLast(1), epoch => Assert.True(epoch.EditAccuracy < 1));
        // the last epoch's steps come after its answers
        Assert.InRange(TrainingStep.Score(stage, Edits(stage, 25), edits).Accuracy, 0.9, 1);
        Assert.Equal([EditableWeights.DownProjection(stage.Family, -1)], edits.Updates.Keys);
        Assert.All(before, weight => Assert.True(weight.Value.eq(stage.Weights.Loaded[weight.Key].Value).all().item<bool>(), weight.Key));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void TheFirstStep_IsThatOfTheGradientOfItsMiniBatch(string family)
    {
        using var scope = NewDisposeScope();
        using var stage = Load(family);
        var edit = Edits(stage, 3);
        var options = Options with { Opt = FineTuneOptimiser.Sgd, EditLr = 0.5, MaxEpochs = 1 };

        var (edits, epochs) = Run(stage, options, edit);

        var (scored, factors) = TrainingStep.Record(stage, edit);
        Assert.Equal(scored.Nll.item<float>(), epochs[0].Edit, 1e-5);
        var expected = FineTune.Gradient(factors[stage.EditableOrder[0]]).Times(-options.EditLr);
        Assert.True((R(edits) - expected).abs().max().item<float>() < 1e-4 * expected.abs().max().item<float>());
    }

    [Fact]
    public void QuestionsThatAreAskedAgain_StayNearerToTheUneditedModel()
    {
        using var scope = NewDisposeScope();
        using var stage = Load("t5");
        var (edits, known) = (Edits(stage, 25), Edits(stage, 30).Slice(25, 5));
        var asked = new List<int>();
        var options = Options with { MaxEpochs = 20 };
        var (plain, kept) = (Run(stage, options, edits).Edits, Run(stage, options with { Replay = 100 }, edits, (step, rows) =>
        {
            asked.Add(rows);
            return known.Input;
        }).Edits);
        Assert.Equal([10, 10, 5], asked.Take(3)); // as many as the mini-batch has edits
        Assert.True(Kl(kept) < 0.5 * Kl(plain), $"{Kl(kept)} and {Kl(plain)}");
        Assert.Contains("no questions", Assert.Throws<MendException>(() => Run(stage, options with { Replay = 1 }, edits)).Message,
            StringComparison.Ordinal);
        Assert.Contains("replay", Assert.Throws<MendException>(() => Run(stage, options with { Replay = -1 }, edits)).Message,
            StringComparison.Ordinal);

        double Kl(WeightUpdates updates)
        {
            using var _ = no_grad();
            var rows = Losses.LocalityRows(known.Input, stage.Family);
            return Losses.LocalityKl(Logits(null), Logits(updates)).item<float>();

            Tensor Logits(WeightUpdates? active) =>
                stage.Logits(stage.Forward(Activations.None, new ForwardContext(known.Input, active)), rows);
        }
    }

    [Fact]
    public void SameSeed_GivesTheSameEdits_AnotherSeedOthers()
    {
        using var scope = NewDisposeScope();
        using var stage = Load("t5");
        Tensor Made(ulong seed) => R(Run(stage, Options with { MaxEpochs = 3, Seed = seed }, Edits(stage, 25)).Edits);
        Assert.True(Made(1).eq(Made(1)).all().item<bool>());
        Assert.False(Made(1).eq(Made(2)).all().item<bool>());
    }

    [Fact]
    public void NoMoreEpochsThanAllowed_AreRun()
    {
        using var scope = NewDisposeScope();
        using var stage = Load("gpt2");
        Assert.Equal(2, Run(stage, Options with { MaxEpochs = 2 }, Edits(stage, 25)).Epochs.Count);
    }

    [Fact]
    public void SettingsThatMakeNoSense_AreRefused()
    {
        Assert.Contains("batch_size 0", Refusal.Of(MendError.InvalidOption, (Options with { BatchSize = 0 }).Validated).What,
            StringComparison.Ordinal);
        Assert.Contains("max_epochs 0", Refusal.Of(MendError.InvalidOption, (Options with { MaxEpochs = 0 }).Validated).What,
            StringComparison.Ordinal);
        Assert.Contains("edit_lr NaN", Refusal.Of(MendError.InvalidOption, (Options with { EditLr = double.NaN }).Validated).What,
            StringComparison.Ordinal);
        Assert.Contains("grad_clip 0", Refusal.Of(MendError.InvalidOption, (Options with { GradClip = 0 }).Validated).What,
            StringComparison.Ordinal);
        using var stage = TinyModel.Load("gpt2");
        Assert.Contains("choose one of transformer.h.0.mlp.c_proj.weight,",
            Refusal.Of(MendError.InvalidOption, () => Run(stage, Options, Edits(stage, 1))).What, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("gpt2", 0, "transformer.h.0.mlp.c_proj.weight")]
    [InlineData("gpt_neo", -1, "transformer.h.2.mlp.c_proj.weight")]
    [InlineData("gptj", 1, "transformer.h.1.mlp.fc_out.weight")]
    [InlineData("t5", 2, "encoder.block.2.layer.1.DenseReluDense.wo.weight")]
    [InlineData("t5", 3, "decoder.block.0.layer.2.DenseReluDense.wo.weight")]
    [InlineData("bart", -2, "model.decoder.layers.1.fc2.weight")]
    [InlineData("bert", -3, "model.encoder.layer.0.output.dense.weight")]
    public void EveryBlock_HasOneDownProjection(string family, int block, string name)
    {
        var model = TinyModel.Family(family);
        Assert.Equal(name, EditableWeights.DownProjection(model, block));
        var blocks = EditableWeights.DownProjections(model).Count;
        Assert.Equal(model.IsEncoderDecoder ? 6 : 3, blocks);
        Assert.Contains($"0 to {blocks - 1}", Refusal.Of(MendError.ModelUnusable, () => EditableWeights.DownProjection(model, blocks)).What,
            StringComparison.Ordinal);
        Refusal.Of(MendError.ModelUnusable, () => EditableWeights.DownProjection(model, -blocks - 1));
    }

    private static Stage Load(string family)
    {
        var model = TinyModel.Family(family);
        return Stage.LoadWhole(model, new RandomWeights(7, ScalarType.Float32, (_, _) => 0.3), [EditableWeights.DownProjection(model, -1)]);
    }

    private static LabelledInput Edits(Stage stage, int count) =>
        TinyModel.Text(stage).Of([.. Enumerable.Range(0, count)
        .Select(i => i % 2 == 0 ? ($"Who leads {(char)('A' + i)}?", "Ann") : ($"{(char)('A' + i)}: where?", "Bo"))]);

    private static Tensor R(WeightUpdates edits) => ((DenseUpdate)edits.Updates.Values.Single()).R;
}
