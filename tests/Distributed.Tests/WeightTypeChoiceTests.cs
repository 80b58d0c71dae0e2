using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

public sealed class WeightTypeChoiceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void BFloat16_IsChosen_WhereTheCheckpointHasItAndItIsFaster()
    {
        Write(ScalarType.BFloat16, ScalarType.BFloat16);
        Assert.Equal(DType.BFloat16, WeightTypeChoice.Of(_folder.Path, isFaster: true).Type);
        Assert.Equal(DType.Float32, WeightTypeChoice.Of(_folder.Path, isFaster: false).Type);
        Assert.All(new[] { true, false }, isFaster => Assert.NotNull(WeightTypeChoice.Of(_folder.Path, isFaster).Reason));
    }

    /// <summary>Rounding a weight is nobody's default.</summary>
    [Theory]
    [InlineData(ScalarType.Float32)]
    [InlineData(ScalarType.Float16)]
    public void AWeightOfAnotherType_IsNeverRounded(ScalarType other)
    {
        Write(ScalarType.BFloat16, other);
        Assert.Equal(new(DType.Float32, null), WeightTypeChoice.Of(_folder.Path, isFaster: true));
    }

    [Fact]
    public void AModelThatCannotBeRead_IsRefusedAsSuch() =>
        Assert.Equal(MendError.ModelUnusable, Assert.Throws<MendException>(() => WeightTypeChoice.Of(_folder.Path)).Error);

    private void Write(ScalarType one, ScalarType another) => SafetensorsWriter.Write(_folder["model.safetensors"],
        [TensorBytes.ToWrite("a", ones([2, 2], one)), TensorBytes.ToWrite("b", ones([2, 2], another)),
        TensorBytes.ToWrite("norm", ones([2]))]);
}
