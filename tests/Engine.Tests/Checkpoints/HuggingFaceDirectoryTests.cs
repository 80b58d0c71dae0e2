using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Checkpoints;

public sealed class HuggingFaceDirectoryTests : IDisposable
{
    private const string Index = "model.safetensors.index.json";

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void SafetensorsAndTorchDirectory_GiveTheSameBytes()
    {
        File.Copy(Fixture.Path("models/gpt2/pytorch_model.bin"), Path.Combine(_folder.Path, "pytorch_model.bin"));
        using var torch = HuggingFaceDirectory.Open(_folder.Path);
        using var safetensors = HuggingFaceDirectory.Open(Fixture.Path("models/gpt2"));
        Assert.EndsWith("model.safetensors", safetensors.Find("transformer.wte.weight").File, StringComparison.Ordinal);
        foreach (var name in safetensors.Names)
        {
            var (expected, found) = (safetensors.Find(name), torch.Find(name));
            Assert.Equal(expected.Type, found.Type);
            Assert.Equal(expected.Shape, found.Shape);
            Assert.Equal(expected.ToArray(), found.ToArray());
        }
    }

    [Fact]
    public void Find_TakesTheFirstCandidateThatTheCheckpointHas()
    {
        WriteShard("model.safetensors", "h.0.w", "model.w");
        using var directory = HuggingFaceDirectory.Open(_folder.Path);
        Assert.Equal("h.0.w", directory.Find("transformer.h.0.w", "h.0.w").Name);
        Assert.Equal("model.w", directory.Find("model.w", "h.0.w").Name);
        Assert.True(directory.Contains("h.0.w"));
        Assert.False(directory.Contains("transformer.h.0.w"));
        Assert.Equal(["h.0.w", "model.w"], directory.Names.Order());
    }

    [Fact]
    public void NoCandidatePresent_IsRefusedWithAllOfThemAndWhatThereIs()
    {
        WriteShard("model.safetensors", "here");
        using var directory = HuggingFaceDirectory.Open(_folder.Path);
        var message = Refusal.Of(MendError.ModelUnusable, () => directory.Find("a.w", "b.w")).What;
        Assert.Contains("model.safetensors: a.w or b.w: no such tensor among 1, such as here", message, StringComparison.Ordinal);
    }

    [Fact]
    public void Shards_AreOpenedOnlyForTheirOwnTensors()
    {
        WriteShard("one.safetensors", "a", "unlisted");
        _folder.Write("two.safetensors", "damaged");
        WriteIndex(("a", "one.safetensors"), ("b", "two.safetensors"), ("c", "three.safetensors"));
        using var directory = HuggingFaceDirectory.Open(_folder.Path);

        Assert.Equal(["a", "b", "c"], directory.Names.Order());
        Assert.Equal([1], directory.Find("a").ToArray());
        Assert.False(directory.Contains("unlisted"));
        Assert.Contains("two.safetensors: ", Refusal.Of(MendError.ModelUnusable, () => directory.Find("b")).What,
            StringComparison.Ordinal);
        Assert.Contains($"{Index}: c: the index places it in three.safetensors, which is not in the directory",
            Refusal.Of(MendError.ModelUnusable, () => directory.Find("c")).What, StringComparison.Ordinal);
    }

    [Fact]
    public void TensorThatItsShardLacks_IsRefusedWithIndexShardAndTensor()
    {
        WriteShard("one.safetensors", "a");
        WriteIndex(("b", "one.safetensors"));
        using var directory = HuggingFaceDirectory.Open(_folder.Path);
        var message = Refusal.Of(MendError.ModelUnusable, () => directory.Find("b")).What;
        Assert.Contains($"{Index}: b: the index places it in one.safetensors", message, StringComparison.Ordinal);
    }

    [Fact]
    public void TorchShards_AreReadByTheirIndex()
    {
        var pickle = new ForgedPickle().Op('}').Text("w").Tensor("0", 2, 0, [2], [1], "ByteStorage").Op('s').Stop();
        _folder.Write("pytorch_model-00001-of-00001.bin", ForgedZip.Archive(pickle, [3, 4]));
        _folder.Write("pytorch_model.bin.index.json",
            """{"metadata":{"total_size":2},"weight_map":{"w":"pytorch_model-00001-of-00001.bin"}}""");
        using var directory = HuggingFaceDirectory.Open(_folder.Path);
        Assert.Equal([3, 4], directory.Find("w").ToArray());
    }

    /// <summary>As PyTorch Lightning saves: the weights beside the settings, which are an object of a class of theirs.</summary>
    [Fact]
    public void TheOnlyCheckpointOfATrainingProgram_IsReadByItsStateDict()
    {
        var pickle = new ForgedPickle().Op('}').Op('(').Text("hyper_parameters").Global("argparse", "Namespace").Op(')').Op(0x81)
            .Text("state_dict").Op('}').Text("model.w").Tensor("0", 2, 0, [2], [1], "ByteStorage").Op('s').Op('u').Stop();
        _folder.Write("QA_model.ckpt", ForgedZip.Archive(pickle, [3, 4]));
        using (var directory = HuggingFaceDirectory.Open(_folder.Path))
            Assert.Equal([3, 4], directory.Find("w").ToArray()); // the program calls its model "model"
        _folder.Write("other.ckpt", "which of the two?");
        Assert.Contains("nor one single .ckpt", Refusal.Of(MendError.ModelUnusable, () => HuggingFaceDirectory.Open(_folder.Path)).What,
            StringComparison.Ordinal);
    }

    [Fact]
    public void SafetensorsComeBeforeTorch_AndOneFileBeforeShards()
    {
        _folder.Write("pytorch_model.bin", "damaged");
        _folder.Write("pytorch_model.bin.index.json", "damaged");
        WriteShard("shard.safetensors", "sharded");
        WriteIndex(("sharded", "shard.safetensors"));
        using (var directory = HuggingFaceDirectory.Open(_folder.Path))
            Assert.Equal(["sharded"], directory.Names);
        WriteShard("model.safetensors", "single");
        using (var directory = HuggingFaceDirectory.Open(_folder.Path))
            Assert.Equal(["single"], directory.Names);
    }

    [Theory]
    [InlineData("../one.safetensors")]
    [InlineData("/etc/one.safetensors")]
    [InlineData("sub/one.safetensors")]
    [InlineData("..\\one.safetensors")]
    [InlineData("..")]
    [InlineData("")]
    [InlineData("one.bin")]
    [InlineData("config.json")]
    public void IndexThatPointsElsewhere_IsRefused(string file)
    {
        WriteIndex(("w", file));
        var error = Refusal.Of(MendError.ModelUnusable, () => HuggingFaceDirectory.Open(_folder.Path));
        Assert.Contains($"{Index}: w: is said to lie in '{file}'", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("{}")]
    [InlineData("{\"weight_map\":[]}")]
    [InlineData("{\"weight_map\":{\"a\":1}}")]
    [InlineData("{\"weight_map\":{\"a\":null}}")]
    [InlineData("{\"weight_map\":{\"a\":\"x.safetensors\",\"a\":\"y.safetensors\"}}")]
    [InlineData("{\"weight_map\":{},\"weight_map\":{}}")]
    [InlineData("{\"weight_map\":{\"\\ud800\":\"x.safetensors\"}}")]
    [InlineData("{\"weight_map\":{\"a\":\"\\ud800.safetensors\"}}")]
    public void IndexThatIsNoIndex_IsRefused(string json)
    {
        _folder.Write(Index, json);
        var error = Refusal.Of(MendError.ModelUnusable, () => HuggingFaceDirectory.Open(_folder.Path));
        Assert.Contains(Index, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DirectoryWithoutWeights_IsRefusedWithWhatWasLookedFor()
    {
        Assert.Contains("found none of model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json",
            Refusal.Of(MendError.ModelUnusable, () => HuggingFaceDirectory.Open(_folder.Path)).What, StringComparison.Ordinal);
        Refusal.Of(MendError.ModelUnusable, () => HuggingFaceDirectory.Open(Path.Combine(_folder.Path, "none")));
    }

    [Theory]
    [InlineData("model-00001-of-00002.safetensors", "index model.safetensors.index.json is missing")]
    [InlineData("pytorch_model-00002-of-00002.bin", "index pytorch_model.bin.index.json is missing")]
    [InlineData("adapter_model.safetensors", "is an adapter")]
    [InlineData("tf_model.h5", "tf_model.h5 is of a form that is not read")]
    [InlineData("model.gguf", "model.gguf is of a form that is not read")]
    public void WhatIsThereInPlaceOfWeights_IsSaid(string file, string said)
    {
        _folder.Write(file, "x");
        Assert.Contains(said, Refusal.Of(MendError.ModelUnusable, () => HuggingFaceDirectory.Open(_folder.Path)).What,
            StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("model.safetensors")]
    [InlineData("pytorch_model.bin")]
    public void AGitLfsPointer_IsSaidToBeOne(string file)
    {
        _folder.Write(file, "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 1234\n");
        var message = Refusal.Of(MendError.ModelUnusable, () => HuggingFaceDirectory.Open(_folder.Path)).What;
        Assert.Contains($"{file}: offset 0: is a git-LFS pointer", message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnIndexWithAByteOrderMark_IsRead()
    {
        WriteShard("one.safetensors", "a");
        _folder.Write(Index, "\uFEFF{\"weight_map\": {\"a\": \"one.safetensors\"}}");
        using var directory = HuggingFaceDirectory.Open(_folder.Path);
        Assert.Equal([1], directory.Find("a").ToArray());
    }

    [Fact]
    public void HostileTorchShard_IsRefusedByName()
    {
        var hostile = new ForgedPickle().Global("posix", "system").Text("echo harm").Op(0x85).Op('R').Stop();
        _folder.Write("pytorch_model.bin", ForgedZip.Archive(hostile));
        var error = Refusal.Of(MendError.ModelUnusable, () => HuggingFaceDirectory.Open(_folder.Path));
        Assert.Contains("'posix.system'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AfterDispose_FindThrows()
    {
        WriteShard("one.safetensors", "a");
        WriteIndex(("a", "one.safetensors"));
        var directory = HuggingFaceDirectory.Open(_folder.Path);
        directory.Dispose();
        Assert.Throws<ObjectDisposedException>(() => directory.Find("a"));
    }

    [Fact]
    public void ManyThreads_ShareOneDirectory()
    {
        WriteShard("one.safetensors", "a");
        WriteShard("two.safetensors", "b");
        WriteIndex(("a", "one.safetensors"), ("b", "two.safetensors"));
        using var directory = HuggingFaceDirectory.Open(_folder.Path);
        Parallel.For(0, 64, i => Assert.Equal([1], directory.Find(i % 2 == 0 ? "a" : "b").ToArray()));
    }

    private void WriteShard(string file, params string[] names) =>
        SafetensorsWriter.Write(Path.Combine(_folder.Path, file),
            names.Select((name, i) => new TensorToWrite(name, DType.UInt8, [1], new[] { (byte)(i + 1) })));

    private void WriteIndex(params (string Name, string File)[] entries) =>
        _folder.Write(Index, System.Text.Json.JsonSerializer.Serialize(new
        {
            weight_map =
        entries.ToDictionary(e => e.Name, e => e.File)
        }));
}
