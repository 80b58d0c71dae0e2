using System.Runtime.InteropServices;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tests.Metrics;
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
            var e = Assert.Throws<CheckpointException>(() => Load(family).Dispose());
            Assert.Contains(missing.Name, e.Message, StringComparison.Ordinal);
            Assert.StartsWith(_folder["model.safetensors"], e.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void ExtraTensors_AreLeftAlone(string family)
    {
        var tensors = Tensors(family);
        Write([.. tensors, new("extra", StoredType.F32, [2], Bytes([float.NaN, 1])), new("transformer.h.0.attn.bias", StoredType.U8, [1], new byte[] { 1 })]);
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
            Write([.. tensors.Where(tensor => tensor != changed), new(changed.Name, StoredType.F32, shape, new byte[4 * shape.Aggregate((a, b) => a * b)])]);
            var e = Assert.Throws<ModelException>(() => Load(family).Dispose());
            Assert.Equal((_folder["model.safetensors"], changed.Name), (e.Where, e.What));
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
                Write([.. tensors.Where(tensor => tensor != changed), new(changed.Name, StoredType.F32, changed.Shape, Bytes(values))]);
                var e = Assert.Throws<ModelException>(() => Load(family).Dispose());
                Assert.Equal((_folder["model.safetensors"], changed.Name), (e.Where, e.What));
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
        Write([.. tensors.Where(tensor => tensor != changed), new(changed.Name, StoredType.F32, changed.Shape, Bytes(values))]);
        Load("t5").Dispose();
    }

    [Fact]
    public void AQuantisedWeight_IsRefusedByItsType()
    {
        var tensors = Tensors("gpt2");
        var changed = tensors.First(tensor => tensor.Name == "transformer.h.0.mlp.c_fc.weight");
        Write([.. tensors.Where(tensor => tensor != changed), new(changed.Name, StoredType.I8, changed.Shape, new byte[changed.ByteLength / 4])]);
        var e = Assert.Throws<ModelException>(() => Load("gpt2").Dispose());
        Assert.Equal(changed.Name, e.What);
        Assert.Contains("is I8;", e.Message, StringComparison.Ordinal);
    }

    private static List<TensorToWrite> Tensors(string family)
    {
        using var stage = TinyModel.Load(family);
        return [.. stage.Weights.Loaded.Select(weight => new TensorToWrite(weight.Key, StoredType.F32, weight.Value.AsStored().shape, Bytes(weight.Value.AsStored().data<float>().ToArray())))];
    }

    private void Write(IReadOnlyList<TensorToWrite> tensors) => SafetensorsWriter.Write(_folder["model.safetensors"], tensors);

    private Stage Load(string family)
    {
        using var files = HuggingFaceDirectory.Open(_folder.Path);
        return Stage.LoadWhole(TinyModel.Family(family), new CheckpointWeights(files, ScalarType.Float32));
    }

    private static byte[] Bytes(float[] values) => MemoryMarshal.AsBytes(values.AsSpan()).ToArray();
}
