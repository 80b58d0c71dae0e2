using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Training;

/// <summary>Reads the counters of the whole process, so nothing else may run beside it.</summary>
[CollectionDefinition(nameof(MemoryTests), DisableParallelization = true)]
public sealed class OneAtATime;

/// <summary>
/// No tensor of a weight's size is formed by an edit or a training step, and none is left behind. The model is shaped so that a weight
/// outweighs everything that an edit may hold: few tokens, few words, a small rank.
/// </summary>
[Collection(nameof(MemoryTests))]
public class MemoryTests
{
    private const int Hidden = 512, Inner = 1024, Tokens = 8, Words = 96;

    private static readonly string[] Families = ["gpt2", "t5", "bart", "bert"];

    public static TheoryData<string, ScalarType> Models
    {
        get
        {
            var data = new TheoryData<string, ScalarType>();
            foreach (var family in Families)
            {
                data.Add(family, ScalarType.Float32);
                data.Add(family, ScalarType.BFloat16);
            }
            return data;
        }
    }

    [MeteredTheory]
    [MemberData(nameof(Models))]
    public void AnEdit_FormsNoTensorOfAWeightsSize(string family, ScalarType dtype)
    {
        using var stage = RandomModel(family, dtype);
        using var mend = TrainedOnce(stage);
        using var scope = NewDisposeScope();
        var edit = Batch(stage.Family, 1);
        _ = Edit(stage, mend, edit); // what is made once and kept is not the edit's
        CheckPeak(() => Edit(stage, mend, edit), dtype);
    }

    [MeteredFact]
    public void LoadingAnEditor_HoldsItAndLittleElse()
    {
        using var folder = new TemporaryFolder();
        long bytes;
        using (var mend = new Mend(new() { Rank = 300 }, [new("w", 1000, 1000)], 1))
        {
            bytes = Mend.BytesOf(mend.Options, mend.Weights, ["w"]); // of which its largest tensor is a quarter
            EditorCheckpoint.SaveEditor(folder["editor"], mend);
        }
        Mend? loaded = null;
        Assert.InRange(AllocationMeter.Install().PeakOf(() => loaded = EditorCheckpoint.LoadEditor(folder["editor"])), bytes,
            bytes * 105 / 100);
        loaded!.Dispose();
    }

    [MeteredTheory]
    [MemberData(nameof(Models))]
    public void ATrainingStep_FormsNoTensorOfAWeightsSize(string family, ScalarType dtype)
    {
        using var stage = RandomModel(family, dtype);
        using var mend = TrainedOnce(stage);
        using var optimiser = new EditorOptimiser(mend, 1e-6, 1e-4, 1, 100);
        var batch = new EditBatch(Batch(stage.Family, 2), Batch(stage.Family, 3), Batch(stage.Family, 4));
        CheckPeak(() =>
        {
            using var scope = NewDisposeScope();
            optimiser.Take(TrainingStep.Run(stage, mend, batch, new LossWeights(), optimiser.Parameters).Gradients);
        }, dtype);
    }

    [MeteredFact]
    public void AStepOfManyEdits_FormsNoTensorOfAWeightsSize()
    {
        using var stage = RandomModel("t5", ScalarType.Float32);
        using var malmen = new Malmen(new() { Rank = 4 }, EditorTraining.EditableWeights(stage), 1);
        using var optimiser = new EditorOptimiser(malmen, 1e-6, 1e-4, 1, 100);
        var batch = new EditBatch(Batch(stage.Family, 2, 4), Batch(stage.Family, 3, 4), Batch(stage.Family, 4, 4));
        CheckPeak(() =>
        {
            using var scope = NewDisposeScope();
            optimiser.Take(MalmenStep.Run(stage, malmen, batch, new LossWeights(), trains: true).Gradients);
            MalmenStep.Run(stage, malmen, batch, new LossWeights(), trains: false);
        }, ScalarType.Float32);
    }

    [MeteredFact]
    public void StepsOfManyEdits_LeaveNoTensorAndNoByteBehind()
    {
        using var stage = RandomModel("t5", ScalarType.Float32, small: true); // fewer in-features than rows: the primal
        using var malmen = new Malmen(new() { Rank = 4, ModelBatch = 3 }, EditorTraining.EditableWeights(stage), 1);
        using var optimiser = new EditorOptimiser(malmen, 1e-6, 1e-4, 2, 100);
        var batch = new EditBatch(Batch(stage.Family, 2, 6), Batch(stage.Family, 3, 6), Batch(stage.Family, 4, 6));
        for (var i = 0; i < 4; i++)
            Step();
        var before = Held();
        for (var i = 0; i < 30; i++)
            Step();
        Assert.Equal(before, Held());

        void Step()
        {
            using var scope = NewDisposeScope();
            optimiser.Take(MalmenStep.Run(stage, malmen, batch, new LossWeights(), trains: true).Gradients);
        }
    }

    [MeteredFact]
    public void AThousandEdits_LeaveNoTensorAndNoByteBehind()
    {
        using var stage = RandomModel("t5", ScalarType.Float32, small: true);
        using var mend = TrainedOnce(stage);
        var edit = Batch(stage.Family, 1);
        for (var i = 0; i < 3; i++)
            OneEdit();
        var before = Held();
        for (var i = 0; i < 1000; i++)
            OneEdit();
        Assert.Equal(before, Held());

        void OneEdit()
        {
            using var scope = NewDisposeScope();
            Edit(stage, mend, edit);
        }
    }

    [MeteredFact]
    public void TrainingSteps_LeaveNoTensorAndNoByteBehind()
    {
        using var stage = RandomModel("gpt2", ScalarType.Float32, small: true);
        using var mend = TrainedOnce(stage);
        using var optimiser = new EditorOptimiser(mend, 1e-6, 1e-4, 2, 100);
        var batch = new EditBatch(Batch(stage.Family, 2), Batch(stage.Family, 3), Batch(stage.Family, 4));
        for (var i = 0; i < 4; i++)
            Step();
        var before = Held();
        for (var i = 0; i < 100; i++)
            Step();
        Assert.Equal(before, Held());

        void Step()
        {
            using var scope = NewDisposeScope();
            optimiser.Take(TrainingStep.Run(stage, mend, batch, new LossWeights(), optimiser.Parameters).Gradients);
        }
    }

    [MeteredFact]
    public void AMapOfACheckpoint_LeavesNoTensorBehind()
    {
        foreach (var model in new[] { "gpt2", "bart" })
        {
            using var files = HuggingFaceDirectory.Open(Path.Combine(FixtureFolder.Path, "models", model));
            var family = ModelFamily.FromDirectory(files.Path);
            var before = Held();
            Assert.NotEmpty(CheckpointMap.Of(family, files));
            Assert.Equal(before, Held());
        }
    }

    /// <summary>Tensors and bytes that are alive, without those of other tests that wait for their finalizer.</summary>
    private static (long Tensors, long Bytes) Held()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        return (Tensor.TotalCount, AllocationMeter.Install().Live);
    }

    private static void CheckPeak(Action action, ScalarType dtype)
    {
        var meter = AllocationMeter.Install();
        meter.Reset();
        action();
        var weight = (long)Hidden * Inner * (dtype == ScalarType.BFloat16 ? 2 : 4);
        Assert.True(meter.Largest < weight / 2, $"a tensor of {meter.Largest} bytes was formed; a weight has {weight}");
    }

    /// <summary>An edit as the cluster makes it: gradient factors, editor, and one pass of the edited model.</summary>
    private static Scored Edit(Stage stage, Mend mend, LabelledInput edit)
    {
        var (_, factors) = TrainingStep.Record(stage, edit);
        using var _ = no_grad();
        var top = stage.Forward(Activations.None, new ForwardContext(edit.Input, new WeightUpdates(mend.Propose(factors)))).Hidden!;
        var rows = ScoredPositions.Of(edit.Labels, stage.Family.ShiftsLabels);
        return Losses.MaskedNll(stage.Head!.Logits(top.reshape(-1, top.shape[2]).index_select(0, rows.Rows)), rows);
    }

    private static Mend TrainedOnce(Stage stage)
    {
        using var scope = NewDisposeScope();
        var mend = new Mend(new() { Rank = 4 }, EditorTraining.EditableWeights(stage), 1);
        mend.ProposeForTraining(TrainingStep.Record(stage, Batch(stage.Family, 1)).Factors);
        return mend;
    }

    private static LabelledInput Batch(ModelFamily family, ulong seed, int examples = 1)
    {
        using var generator = new Generator(seed);
        Tensor Ids() => randint(3, Words, [examples, Tokens], generator: generator).DetachFromDisposeScope();
        var (ids, labels) = (Ids(), family.Labels is null ? Ids() : ones([examples, 1], ScalarType.Int64).DetachFromDisposeScope());
        var mask = ones([examples, Tokens], ScalarType.Int64).DetachFromDisposeScope();
        return new(family.IsEncoderDecoder ? new(ids, mask, Ids()) : new(ids, mask), labels);
    }

    private static Stage RandomModel(string family, ScalarType dtype, bool small = false)
    {
        var (hidden, inner) = small ? (32, 64) : (Hidden, Inner);
        var config = family switch
        {
            "gpt2" => $$"""{"model_type": "gpt2", "vocab_size": {{Words}}, "n_positions": 32, "n_embd": {{hidden}}, "n_inner": {{inner}}, "n_layer": 3, "n_head": 4}""",
            "bart" => $$"""{"model_type": "bart", "vocab_size": {{Words}}, "max_position_embeddings": 32, "d_model": {{hidden}}, "encoder_ffn_dim": {{inner}}, "decoder_ffn_dim": {{inner}}, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}""",
            "bert" => $$"""{"model_type": "bert", "vocab_size": {{Words}}, "max_position_embeddings": 32, "hidden_size": {{hidden}}, "intermediate_size": {{inner}}, "num_hidden_layers": 3, "num_attention_heads": 4}""",
            _ => $$"""{"model_type": "t5", "vocab_size": {{Words}}, "d_model": {{hidden}}, "d_ff": {{inner}}, "d_kv": 16, "num_heads": 4, "num_layers": 2, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false}""",
        };
        var made = ModelFamily.FromConfig(ConfigFile.Parse("config.json", config));
        return Stage.LoadWhole(made, new RandomWeights(1, dtype, made.InitialStd));
    }
}
