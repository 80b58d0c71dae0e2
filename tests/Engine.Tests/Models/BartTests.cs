using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Models;

public class BartTests
{
    [Theory]
    [InlineData("tie_word_embeddings", "false")]
    [InlineData("tie_encoder_decoder", "true")]
    [InlineData("normalize_before", "true")]
    [InlineData("normalize_embedding", "false")]
    [InlineData("add_final_layer_norm", "true")]
    [InlineData("static_position_embeddings", "true")]
    [InlineData("is_encoder_decoder", "false")]
    [InlineData("activation_function", "\"swish\"")]
    [InlineData("activation_function", "3")]
    [InlineData("scale_embedding", "\"yes\"")]
    [InlineData("encoder_attention_heads", "5")]
    [InlineData("decoder_attention_heads", "5")]
    [InlineData("encoder_layers", "0")]
    [InlineData("d_model", "null")]
    [InlineData("forced_bos_token_id", "-1")]
    public void ASettingThatIsNotBuilt_IsRefusedByItsName(string key, string value)
    {
        var e = Refusal.Of(MendError.ModelUnusable, () => With(key, value));
        Assert.Equal(key, e.What.Split(": ")[1]);
    }

    [Theory]
    [InlineData("scale_embedding", "true")]
    [InlineData("activation_function", "\"relu\"")]
    [InlineData("activation_function", "\"gelu_new\"")]
    public void ASettingThatChangesTheResult_ChangesIt(string key, string value)
    {
        using var scope = NewDisposeScope();
        Assert.True((Logits(TinyModel.Family("bart")) - Logits(With(key, value))).abs().max().item<float>() > 1e-6);
    }

    [Fact]
    public void TokensAreScaled_PositionsAreNot()
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        using var stage = Stage.Load(With("scale_embedding", "true"), new(0, 1), Random(), []);
        var weights = stage.Weights.Loaded;
        var found = stage.Forward(Activations.None,
            new ForwardContext(new(tensor([5L, 9], [1, 2]), ones([1, 2], ScalarType.Int64)))).Hidden!;
        var summed = weights["model.shared.weight"].Value.index_select(0, tensor([5L, 9])).Times(Math.Sqrt(32))
            .Plus(weights["model.encoder.embed_positions.weight"].Value.narrow(0, 2, 2));
        Assert.True((nn.functional.layer_norm(summed, [32]) - found.squeeze(0)).abs().max().item<float>() < 1e-5);
    }

    [Fact]
    public void ACheckpointWithoutLogitsBias_HasNone()
    {
        using var scope = NewDisposeScope();
        using var folder = new TemporaryFolder();
        var expected = Save(folder.Path, TinyModel.Family("bart"), name => name, name => name != "final_logits_bias");
        using var files = HuggingFaceDirectory.Open(folder.Path);
        using var stage = Stage.LoadWhole(TinyModel.Family("bart"), new CheckpointWeights(files, ScalarType.Float32));
        Assert.DoesNotContain("final_logits_bias", stage.Weights.Loaded.Keys);
        Assert.True((expected - Logits(stage)).abs().max().item<float>() > 1e-3);
    }

    /// <summary>Saved without its head, the published base model; inside a training module, the paper's question answering model.</summary>
    [Theory]
    [InlineData("model.", "")]
    [InlineData("", "model.")]
    public void NamesOfPublishedCheckpoints_AreUnderstood(string lacks, string has)
    {
        using var scope = NewDisposeScope();
        using var folder = new TemporaryFolder();
        var expected = Save(folder.Path, TinyModel.Family("bart"),
            name => has + (name.StartsWith(lacks, StringComparison.Ordinal) ? name[lacks.Length..] : name));
        using var files = HuggingFaceDirectory.Open(folder.Path);
        using var stage = Stage.LoadWhole(TinyModel.Family("bart"), new CheckpointWeights(files, ScalarType.Float32));
        Assert.Equal(0, (expected - Logits(stage)).abs().max().item<float>());
    }

    /// <summary>"&lt;/s&gt; y &lt;/s&gt;" to the decoder; the shift in the loss drops the first label (mend-spec 6.2).</summary>
    [Fact]
    public void ATarget_IsGivenToTheDecoderAsInThePaper()
    {
        using var scope = NewDisposeScope();
        using var folder = new TemporaryFolder();
        TinyModels.Write(folder.Path, "bart");
        var tokenizer = TokenizerFiles.Load(folder.Path);
        long[] y = [.. tokenizer.Encode("a woman", addSpecialTokens: false).Select(id => (long)id)];
        var (input, labels) = new TextBatch(ModelFamily.FromDirectory(folder.Path), tokenizer).Of([("who is red", "a woman")]);
        Assert.Equal([2, .. y, 2], input.DecoderInputIds!.data<long>().ToArray());
        Assert.Equal([-100, .. y, 2], labels.data<long>().ToArray());
        Assert.Equal([.. y, 2], ScoredPositions.Of(labels, shifts: true).Targets.data<long>().ToArray());
        Assert.Equal(0, input.InputIds.data<long>().ToArray()[0]); // <s> before the prompt
    }

    [Fact]
    public void AForcedFirstToken_IsGivenInEditsAndInAnswers()
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        var family = With("forced_bos_token_id", "126");
        using var stage = Stage.LoadWhole(family, Random());
        var (input, labels) = TinyModel.Text(stage).Of([("Where?", "ab")]);
        Assert.Equal([127, 126, 'a', 'b', 127], input.DecoderInputIds!.data<long>().ToArray());
        Assert.Equal([-100, -100, 'a', 'b', 127], labels.data<long>().ToArray());
        var first = stage.Forward(Activations.None,
            new ForwardContext(new(tensor([5L, 9], [1, 2]), ones([1, 2], ScalarType.Int64), tensor([127L, 126], [1, 2]))));
        Assert.Equal((int)stage.Logits(first, tensor([1L])).argmax().item<long>(), Generation.Run(stage, [5, 9], new(MaxTokens: 4))[0]);
    }

    [Fact]
    public void AForcedFirstToken_IsFoundInGenerationConfigToo()
    {
        using var folder = new TemporaryFolder();
        folder.Write("config.json", TinyModel.Config("bart"));
        Assert.Equal([127], ModelFamily.FromDirectory(folder.Path).DecoderPrefix);
        folder.Write("generation_config.json", """{"forced_bos_token_id": 126, "eos_token_id": [1, 2]}""");
        Assert.Equal([127, 126], ModelFamily.FromDirectory(folder.Path).DecoderPrefix);
    }

    [Fact]
    public void AnAnswer_EndsWhereTheDecodersPositionsDo()
    {
        using var stage = TinyModel.Load("bart"); // 64 positions, of which the decoder's start takes one
        Assert.Equal(63, Generation.Run(stage, [.. Enumerable.Repeat(7, 60)],
            new(MaxTokens: 100, Temperature: 50, TopK: 100, Seed: 3)).Count);
    }

    private static RandomWeights Random() => new(7, ScalarType.Float32, (_, _) => 0.3);

    private static ModelFamily With(string key, string value)
    {
        var json = System.Text.Json.Nodes.JsonNode.Parse(TinyModel.Config("bart"))!.AsObject();
        json[key] = System.Text.Json.Nodes.JsonNode.Parse(value);
        return ModelFamily.FromConfig(ConfigFile.Parse("bart", json.ToJsonString()));
    }

    private static Tensor Logits(ModelFamily family)
    {
        using var stage = Stage.LoadWhole(family, Random());
        return Logits(stage);
    }

    private static Tensor Logits(Stage stage)
    {
        using var _ = no_grad();
        var input = new ModelInput(tensor([5L, 9, 33], [1, 3]), ones([1, 3], ScalarType.Int64), tensor([127L, 70], [1, 2]));
        return stage.Logits(stage.Forward(Activations.None, new ForwardContext(input)), NewTensor.Arange(0, 2, ScalarType.Int64));
    }

    /// <returns>The logits of what was saved.</returns>
    private static Tensor Save(string folder, ModelFamily family, Func<string, string> rename, Func<string, bool>? keep = null)
    {
        using var stage = Stage.LoadWhole(family, Random());
        SafetensorsWriter.Write(Path.Combine(folder, "model.safetensors"), stage.Weights.Loaded
            .Where(weight => keep?.Invoke(weight.Key) ?? true)
            .Select(weight => TensorBytes.ToWrite(rename(weight.Key), weight.Value.AsStored())));
        return Logits(stage);
    }
}
