using System.Runtime.InteropServices;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Models;

/// <summary>A checkpoint whose container is sound and whose tensors are not those of the model.</summary>
public sealed class CheckpointWeightsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public static TheoryData<string> Families => [.. TinyModel.Families, "bert"];

    public void Dispose() => _folder.Dispose();

    [Theory]
    [MemberData(nameof(Families))]
    public void AMissingTensor_IsRefusedByName_WhicheverItIs(string family)
    {
        var tensors = Tensors(family);
        foreach (var missing in tensors.Where(tensor => tensor.Name != "final_logits_bias")) // which some checkpoints lack
        {
            Write([.. tensors.Where(tensor => tensor != missing)]);
            var e = Refusal.Of(MendError.ModelUnusable, () => Load(family).Dispose());
            Assert.Contains(missing.Name, e.Message, StringComparison.Ordinal);
            Assert.StartsWith(_folder["model.safetensors"], e.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void ExtraTensors_AreLeftAlone(string family)
    {
        var tensors = Tensors(family);
        Write([.. tensors, new("extra", DType.Float32, [2], Bytes([float.NaN, 1])),
            new("transformer.h.0.attn.bias", DType.UInt8, [1], new byte[] { 1 }),
            .. Enum.GetValues<DType>().Select(type => new TensorToWrite($"extra.{type}", type, [8], new byte[8 * 8]))
                .Select(tensor => tensor with { Write = stream => stream.Write(new byte[tensor.ByteLength]) })]);
        using var stage = Load(family);
        Assert.Equal(tensors.Select(tensor => tensor.Name).Order(), stage.Weights.Loaded.Keys.Order());
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void AnotherShape_IsRefusedWithBoth(string family)
    {
        var tensors = Tensors(family);
        foreach (var changed in tensors.Where((_, i) => i % 5 == 0))
        {
            long[] shape = [changed.Shape[0] + 1, .. changed.Shape[1..]];
            Write([.. tensors.Where(tensor => tensor != changed),
                new(changed.Name, DType.Float32, shape, new byte[4 * shape.Aggregate((a, b) => a * b)])]);
            var e = Refusal.Of(MendError.ModelUnusable, () => Load(family).Dispose());
            Assert.StartsWith($"{_folder["model.safetensors"]}: {changed.Name}: ", e.What, StringComparison.Ordinal);
            Assert.Contains($"[{string.Join(", ", shape)}]", e.Message, StringComparison.Ordinal);
            Assert.Contains($"[{string.Join(", ", changed.Shape)}]", e.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void AWeightThatIsNoNumber_IsRefusedWithFileTensorAndPlace(float number)
    {
        foreach (var family in TinyModel.Families)
        {
            var tensors = Tensors(family);
            foreach (var changed in tensors.Where((_, i) => i % 5 == 0))
            {
                var values = new float[changed.ByteLength / 4];
                values[^3] = values[^1] = number;
                Write([.. tensors.Where(tensor => tensor != changed), new(changed.Name, DType.Float32, changed.Shape, Bytes(values))]);
                var e = Refusal.Of(MendError.ModelUnusable, () => Load(family).Dispose());
                Assert.StartsWith($"{_folder["model.safetensors"]}: {changed.Name}: ", e.What, StringComparison.Ordinal);
                Assert.Contains($"has 2 of {values.Length} entries that are NaN or infinite", e.Message, StringComparison.Ordinal);
                Assert.Contains($"the first at {values.Length - 3};", e.Message, StringComparison.Ordinal);
            }
        }
    }

    /// <summary>Their sum is infinite, they are not.</summary>
    [Fact]
    public void LargeNumbers_AreNumbers()
    {
        var tensors = Tensors("t5");
        var changed = tensors.First(tensor => tensor.Name == "shared.weight");
        var values = new float[changed.ByteLength / 4];
        Array.Fill(values, float.MaxValue);
        Write([.. tensors.Where(tensor => tensor != changed), new(changed.Name, DType.Float32, changed.Shape, Bytes(values))]);
        Load("t5").Dispose();
    }

    [Fact]
    public void AQuantisedWeight_IsRefusedByItsType()
    {
        var tensors = Tensors("gpt2");
        var changed = tensors.First(tensor => tensor.Name == "transformer.h.0.mlp.c_fc.weight");
        Write([.. tensors.Where(tensor => tensor != changed),
            new(changed.Name, DType.Int8, changed.Shape, new byte[changed.ByteLength / 4])]);
        var e = Refusal.Of(MendError.ModelUnusable, () => Load("gpt2").Dispose());
        Assert.Equal(changed.Name, e.What.Split(": ")[1]);
        Assert.Contains("is I8;", e.Message, StringComparison.Ordinal);
    }

    /// <summary>Which name of a tied weight a checkpoint keeps depends on the program that saved it.</summary>
    [Theory]
    [InlineData("gpt2", "transformer.wte.weight", "lm_head.weight")]
    [InlineData("gpt_neo", "transformer.wte.weight", "lm_head.weight")]
    [InlineData("t5", "shared.weight", "encoder.embed_tokens.weight")] // an untied T5 without its shared table
    [InlineData("t5", "shared.weight", "decoder.embed_tokens.weight")]
    [InlineData("bart", "model.shared.weight", "lm_head.weight")]
    [InlineData("bart", "model.shared.weight", "model.encoder.embed_tokens.weight")]
    [InlineData("bart", "model.shared.weight", "encoder.embed_tokens.weight")]
    [InlineData("bart", "model.shared.weight", "decoder.embed_tokens.weight")]
    public void ATiedWeight_IsReadUnderItsOtherNames(string family, string name, string copy)
    {
        var tensors = Tensors(family);
        var tied = tensors.First(tensor => tensor.Name == name);
        Write([.. tensors.Where(tensor => tensor != tied), tied with { Name = copy }]);
        using (var stage = Load(family))
            Assert.Equal(0, Difference(stage, family));
        using (var files = HuggingFaceDirectory.Open(_folder.Path))
            Assert.All(CheckpointMap.Of(TinyModel.Family(family), files).Where(weight => weight.Name == name),
                weight => Assert.Equal(copy, weight.StoredName));

        Write([.. tensors, tied with { Name = copy }]);
        using (var stage = Load(family))
            Assert.Equal(0, Difference(stage, family));

        var other = new float[tied.ByteLength / 4];
        Write([.. tensors, new(copy, DType.Float32, tied.Shape, Bytes(other))]);
        var e = Refusal.Of(MendError.ModelUnusable, () => Load(family).Dispose());
        Assert.Equal(name, e.What.Split(": ")[1]);
        Assert.Contains(copy, e.Message, StringComparison.Ordinal);
    }

    /// <summary>GPT-J's head is a weight of its own and never the embedding; so is an untied T5's.</summary>
    [Theory]
    [InlineData("gptj", "transformer.wte.weight")]
    [InlineData("t5", "shared.weight")]
    public void AHeadOfItsOwn_IsNotTakenForTheEmbedding(string family, string name)
    {
        Write([.. Tensors(family).Where(tensor => tensor.Name != name)]);
        Assert.Contains(name, Refusal.Of(MendError.ModelUnusable, () => Load(family).Dispose()).What, StringComparison.Ordinal);
    }

    /// <summary>transformers 5 writes tie_word_embeddings true for every T5, and whether the output is scaled beside it.</summary>
    [Fact]
    public void AT5OfTransformers5_HasItsOwnHead_WhereTheCheckpointHasOne()
    {
        var newer = TinyModel.Config("t5")
            .Replace("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true, \"scale_decoder_outputs\": false",
            StringComparison.Ordinal);
        var family = ModelFamily.FromConfig(ConfigFile.Parse("config.json", newer));
        var tensors = Tensors("t5");
        Write(tensors);
        using (var files = HuggingFaceDirectory.Open(_folder.Path))
        using (var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32)))
            Assert.Equal(0, Difference(stage, "t5"));

        Write([.. tensors.Where(tensor => tensor.Name != "lm_head.weight")]);
        using (var files = HuggingFaceDirectory.Open(_folder.Path))
        using (var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32)))
        {
            Assert.DoesNotContain("lm_head.weight", stage.Weights.Loaded.Keys);
            Assert.True(Difference(stage, "t5") > 1e-3);
        }
    }

    [Fact]
    public void AGitLfsPointer_IsSaidToBeOne()
    {
        const string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1234\n";
        _folder.Write("config.json", pointer);
        Assert.Contains("is a git-LFS pointer",
            Refusal.Of(MendError.ModelUnusable, () => ModelFamily.FromDirectory(_folder.Path)).What, StringComparison.Ordinal);
        foreach (var name in new[] { "pytorch_model.bin.index.json", "pytorch_model.bin", "model.safetensors.index.json",
            "model.safetensors" })
        {
            _folder.Write(name, pointer);
            var e = Refusal.Of(MendError.ModelUnusable, () => HuggingFaceDirectory.Open(_folder.Path).Dispose());
            Assert.StartsWith(_folder[name], e.Message, StringComparison.Ordinal);
            Assert.Contains("is a git-LFS pointer", e.Message, StringComparison.Ordinal);
        }
    }

    /// <summary>bert-base as it was pretrained.</summary>
    [Fact]
    public void ABertWithoutAClassifier_IsSaidToBeOne()
    {
        foreach (var missing in new[] { "classifier", "pooler" })
        {
            Write([.. Tensors("bert").Where(tensor => !tensor.Name.Contains(missing, StringComparison.Ordinal))]);
            Assert.Contains("this BERT has no classifier", Refusal.Of(MendError.ModelUnusable, () => Load("bert").Dispose()).What,
                StringComparison.Ordinal);
        }
    }

    /// <summary>Of a loaded model's logits and those of the weights that <see cref="Tensors"/> gives.</summary>
    private static float Difference(Stage stage, string family)
    {
        using var scope = NewDisposeScope();
        using var _ = no_grad();
        using var expected = TinyModel.Load(family);
        Tensor Logits(Stage model) =>
            model.Logits(model.Forward(Activations.None, new ForwardContext(new(tensor([5L, 9, 33], [1, 3]), ones([1, 3], ScalarType.Int64),
            model.Family.IsEncoderDecoder ? tensor([7L, 70], [1, 2]) : null))), NewTensor.Arange(0, 2, ScalarType.Int64));
        return (Logits(stage) - Logits(expected)).abs().max().item<float>();
    }

    private static List<TensorToWrite> Tensors(string family)
    {
        using var stage = TinyModel.Load(family);
        return [.. stage.Weights.Loaded.Select(weight =>
            new TensorToWrite(weight.Key, DType.Float32, weight.Value.AsStored().shape,
            Bytes(weight.Value.AsStored().data<float>().ToArray())))];
    }

    private void Write(IReadOnlyList<TensorToWrite> tensors) => SafetensorsWriter.Write(_folder["model.safetensors"], tensors);

    private Stage Load(string family)
    {
        using var files = HuggingFaceDirectory.Open(_folder.Path);
        return Stage.LoadWhole(TinyModel.Family(family), new CheckpointWeights(files, ScalarType.Float32));
    }

    private static byte[] Bytes(float[] values) => MemoryMarshal.AsBytes(values.AsSpan()).ToArray();
}
