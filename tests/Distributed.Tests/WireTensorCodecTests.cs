using MendCluster.Contracts;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

public class WireTensorCodecTests
{
    [Fact]
    public void ATensor_ComesBackBitForBit()
    {
        using var scope = NewDisposeScope();
        float[] values = [0f, -0f, float.Epsilon, float.MaxValue, float.NaN, float.NegativeInfinity];
        var wire = WireTensorCodec.Encode(tensor(values, [2, 3]));
        Assert.Equal(DType.Float32, wire.Type);
        Assert.Equal([2, 3], wire.Shape);
        var decoded = WireTensorCodec.Decode(wire);
        Assert.Equal(values.Select(BitConverter.SingleToInt32Bits), decoded.data<float>().ToArray().Select(BitConverter.SingleToInt32Bits));
        Assert.Equal([long.MinValue, 5],
            WireTensorCodec.Decode(WireTensorCodec.Encode(tensor(new[] { long.MinValue, 5 }))).data<long>().ToArray());
    }

    [Fact]
    public void AView_TravelsInItsOwnOrder()
    {
        using var scope = NewDisposeScope();
        var turned = tensor([1f, 2, 3, 4, 5, 6], [2, 3]).t();
        var decoded = WireTensorCodec.Decode(WireTensorCodec.Encode(turned));
        Assert.Equal([3, 2], decoded.shape);
        Assert.Equal([1, 4, 2, 5, 3, 6], decoded.data<float>().ToArray());
    }

    [Theory]
    [InlineData(new long[] { 0, 4 }, 0)]
    [InlineData(new long[] { }, 4)]
    public void ATensorWithoutRowsOrDimensions_Travels(long[] shape, int bytes)
    {
        using var scope = NewDisposeScope();
        var wire = WireTensorCodec.Encode(zeros(shape));
        Assert.Equal(bytes, wire.Bytes.Length);
        Assert.Equal(shape, WireTensorCodec.Decode(wire).shape);
    }

    [Theory]
    [InlineData(DType.Float32, new long[] { 2, 3 }, 23)]
    [InlineData(DType.Float32, new long[] { 2, 3 }, 25)]
    [InlineData(DType.Int64, new long[] { 3 }, 12)]
    [InlineData(DType.Float32, new long[] { -2, -3 }, 24)]
    [InlineData(DType.Float32, new long[] { long.MaxValue, long.MaxValue, long.MaxValue }, 4)]
    [InlineData(DType.Float32, new long[] { 1L << 62, 4 }, 0)] // 2^66 bytes: 0 when it wraps
    [InlineData((DType)77, new long[] { 1 }, 4)]
    public void BytesThatAreNoTensor_AreRefused(DType type, long[] shape, int bytes) =>
        Assert.Equal(MendError.InvalidOption,
        Assert.Throws<MendException>(() => WireTensorCodec.Decode(new(type, shape, new byte[bytes]))).Error);
}
