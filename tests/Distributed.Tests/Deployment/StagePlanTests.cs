using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests.Deployment;

[Collection(nameof(MemoryTests))]
public sealed class StagePlanTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Families => [.. TinyModel.Families];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void ACut_MakesTheCostliestStageAsCheapAsCanBe()
    {
        var random = new Random(3);
        for (var trial = 0; trial < 50; trial++)
        {
            var costs = Enumerable.Range(0, 8).Select(_ => (double)random.Next(1, 20)).ToArray();
            double Cost(StageRange range) => costs[range.First..range.End].Sum();
            for (var stages = 1; stages <= 8; stages++)
            {
                var ranges = StageRange.Split(8, stages, Cost);
                Assert.Equal(stages, ranges.Count);
                Assert.Equal(0, ranges[0].First);
                Assert.Equal(8, ranges[^1].End);
                Assert.All(ranges.Zip(ranges.Skip(1)), pair => Assert.Equal(pair.First.End, pair.Second.First));
                Assert.Equal(Cuts(0, stages).Min(cut => cut.Max(Cost)), ranges.Max(Cost));
            }
        }

        static IEnumerable<IEnumerable<StageRange>> Cuts(int first, int stages) => stages == 1
            ? [[new(first, 8)]]
            : Enumerable.Range(first + 1, 8 - first - stages + 1)
                .SelectMany(end => Cuts(end, stages - 1).Select(rest => rest.Prepend(new(first, end))));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void PlannedWeights_AreWhatAStageLoads(string family)
    {
        var model = TinyModel.Family(family);
        foreach (var (dtype, bytes) in new[] { (ScalarType.Float32, 4), (ScalarType.BFloat16, 2) })
            for (var stages = 1; stages <= model.LayerNames.Count; stages++)
                foreach (var planned in StagePlan.Of(model, new() { Stages = stages, BytesPerWeight = bytes }).Stages)
                {
                    using var stage = Stage.Load(model, planned.Range, new RandomWeights(1, dtype, (_, _) => 0.1),
                        model.DefaultEditableWeights);
                    Assert.Equal(stage.Weights.Loaded.Values.Sum(weight => weight.Value.bytes.Length), planned.WeightBytes);
                    Assert.Equal(stage.EditableOrder, planned.Editable);
                }
    }

    [Fact]
    public void PlannedEditors_AreWhatAStageHolds()
    {
        List<EditableWeight> weights = [new("a", 8, 20), new("b", 20, 8), new("c", 8, 20)];
        foreach (var sides in Enum.GetValues<EditorSides>())
            foreach (var shared in new[] { true, false })
                foreach (var rank in new[] { 3, 100 })
                {
                    using var scope = NewDisposeScope();
                    var options = new MendOptions { Sides = sides, Shared = shared, Rank = rank };
                    using var mend = new Mend(options, weights, 1);
                    var state = mend.State.ToDictionary(entry => entry.Name, entry => entry.Value);
                    using var part = new Mend(options, weights, name => state[name], ["b"]);
                    long Held(Mend held) => held.State.Where(entry => entry.Name != "edit_lrs"
                        && !entry.Name.EndsWith(".k", StringComparison.Ordinal)).Sum(entry => (long)entry.Value.bytes.Length);
                    Assert.Equal(Held(mend), Mend.BytesOf(options, weights, ["a", "b", "c"]));
                    Assert.Equal(Held(part), Mend.BytesOf(options, weights, ["b"]));
                    Assert.Equal(0, Mend.BytesOf(options, weights, []));
                }
    }

    /// <summary>An edit and a trial of a model whose activations outweigh everything else that is made.</summary>
    [MeteredTheory]
    [InlineData("""{"model_type": "gpt2", "vocab_size": 500, "n_positions": 1024, "n_embd": 64, "n_layer": 4, "n_head": 2}""")]
    [InlineData("""{"model_type": "gpt_neo", "vocab_size": 500, "hidden_size": 64, "num_layers": 4, "num_heads": 2, "attention_types": [[["global", "local"], 2]]}""")]
    [InlineData("""{"model_type": "gptj", "vocab_size": 500, "n_embd": 64, "n_layer": 4, "n_head": 2, "rotary_dim": 16}""")]
    [InlineData("""{"model_type": "t5", "vocab_size": 500, "d_model": 64, "d_kv": 32, "d_ff": 200, "num_layers": 4, "num_heads": 2, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false}""")]
    [InlineData("""{"model_type": "bart", "vocab_size": 500, "d_model": 64, "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "max_position_embeddings": 64}""")]
    public void PlannedActivations_BoundWhatIsMeasured(string config)
    {
        using var scope = NewDisposeScope();
        var model = ModelFamily.FromConfig(ConfigFile.Parse("config.json", config));
        var options = new StagePlanOptions();
        var planned = StagePlan.Of(model, options).Stages[0].ActivationBytes;
        using var stage = Stage.LoadWhole(model, new RandomWeights(1, ScalarType.Float32, model.InitialStd));
        var measured = AllocationMeter.Install().PeakOf(() =>
        {
            using (NewDisposeScope())
                TrainingStep.Record(stage, Rows(model, 1, options.Tokens, options.LabelledTokens));
            using var trip = NewDisposeScope();
            using var _ = no_grad();
            var trial = Rows(model, options.Probes + 1, options.Tokens, options.Tokens);
            var first = stage.Logits(stage.Forward(Activations.None, new ForwardContext(trial.Input)),
                Losses.LocalityRows(trial.Input, model));
            Losses.LocalityKl(first,
                stage.Logits(stage.Forward(Activations.None, new ForwardContext(trial.Input)), Losses.LocalityRows(trial.Input, model)));
        });
        Assert.True(measured <= planned && planned <= 4 * measured, $"planned {planned}, measured {measured}");
    }

    [Fact]
    public void AStageThatNeedsMoreThanItHas_IsSaid()
    {
        var plan = StagePlan.Of(TinyModel.Family("gptj"), new() { Stages = 3 });
        var (least, most) = (plan.Stages.Min(stage => stage.Bytes), plan.Stages.Max(stage => stage.Bytes));
        Assert.Empty(StagePlan.Of(TinyModel.Family("gptj"), new() { Stages = 3, Memory = most }).TooLarge);
        var tight = StagePlan.Of(TinyModel.Family("gptj"), new() { Stages = 3, Memory = most - 1 });
        Assert.Equal(tight.Stages.Where(stage => stage.Bytes == most), tight.TooLarge);
        Assert.Equal(3, StagePlan.Of(TinyModel.Family("gptj"), new() { Stages = 3, Memory = least - 1 }).TooLarge.Count());
        Assert.Empty(plan.TooLarge);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(6)]
    public void ANumberOfStagesThatTheModelDoesNotHave_IsRefused(int stages) =>
        Assert.Equal("5", Refusal.Of(MendError.ModelUnusable, () =>
        StagePlan.Of(TinyModel.Family("gptj"), new() { Stages = stages })).What[^1..]);

    [MeteredFact]
    public void APlanOfADirectory_ReadsHeadersAlone()
    {
        TinyModels.Write(_folder.Path, "gptj", width: 240);
        StagePlan? read = null;
        var peak = AllocationMeter.Install()
            .PeakOf(() => read = StagePlan.Read(_folder.Path, _folder["editor.safetensors"], new() { Stages = 2 }));
        Assert.InRange(peak, 0, 4096); // a number for each weight, where the weights are megabytes
        var plan = read!;
        using var editor = EditorCheckpoint.Open(_folder["editor.safetensors"]);
        Assert.Equal(editor.Weights.Select(weight => weight.Name), plan.Stages.SelectMany(stage => stage.Editable));
        Assert.Equal(Mend.BytesOf(editor.Options, editor.Weights, [.. editor.Weights.Select(weight => weight.Name)]),
            plan.Stages[^1].EditorBytes);
    }

    [Fact]
    public void ACheckpointThatLacksAWeightOrHasAnotherShape_IsRefusedByTheWeightsName()
    {
        TinyModels.Write(_folder.Path, "gptj");
        var config = File.ReadAllText(_folder["config.json"]);
        File.WriteAllText(_folder["config.json"], config.Replace("\"n_layer\": 4", "\"n_layer\": 5", StringComparison.Ordinal));
        Assert.Contains("transformer.h.4.", Refusal.Of(MendError.ModelUnusable, () => StagePlan.Read(_folder.Path, null, new())).What,
            StringComparison.Ordinal);
        File.WriteAllText(_folder["config.json"], config.Replace("\"n_head\"", "\"n_inner\": 7, \"n_head\"", StringComparison.Ordinal));
        Assert.Contains("mlp.fc_in.weight", Refusal.Of(MendError.ModelUnusable, () => StagePlan.Read(_folder.Path, null, new())).What,
            StringComparison.Ordinal);
    }

    private static LabelledInput Rows(ModelFamily family, int rows, int tokens, int labels)
    {
        var (ids, mask) = (ones([rows, tokens], ScalarType.Int64), ones([rows, tokens], ScalarType.Int64));
        return family.IsEncoderDecoder
            ? new(new(ids, mask, ids, mask), ids)
            : new(new(ids, mask), cat([NewTensor.Full([rows, tokens - labels], ScoredPositions.Ignored, ScalarType.Int64),
                ones([rows, labels], ScalarType.Int64)], 1));
    }
}
