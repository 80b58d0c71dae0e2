using System.Runtime.InteropServices;
using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Testing;
using static MendCluster.Testing.ForgedSafetensors;

namespace MendCluster.Engine.Tests.Checkpoints;

public sealed class SafetensorsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void EveryFixture_OpensWithTheTensorsOfItsHeader()
    {
        foreach (var path in Directory.EnumerateFiles(Fixture.Path("models"), "model.safetensors", SearchOption.AllDirectories))
        {
            using var file = SafetensorsFile.Open(path);
            var bytes = File.ReadAllBytes(path);
            var headerLength = (int)BitConverter.ToInt64(bytes);
            using var header = JsonDocument.Parse(bytes.AsMemory(8, headerLength));
            var names = header.RootElement.EnumerateObject().Select(p => p.Name).Where(n => n != "__metadata__").ToHashSet();
            Assert.Equal(names, file.Entries.Keys.ToHashSet());
            Assert.Equal("pt", file.Metadata["format"]);
            foreach (var name in names)
            {
                var begin = 8 + headerLength + header.RootElement.GetProperty(name).GetProperty("data_offsets")[0].GetInt32();
                var tensor = file.Find(name);
                Assert.True(bytes.AsSpan(begin, (int)tensor.ByteLength).SequenceEqual(file.Bytes(name)), name);
                Assert.True(bytes.AsSpan(begin, (int)tensor.ByteLength).SequenceEqual(tensor.ToArray()), name);
            }
        }
    }

    [Fact]
    public void Tensors_AreReadByTypeShapeAndPlace()
    {
        var header = $"{{{Entry("late", "I16", "2,2", "4,12")},\"__metadata__\":{{\"a\":\"b\"}}," +
            $"{Entry("empty", "F32", "0,7", "4,4")},{Entry("scalar", "F32", "", "0,4")}}}";
        using var file = Open(Bytes(header, 12));

        Assert.Equal(["late", "empty", "scalar"], file.Entries.Keys);
        Assert.Equal("b", file.Metadata["a"]);
        var late = file.Find("late");
        Assert.Equal(DType.Int16, late.Type);
        Assert.Equal([2, 2], late.Shape);
        Assert.Equal(new byte[] { 4, 5, 6, 7, 8, 9, 10, 11 }, late.ToArray());
        Assert.Equal(8 + header.Length + 4, file.Entries["late"].Offset);
        Assert.Equal([0, 1, 2, 3], file.Bytes("scalar").ToArray());
        Assert.Empty(file.Find("empty").ToArray());
    }

    [Fact]
    public void DataPointerAndCopy_GiveTheSameBytes()
    {
        using var file = Open(Bytes($"{{{Entry("x", "U8", "5", "0,5")}}}", 5));
        var (pointer, length) = file.Data("x");
        var mapped = new byte[length];
        Marshal.Copy(pointer, mapped, 0, (int)length);

        var copied = Marshal.AllocHGlobal(5);
        try
        {
            file.Find("x").CopyTo(copied, 5);
            var bytes = new byte[5];
            Marshal.Copy(copied, bytes, 0, 5);
            Assert.Equal(new byte[] { 0, 1, 2, 3, 4 }, bytes);
            Assert.Equal(bytes, mapped);
        }
        finally
        {
            Marshal.FreeHGlobal(copied);
        }
    }

    [Fact]
    public void CopyToAPlaceOfAnotherSize_IsRefusedWithBothSizes()
    {
        using var file = Open(Bytes($"{{{Entry("x", "F32", "2", "0,8")}}}", 8));
        var error = Refusal.Of(MendError.ModelUnusable, () => file.Find("x").CopyTo(0, 4));
        Assert.Contains("4 bytes", error.Message, StringComparison.Ordinal);
        Assert.Contains("F32 [2] is 8", error.Message, StringComparison.Ordinal);
        Assert.Equal("x", error.What.Split(": ")[1]);
    }

    [Fact]
    public void MissingTensor_IsRefusedByName()
    {
        using var file = Open(Bytes("{}"));
        Assert.Equal("absent", Refusal.Of(MendError.ModelUnusable, () => file.Find("absent")).What.Split(": ")[1]);
        Refusal.Of(MendError.ModelUnusable, () => file.Bytes("absent").Length);
        Refusal.Of(MendError.ModelUnusable, () => file.Data("absent"));
    }

    [Fact]
    public void AfterDispose_EveryAccessToBytesThrows()
    {
        var file = Open(Bytes($"{{{Entry("x", "U8", "5", "0,5")}}}", 5));
        var tensor = file.Find("x");
        file.Dispose();
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(() => file.Bytes("x").Length);
        Assert.Throws<ObjectDisposedException>(() => file.Data("x"));
        Assert.Throws<ObjectDisposedException>(() => tensor.ToArray());
    }

    [Fact]
    public void FileCutAfterItWasOpened_IsAnErrorAndNotTheEndOfTheProcess()
    {
        var path = _folder.Write("cut", Bytes($"{{{Entry("x", "U8", "100000", "0,100000")}}}", 100000));
        using var file = SafetensorsFile.Open(path);
        using (var stream = new FileStream(path, FileMode.Open, FileAccess.Write, FileShare.ReadWrite))
            stream.SetLength(5000);
        var error = Refusal.Of(MendError.ModelUnusable, () => file.Find("x").ToArray());
        Assert.Contains("the file ends here", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TensorOverTwoGigabytes_IsReachedByPointerOnly()
    {
        const long Length = (3L << 30) + 1;
        using var file = SafetensorsFile.Open(WriteSparse(Length, last: 7));
        var (pointer, length) = file.Data("x");
        Assert.Equal(Length, length);
        Assert.Equal(7, Marshal.ReadByte(pointer + (nint)(length - 1)));
        Assert.Contains("use Data", Refusal.Of(MendError.ModelUnusable, () => file.Bytes("x").Length).What, StringComparison.Ordinal);
        Assert.Contains("CopyTo", Refusal.Of(MendError.ModelUnusable, () => file.Find("x").ToArray()).What, StringComparison.Ordinal);
    }

    [Fact]
    [Trait("Category", "Slow")]
    public void CopyOfMoreThanOneRead_IsWhole()
    {
        const long Length = (1L << 30) + 9;
        using var file = SafetensorsFile.Open(WriteSparse(Length, last: 7));
        var copy = Marshal.AllocHGlobal((nint)Length);
        try
        {
            file.Find("x").CopyTo(copy, Length);
            Assert.Equal(7, Marshal.ReadByte(copy + (1 << 30) + 8));
            Assert.Equal(0, Marshal.ReadByte(copy + (1 << 30)));
        }
        finally
        {
            Marshal.FreeHGlobal(copy);
        }
    }

    [Fact]
    public void FileCutAtEveryKilobyte_IsRefused()
    {
        var whole = File.ReadAllBytes(Fixture.Path("models/gpt2/model.safetensors"));
        foreach (var length in Enumerable.Range(0, whole.Length / 1024 + 1).Select(k => k * 1024).Concat([1, 7, 8, 9, whole.Length - 1]))
            Refused(whole[..length]);
    }

    [Fact]
    public void MissingFileAndDirectory_AreRefusedWithTheirPath()
    {
        var missing = Path.Combine(_folder.Path, "none");
        Assert.StartsWith($"{missing}: ", Refusal.Of(MendError.ModelUnusable, () => SafetensorsFile.Open(missing)).What,
            StringComparison.Ordinal);
        Refusal.Of(MendError.ModelUnusable, () => SafetensorsFile.Open(_folder.Path));
    }

    [Theory]
    [InlineData(1UL << 63, "9223372036854775808")]
    [InlineData(ulong.MaxValue, "18446744073709551615")]
    [InlineData(100_000_001UL, "limit")]
    [InlineData(3UL, "only 2 bytes follow")]
    [InlineData(1UL, "not valid JSON")]
    [InlineData(0UL, "'{'")]
    public void HeaderLength_OutOfTheFile_IsRefused(ulong declared, string expected) => Refused(Bytes("{}", 0, declared), expected);

    [Theory]
    [InlineData("[]", "'{'")]
    [InlineData(" {}", "'{'")]
    [InlineData("{} x", "not valid JSON")]
    [InlineData("{}{}", "not valid JSON")]
    [InlineData("{", "not valid JSON")]
    [InlineData("{\"x\":", "not valid JSON")]
    [InlineData("{\"x\":{},}", "all required")]
    [InlineData("{\"x\":3}", "found Number")]
    [InlineData("{\"x\":[[[[[[[[", "found StartArray")]
    [InlineData("{\"\\ud800\":{}}", "not valid JSON")]
    [InlineData("{\"__metadata__\":{\"a\":1}}", "__metadata__.a")]
    [InlineData("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", "named twice")]
    [InlineData("{\"__metadata__\":{},\"__metadata__\":{}}", "appears twice")]
    [InlineData("{\"__metadata__\":[]}", "found StartArray")]
    [InlineData("{\"x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1],\"more\":1}}", "'more'")]
    [InlineData("{\"x\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]}}", "'dtype'")]
    [InlineData("{\"x\":{\"dtype\":\"U8\",\"shape\":[]}}", "all required")]
    [InlineData("{\"x\":{\"dtype\":3,\"shape\":[],\"data_offsets\":[0,1]}}", "found Number")]
    public void Header_ThatIsNotTheFormatsJson_IsRefused(string header, string expected) => Refused(Bytes(header, 1), expected);

    [Theory]
    [InlineData("f32", "1", "0,4", "dtype 'f32'")]
    [InlineData("F8_E9M9", "4", "0,4", "dtype 'F8_E9M9'")]
    [InlineData("F4", "3", "0,4", "F4 [3]")]
    [InlineData("U64", "1", "0,4", "is 8 bytes")]
    [InlineData("F128", "1", "0,4", "dtype 'F128'")]
    [InlineData("0", "1", "0,4", "dtype '0'")]
    [InlineData("F32", "-1", "0,4", "no integer")]
    [InlineData("F32", "1.0", "0,4", "no integer")]
    [InlineData("F32", "\"1\"", "0,4", "no integer")]
    [InlineData("F32", "[1]", "0,4", "no integer")]
    [InlineData("F32", "9223372036854775808", "0,4", "no integer")]
    [InlineData("F32", "4611686018427387904,2", "0,4", "overflows")]
    [InlineData("F32", "9223372036854775807", "0,4", "overflows")]
    [InlineData("F32", "4294967296,4294967296,0", "0,0", "overflows")]
    [InlineData("F32", "2", "0,4", "is 8 bytes, but data_offsets [0, 4] are 4")]
    [InlineData("F32", "1", "4,0", "begin <= end")]
    [InlineData("F32", "1", "0,4,8", "begin <= end")]
    [InlineData("F32", "1", "0", "begin <= end")]
    [InlineData("F32", "1", "-4,0", "no integer")]
    [InlineData("F32", "1", "4,8", "gaps")]
    [InlineData("F32", "2", "0,8", "the file holds 4 bytes of data")]
    [InlineData("U8", "9223372036854775807", "0,9223372036854775807", "the file holds 4 bytes of data")]
    [InlineData("U8", "3", "0,3", "trailing data")]
    public void Entry_ThatDoesNotFitItsData_IsRefusedByName(string dtype, string shape, string offsets, string expected) =>
        Refused(Bytes($"{{{Entry("x", dtype, shape, offsets)}}}", 4), expected);

    [Theory]
    [InlineData("0,4", "2,6", "inside another tensor")]
    [InlineData("0,4", "0,4", "inside another tensor")]
    [InlineData("0,4", "5,9", "gaps")]
    public void TensorsThatOverlapOrLeaveGaps_AreRefused(string first, string second, string expected) =>
        Refused(Bytes($"{{{Entry("a", "F32", "1", first)},{Entry("b", "F32", "1", second)}}}", 8), expected);

    [Fact]
    public void TensorNamedTwice_IsRefusedByName() =>
        Refused(Bytes($"{{{Entry("same", "F32", "1", "0,4")},{Entry("same", "F32", "1", "4,8")}}}", 8), "same: named twice");

    [Fact]
    public void NameThatIsNotUtf8_IsRefused() =>
        Refused(Bytes([(byte)'{', (byte)'"', 0xff, 0xfe, (byte)'"', (byte)':', (byte)'{', (byte)'}', (byte)'}']), "not valid JSON");

    /// <summary>One U8 tensor of zeros, which take no room on the disk, and its last byte.</summary>
    private string WriteSparse(long length, byte last)
    {
        var path = _folder.Write("sparse", Bytes($"{{{Entry("x", "U8", $"{length}", $"0,{length}")}}}"));
        using var stream = new FileStream(path, FileMode.Open);
        stream.Position = stream.Length + length - 1;
        stream.WriteByte(last);
        return path;
    }

    private SafetensorsFile Open(byte[] bytes) => SafetensorsFile.Open(_folder.Write("file.safetensors", bytes));

    private void Refused(byte[] bytes, string expected = "")
    {
        var error = Refusal.Of(MendError.ModelUnusable, () => Open(bytes).Dispose());
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.StartsWith(_folder.Path, error.Message, StringComparison.Ordinal);
    }
}
