using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Tests.Training;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Checkpoints;

[Collection(nameof(MemoryTests))]
public sealed class TensorBytesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    /// <summary>40 MB in float32: three pieces, the last one short. The result is half of that.</summary>
    [MeteredFact]
    public void ALargeTensorOfAnotherType_IsConvertedWithoutItsStoredFormInMemory()
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(1);
        var value = randn([10_007, 1000], generator: generator);
        SafetensorsWriter.Write(_folder["one.safetensors"], [TensorBytes.ToWrite("w", value)]);
        using var file = SafetensorsFile.Open(_folder["one.safetensors"]);
        Tensor? loaded = null;
        Assert.InRange(AllocationMeter.Install().PeakOf(() => loaded = TensorBytes.Load(file.Find("w"), ScalarType.BFloat16)), 0,
            20_014_000 + 17_000_000);
        Assert.True(value.to_type(ScalarType.BFloat16).eq(loaded!).all().item<bool>());
        Assert.True(value.eq(TensorBytes.Load(file.Find("w"))).all().item<bool>());
    }

    [Fact]
    public void ALargeTensorOfAFileThatWasCut_IsRefused()
    {
        using var scope = NewDisposeScope();
        SafetensorsWriter.Write(_folder["one.safetensors"], [TensorBytes.ToWrite("w", zeros([10_000, 1000]))]);
        using var file = SafetensorsFile.Open(_folder["one.safetensors"]);
        using (var stream = new FileStream(_folder["one.safetensors"], FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            stream.SetLength(stream.Length - 30_000_000);
        Refusal.Of(MendError.ModelUnusable, () => TensorBytes.Load(file.Find("w")));
        Refusal.Of(MendError.ModelUnusable, () => TensorBytes.Load(file.Find("w"), ScalarType.BFloat16));
    }

    [Fact]
    public void RowsOfATensor_AreThatRange()
    {
        using var scope = NewDisposeScope();
        var value = NewTensor.Arange(0, 60, ScalarType.Float32).reshape(5, 4, 3);
        SafetensorsWriter.Write(_folder["one.safetensors"], [TensorBytes.ToWrite("w", value), TensorBytes.ToWrite("scalar", tensor(1f))]);
        using var file = SafetensorsFile.Open(_folder["one.safetensors"]);
        var stored = file.Find("w");
        Assert.True(value.narrow(0, 1, 3).eq(TensorBytes.Load(stored.Rows(1, 3))).all().item<bool>());
        Assert.True(value.narrow(0, 2, 1).eq(TensorBytes.Load(stored.Rows(1, 3).Rows(1, 1))).all().item<bool>());
        Assert.Equal([0, 4, 3], stored.Rows(5, 0).Shape);
        foreach (var (first, count) in new[] { (-1L, 1L), (0, 6), (5, 1), (1, -1), (1, long.MaxValue) })
            Refusal.Of(MendError.ModelUnusable, () => stored.Rows(first, count));
        Refusal.Of(MendError.ModelUnusable, () => file.Find("scalar").Rows(0, 1));
    }

    [Fact]
    public void RowsOfAPickledTensor_AreThatRange()
    {
        using var scope = NewDisposeScope();
        using var archive = TorchArchive.Open(Fixture.Path("models/gpt2/pytorch_model.bin"));
        var stored = archive.StateDict().Values.First(tensor => tensor.Shape.Length == 2 && tensor.Type == DType.Float32);
        var whole = TensorBytes.Load(stored);
        for (long first = 0; first < stored.Shape[0]; first += 7)
        {
            var count = Math.Min(7, stored.Shape[0] - first);
            Assert.True(whole.narrow(0, first, count).eq(TensorBytes.Load(stored.Rows(first, count))).all().item<bool>());
        }
    }
}
