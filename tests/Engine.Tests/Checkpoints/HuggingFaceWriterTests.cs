using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Checkpoints;

public sealed class HuggingFaceWriterTests : IDisposable
{
    private static readonly Dictionary<string, string> NoTexts = [];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(10, "a b c d")]
    [InlineData(9, "a b c|d")]
    [InlineData(4, "a|b c|d")]
    [InlineData(3, "a|b|c d")]
    [InlineData(1, "a|b|c|d")]
    public void Files_AreFilledInOrder_AndALongTensorHasItsOwn(long most, string expected)
    {
        var files = HuggingFaceWriter.Split([Tensor("a", 4), Tensor("b", 3), Tensor("c", 1), Tensor("d", 2)], most);
        Assert.Equal(expected, string.Join('|', files.Select(file => string.Join(' ', file.Select(tensor => tensor.Name)))));
    }

    [Fact]
    public void AWriterThatFailsMidway_LeavesNeitherDirectoryNorRest()
    {
        var fails = new TensorToWrite("b", DType.UInt8, [1], _ => throw new IOException("disk full"));
        Assert.Throws<IOException>(() => HuggingFaceWriter.Write(_folder["out"], _folder.Path, [[Tensor("a", 4)], [fails]], NoTexts));
        Assert.Empty(Directory.EnumerateFileSystemEntries(_folder.Path));
    }

    [Fact]
    public void TheRestOfAKilledRun_IsReplaced_AndAnEmptyDirectoryIsFilled()
    {
        File.WriteAllText(Path.Combine(Directory.CreateDirectory(_folder["out.partial"]).FullName, "half"), "");
        Directory.CreateDirectory(_folder["out"]);
        Assert.Equal(["model.safetensors"], HuggingFaceWriter.Write(_folder["out"] + "/", _folder.Path, [[Tensor("a", 4)], []], NoTexts));
        Assert.Equal(["model.safetensors"], Directory.EnumerateFileSystemEntries(_folder["out"]).Select(Path.GetFileName));
        Assert.False(Directory.Exists(_folder["out.partial"]));
    }

    private static TensorToWrite Tensor(string name, int bytes) => new(name, DType.UInt8, [bytes], new byte[bytes]);
}
