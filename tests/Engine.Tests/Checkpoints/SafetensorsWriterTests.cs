using System.Text;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Checkpoints;

public sealed class SafetensorsWriterTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private string Target => Path.Combine(_folder.Path, "out.safetensors");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void WrittenFile_ReadsBackEqual()
    {
        using var source = SafetensorsFile.Open(Fixture.Path("models/t5v1_1/model.safetensors"));
        var tensors = source.Entries.Values.Select(e =>
            new TensorToWrite(e.Name, e.Type, e.Shape, stream => stream.Write(source.Bytes(e.Name))));
        SafetensorsWriter.Write(Target, tensors, source.Metadata);

        using var copy = SafetensorsFile.Open(Target);
        Assert.Equal(source.Metadata, copy.Metadata);
        Assert.Equal(source.Entries.Keys.Order(), copy.Entries.Keys.Order());
        foreach (var entry in source.Entries.Values)
        {
            Assert.Equal(entry.Type, copy.Entries[entry.Name].Type);
            Assert.Equal(entry.Shape, copy.Entries[entry.Name].Shape);
            Assert.Equal(source.Bytes(entry.Name), copy.Bytes(entry.Name));
        }
    }

    [Fact]
    public void EveryTypeAndAnyName_ReadsBackEqual()
    {
        var tensors = Enum.GetValues<DType>()
            .Select(type => new TensorToWrite($"é\"\\\u0001😀/{type}", type, [4], new byte[BytesOf(type, 4)])).ToArray();
        SafetensorsWriter.Write(Target, tensors);
        using var file = SafetensorsFile.Open(Target);
        foreach (var tensor in tensors)
            Assert.Equal(tensor.Type, file.Find(tensor.Name).Type);

        static long BytesOf(DType type, long elements) => type.TryByteLength([elements], out var bytes) ? bytes
            : throw new ArgumentException(type.ToString());
    }

    [Fact]
    public void ATensorThatEndsInTheMiddleOfAByte_IsRefused()
    {
        var error = Refusal.Of(MendError.ModelUnusable, () =>
            SafetensorsWriter.Write(Target, [new("half", DType.Float4, [3], new byte[2])]));
        Assert.Contains("no whole number of bytes", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Bytes_AreTheSameForTheSameContentInAnyOrder_AndEveryTensorIsAligned()
    {
        TensorToWrite[] tensors =
        [
            new("b", DType.Float32, [1], new byte[] { 1, 2, 3, 4 }),
            new("c", DType.UInt8, [3], new byte[] { 7, 8, 9 }),
            new("a", DType.Float64, [], new byte[8]),
        ];
        var metadata = new Dictionary<string, string> { ["y"] = "2", ["x"] = "1" };
        SafetensorsWriter.Write(Target, tensors, metadata);
        var first = File.ReadAllBytes(Target);
        SafetensorsWriter.Write(Target, tensors.Reverse(), metadata.Reverse().ToDictionary());

        Assert.Equal(first, File.ReadAllBytes(Target));
        using var file = SafetensorsFile.Open(Target);
        Assert.All(file.Entries.Values, entry => Assert.Equal(0, entry.Offset % entry.Type.ElementSize()));
        const string Header = """{"__metadata__":{"x":"1","y":"2"},"a":{"dtype":"F64","shape":[],"data_offsets":[0,8]}""" +
            ""","b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"c":{"dtype":"U8","shape":[3],"data_offsets":[12,15]}}""";
        Assert.Equal(Header, Encoding.UTF8.GetString(first, 8, (int)BitConverter.ToInt64(first)).TrimEnd());
        Assert.Equal(0, BitConverter.ToInt64(first) % 8);
        Assert.Equal(new byte[] { 1, 2, 3, 4, 7, 8, 9 }, first[^7..]);
    }

    [Fact]
    public void NoTensors_IsAnEmptyFile()
    {
        SafetensorsWriter.Write(Target, []);
        using var file = SafetensorsFile.Open(Target);
        Assert.Empty(file.Entries);
    }

    [Fact]
    public void FailureWhileWriting_LeavesTheOldFileAndNothingElse()
    {
        SafetensorsWriter.Write(Target, [new("old", DType.UInt8, [1], new byte[] { 5 })]);
        var before = File.ReadAllBytes(Target);

        Assert.Throws<TimeZoneNotFoundException>(() => SafetensorsWriter.Write(Target,
            [new("a", DType.UInt8, [1], new byte[1]), new("b", DType.UInt8, [1], _ => throw new TimeZoneNotFoundException())]));

        Assert.Equal(before, File.ReadAllBytes(Target));
        Assert.Equal([Target], Directory.GetFiles(_folder.Path));
    }

    [Theory]
    [InlineData(7)]
    [InlineData(9)]
    public void OtherThanTheDeclaredNumberOfBytes_IsRefused(int written)
    {
        var error = Refusal.Of(MendError.ModelUnusable, () =>
            SafetensorsWriter.Write(Target, [new("x", DType.Float32, [2], new byte[written])]));
        Assert.Contains($"{written} bytes were written, but F32 [2] is 8", error.Message, StringComparison.Ordinal);
        Assert.Empty(Directory.GetFiles(_folder.Path));
    }

    [Fact]
    public void NamesTwiceReservedNamesAndImpossibleShapes_AreRefused()
    {
        TensorToWrite Empty(string name, params long[] shape) => new(name, DType.UInt8, shape, _ => { });
        Refusal.Of(MendError.ModelUnusable, () => SafetensorsWriter.Write(Target, [Empty("x", 0), Empty("x", 0)]));
        Refusal.Of(MendError.ModelUnusable, () => SafetensorsWriter.Write(Target, [Empty("__metadata__", 0)]));
        Refusal.Of(MendError.ModelUnusable, () => SafetensorsWriter.Write(Target, [Empty("x", -1)]));
        Refusal.Of(MendError.ModelUnusable, () => SafetensorsWriter.Write(Target, [Empty("x", long.MaxValue), Empty("y", 1)]));
        Assert.Empty(Directory.GetFiles(_folder.Path));
    }
}
