using System.Text.Json.Nodes;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Models;

public class BertTests
{
    private const string PerClass = """["BertForSequenceClassification"]""";

    [Theory]
    [InlineData("is_decoder", "true")]
    [InlineData("add_cross_attention", "true")]
    [InlineData("position_embedding_type", "\"relative_key\"")]
    [InlineData("problem_type", "\"regression\"")]
    [InlineData("hidden_act", "\"silu\"")]
    [InlineData("num_attention_heads", "5")]
    [InlineData("architectures", "\"BertModel\"")]
    [InlineData("id2label", """{"0": "a", "1": "b", "2": "c"}""")]
    [InlineData("id2label", """{"0": "a", "2": "b"}""")]
    [InlineData("id2label", """{"0": "yes", "1": "Yes"}""")]
    [InlineData("id2label", "[]")]
    public void ASettingThatIsNotBuilt_IsRefusedByItsName(string key, string value)
    {
        var e = Refusal.Of(MendError.ModelUnusable, () => With((key, value)));
        Assert.Equal(key, e.What.Split(": ")[1]);
    }

    [Fact]
    public void ARegression_IsRefused() =>
        Assert.StartsWith("bert: id2label: ",
        Refusal.Of(MendError.ModelUnusable, () => With(("architectures", PerClass), ("id2label", """{"0": "score"}"""))).What,
        StringComparison.Ordinal);

    [Theory]
    [InlineData("hidden_act", "\"relu\"")]
    [InlineData("layer_norm_eps", "0.1")]
    public void ASettingThatChangesTheResult_ChangesIt(string key, string value)
    {
        using var scope = NewDisposeScope();
        using var one = Load(TinyModel.Family("bert"));
        using var other = Load(With((key, value)));
        Assert.True((Logits(one) - Logits(other)).abs().max().item<float>() > 1e-6);
    }

    [Fact]
    public void LabelsAreThoseOfTheConfig_AndTargetsNameThemInTheUsualWays()
    {
        Assert.Equal(["false", "true"], TinyModel.Family("bert").Labels);
        var fever = With(("id2label", """{"0": "REFUTES", "1": "SUPPORTS"}"""));
        Assert.Equal([1, 1, 1, 1, 1, 0, 0],
            new[] { "SUPPORTS", " supports ", "true", "1", "LABEL_1", "False", "0" }.Select(text => fever.ClassOf(text)!.Value));
        Assert.Null(fever.ClassOf("maybe"));
        // the paper's data on its own model
        Assert.Equal([0, 1], new[] { "REFUTES", "SUPPORTS" }.Select(text => TinyModel.Family("bert").ClassOf(text)!.Value));
        var three = With(("architectures", PerClass), ("id2label", """{"0": "1", "1": "2", "2": "none"}"""));
        Assert.Equal([0, 1, 2, null], new[] { "1", "2", "NONE", "true" }.Select(three.ClassOf)); // a name goes before a number
        Assert.Equal(["LABEL_0", "LABEL_1", "LABEL_2"], With(("architectures", PerClass), ("num_labels", "3")).Labels);
        Assert.Equal(["false", "true"], With(("architectures", PerClass)).Labels);
    }

    /// <summary>The published losses are of one logit (mend-spec 3.2 and 3.3); its golden values are these.</summary>
    [Fact]
    public void TwoLogits_GiveTheFiguresOfOneAndItsSigmoid()
    {
        using var scope = NewDisposeScope();
        Tensor Pair(float[] s) => stack([zeros(s.Length), tensor(s)], 1);
        var before = Pair([1.5f, -0.5f, 0.2f]);
        var scored = Losses.MaskedNll(before, ScoredPositions.Of(tensor([1L, 1, 0], [3, 1]), shifts: false));
        Assert.Equal(0.657876, scored.Nll.item<float>(), 1e-6);
        Assert.Equal(1.0 / 3, scored.Accuracy, 1e-6);
        Assert.Equal(0.0191190, Losses.LocalityKl(before, Pair([0.75f, -0.25f, 0.1f])).item<float>(), 1e-6);
    }

    [Fact]
    public void AnEditOfTheLastBlock_IsOfTheFirstTokenAlone()
    {
        using var scope = NewDisposeScope();
        using var stage = TinyModel.Load("bert");
        var (_, factors) = TrainingStep.Record(stage, TinyModel.Text(stage).Of([("a cat", "true"), ("two", "false")]));
        Assert.Equal(2, factors["model.encoder.layer.2.intermediate.dense.weight"].u.shape[0]);
        Assert.Equal(8, factors["model.encoder.layer.1.intermediate.dense.weight"].u.shape[0]); // all that is no padding
    }

    [Theory]
    [InlineData("[\"BertModel\"]")]
    [InlineData(PerClass)]
    public void APipelineOfAnyLength_ComputesTheBitsOfTheWholeModel(string architectures)
    {
        using var scope = NewDisposeScope();
        using var folder = new TemporaryFolder();
        var family = With(("architectures", architectures));
        using var whole = Load(family);
        Write(folder.Path, whole, name => name);
        using var files = HuggingFaceDirectory.Open(folder.Path);
        using var _ = no_grad();
        for (var count = 1; count <= family.LayerNames.Count; count++)
        {
            var activations = Activations.None;
            foreach (var range in StageRange.Split(family.LayerNames.Count, count, range => range.Count))
            {
                using var stage = Stage.Load(family, range, new CheckpointWeights(files, ScalarType.Float32), []);
                activations = stage.Forward(activations, new ForwardContext(Input()));
                if (stage.Head is not null)
                    Assert.Equal(0, (Logits(whole) - stage.Logits(activations,
                        NewTensor.Arange(0, 2, ScalarType.Int64))).abs().max().item<float>());
            }
        }
    }

    /// <summary>The paper's fact checker in its training module; a norm's older names; both at once.</summary>
    [Fact]
    public void NamesOfPublishedCheckpoints_AreUnderstood()
    {
        using var scope = NewDisposeScope();
        using var whole = TinyModel.Load("bert");
        string Old(string name) =>
            name.Replace("LayerNorm.weight", "LayerNorm.gamma", StringComparison.Ordinal)
            .Replace("LayerNorm.bias", "LayerNorm.beta", StringComparison.Ordinal);
        foreach (var rename in new Func<string, string>[] { name => "model." + name, Old, name => "model." + Old(name) })
        {
            using var folder = new TemporaryFolder();
            Write(folder.Path, whole, rename);
            using var files = HuggingFaceDirectory.Open(folder.Path);
            using var stage = Stage.LoadWhole(whole.Family, new CheckpointWeights(files, ScalarType.Float32));
            Assert.Equal(0, (Logits(whole) - Logits(stage)).abs().max().item<float>());
        }
    }

    [Fact]
    public void PaddingChangesNoAnswer()
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        using var stage = TinyModel.Load("bert");
        var alone = new ModelInput(tensor([7L, 8], [1, 2]), ones([1, 2], ScalarType.Int64));
        var logits = stage.Logits(stage.Forward(Activations.None, new ForwardContext(alone)), tensor([0L]));
        Assert.True((Logits(stage).narrow(0, 1, 1) - logits).abs().max().item<float>() < 1e-5);
    }

    [Fact]
    public void TheAnswer_IsOneClass()
    {
        using var scope = NewDisposeScope();
        using var stage = TinyModel.Load("bert");
        var logits = Logits(stage);
        Assert.Equal([(int)logits.select(0, 0).argmax().item<long>()], Generation.Run(stage, [5, 9, 33], new(MaxTokens: 12)));
    }

    private static ModelFamily With(params (string Key, string Value)[] settings)
    {
        var json = JsonNode.Parse(TinyModel.Config("bert"))!.AsObject();
        foreach (var (key, value) in settings)
            json[key] = JsonNode.Parse(value);
        return ModelFamily.FromConfig(ConfigFile.Parse("bert", json.ToJsonString()));
    }

    private static Stage Load(ModelFamily family) => Stage.LoadWhole(family, new RandomWeights(7, ScalarType.Float32, (_, _) => 0.3));

    private static void Write(string folder, Stage stage, Func<string, string> rename) => SafetensorsWriter.Write(
        Path.Combine(folder, "model.safetensors"),
        stage.Weights.Loaded.Select(weight => TensorBytes.ToWrite(rename(weight.Key), weight.Value.AsStored())));

    private static ModelInput Input() => new(tensor([5L, 9, 33, 7, 8, 129], [2, 3]), tensor([1L, 1, 1, 1, 1, 0], [2, 3]));

    private static Tensor Logits(Stage stage)
    {
        using var _ = no_grad();
        return stage.Logits(stage.Forward(Activations.None, new ForwardContext(Input())), NewTensor.Arange(0, 2, ScalarType.Int64));
    }
}
