using System.Runtime.InteropServices;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Testing;
using static MendCluster.Testing.ForgedZip;

namespace MendCluster.Engine.Tests.Checkpoints;

public sealed class TorchArchiveTests : IDisposable
{
    private static readonly byte[] OneTensor = new ForgedPickle().Op('}').Text("w").Tensor("0", 6, 0, [2, 3], [3, 1]).Op('s').Stop();

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Gpt2Fixture_HasTheBytesOfItsSafetensorsTwin()
    {
        using var torch = TorchArchive.Open(Fixture.Path("models/gpt2/pytorch_model.bin"));
        using var twin = SafetensorsFile.Open(Fixture.Path("models/gpt2/model.safetensors"));
        var state = torch.StateDict();
        foreach (var (name, entry) in twin.Entries)
        {
            Assert.Equal(entry.Type, state[name].Type);
            Assert.Equal(entry.Shape, state[name].Shape);
            Assert.True(twin.Bytes(name).SequenceEqual(state[name].ToArray()), name);
        }
        Assert.Equal(state["transformer.wte.weight"].StorageKey, state["lm_head.weight"].StorageKey);
        Assert.Equal(state["transformer.wte.weight"].ToArray(), state["lm_head.weight"].ToArray());
        Assert.Equal(DType.UInt8, state["transformer.h.0.attn.bias"].Type);
    }

    [Fact]
    public void ReferenceCheckpoint_ParsesWithItsConfigurationAsInertObject()
    {
        using var file = TorchArchive.Open(Fixture.Path("mend/gpt2/default.checkpoint.pt"), allowInertObjects: true);
        var root = Assert.IsType<OrderedDictionary<object, object?>>(file.Root);
        var model = Assert.IsType<OrderedDictionary<object, object?>>(root["model"]);
        var config = Assert.IsType<PickledObject>(model["model_config"]);
        Assert.Equal("transformers.models.gpt2.configuration_gpt2.GPT2Config", config.ToString());
        Assert.Equal(127L, Assert.IsType<OrderedDictionary<object, object?>>(config.State)["vocab_size"]);
        Assert.Equal(1.25, Assert.IsType<OrderedDictionary<object, object?>>(root["val_stats"])["loss/total_edit_val"]);

        using var expected = SafetensorsFile.Open(Fixture.Path("mend/gpt2/default.safetensors"));
        var compared = 0;
        foreach (var (key, value) in model)
        {
            if (value is not PickledTensor tensor || !expected.Entries.ContainsKey($"train/after_adam/{key}"))
                continue;
            Assert.True(expected.Bytes($"train/after_adam/{key}").SequenceEqual(tensor.ToArray()), (string)key);
            compared++;
        }
        Assert.True(compared > 10, $"{compared} tensors were compared");
    }

    [Fact]
    public void ReferenceCheckpoint_IsRefusedByTheClassItNames_UnlessInertObjectsAreAllowed()
    {
        var error = Refusal.Of(MendError.ModelUnusable, () => TorchArchive.Open(Fixture.Path("mend/gpt2/default.checkpoint.pt")));
        Assert.Contains("'transformers.models.gpt2.configuration_gpt2.GPT2Config'", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Zip_AndZip64_AreRead(bool zip64)
    {
        using var file = Open(Bytes(TorchMembers(OneTensor, Numbers(6)), zip64));
        Assert.Equal(Numbers(6), file.StateDict()["w"].ToArray());
    }

    [Theory]
    [InlineData(new long[] { 2, 3 }, new long[] { 3, 1 }, 0, new[] { 0, 1, 2, 3, 4, 5 })]
    [InlineData(new long[] { 3, 2 }, new long[] { 1, 3 }, 0, new[] { 0, 3, 1, 4, 2, 5 })]
    [InlineData(new long[] { 2, 2 }, new long[] { 3, 1 }, 1, new[] { 1, 2, 4, 5 })]
    [InlineData(new long[] { 3 }, new long[] { 2 }, 1, new[] { 1, 3, 5 })]
    [InlineData(new long[] { 2, 2 }, new long[] { 0, 1 }, 4, new[] { 4, 5, 4, 5 })]
    [InlineData(new long[] { 1, 6, 1 }, new long[] { 99, 1, 77 }, 0, new[] { 0, 1, 2, 3, 4, 5 })]
    [InlineData(new long[] { 2, 1, 3 }, new long[] { 3, 50, 1 }, 0, new[] { 0, 1, 2, 3, 4, 5 })]
    [InlineData(new long[] { }, new long[] { }, 3, new[] { 3 })]
    [InlineData(new long[] { 0, 3 }, new long[] { 3, 1 }, 6, new int[] { })]
    public void View_IsCopiedInItsContiguousForm(long[] shape, long[] stride, long offset, int[] expected)
    {
        using var file = Open(Archive(new ForgedPickle().Tensor("0", 6, offset, shape, stride).Stop(), Numbers(6)));
        var tensor = Assert.IsType<PickledTensor>(file.Root);
        Assert.Equal(expected, MemoryMarshal.Cast<byte, int>(tensor.ToArray()).ToArray());
        Assert.Equal(stride, tensor.Stride);
        Assert.Equal(offset, tensor.StorageOffset);
    }

    [Fact]
    public void ViewsWithLongRuns_AreCopiedToo()
    {
        using var file = Open(Archive(new ForgedPickle().Tensor("0", 10000, 100, [3, 2000], [3000, 1]).Stop(), Numbers(10000)));
        var expected = Enumerable.Range(0, 3).SelectMany(row => Enumerable.Range(100 + row * 3000, 2000));
        Assert.Equal(expected, MemoryMarshal.Cast<byte, int>(((PickledTensor)file.Root!).ToArray()).ToArray());
    }

    [Theory]
    [InlineData(new long[] { 7 }, new long[] { 1 }, 0, "reaches element 6, but the storage has 6")]
    [InlineData(new long[] { 6 }, new long[] { 1 }, 1, "reaches element 6")]
    [InlineData(new long[] { 2 }, new[] { long.MaxValue }, 5, "reaches element")]
    [InlineData(new long[] { 3, 3 }, new[] { long.MaxValue, long.MaxValue }, 5, "reaches element")]
    [InlineData(new long[] { 1 }, new long[] { 1 }, long.MaxValue, "reaches element")]
    [InlineData(new long[] { 1L << 40 }, new long[] { 0 }, 0, "more than the 6 of its storage")]
    [InlineData(new long[] { 1L << 40, 1L << 40 }, new long[] { 0, 0 }, 0, "is no tensor")]
    [InlineData(new long[] { 2 }, new long[] { 1 }, -1, "is no tensor")]
    [InlineData(new long[] { 2 }, new long[] { -1 }, 3, "is no tensor")]
    [InlineData(new long[] { -2 }, new long[] { 1 }, 0, "is no tensor")]
    [InlineData(new long[] { 2, 2 }, new long[] { 1 }, 0, "is no tensor")]
    public void View_OutsideItsStorage_IsRefused(long[] shape, long[] stride, long offset, string expected) =>
        Refused(Archive(new ForgedPickle().Tensor("0", 6, offset, shape, stride).Stop(), Numbers(6)), expected);

    [Fact]
    public void Storage_MissingOrOfAnotherSize_IsRefusedByItsRecord()
    {
        Refused(Archive(OneTensor), "archive/data/0: the pickle names this storage");
        Refused(Archive(OneTensor, Numbers(5)), "archive/data/0: 6 F32 expected, the record has 20 bytes");
        Refused(Archive(new ForgedPickle().Tensor("0", long.MaxValue, 0, [1], [1]).Stop(), Numbers(6)), "9223372036854775807 F32 expected");
        Refused(Archive(new ForgedPickle().Tensor("0", -1, 0, [1], [1]).Stop(), Numbers(6)), "expected a storage");
        Refused(Archive(new ForgedPickle().Tensor("../0", 6, 0, [1], [1]).Stop(), Numbers(6)), "archive/data/../0");
        var twoTypes = new ForgedPickle().Op('(').Tensor("0", 6, 0, [1], [1]).Tensor("0", 6, 0, [1], [1], "IntStorage").Op('t').Stop();
        Refused(Archive(twoTypes, Numbers(6)), "is also asked for as 6 I32");
    }

    [Fact]
    public void FileCutAtEveryKilobyte_IsRefused()
    {
        foreach (var name in (string[])["models/gpt2/pytorch_model.bin", "mend/gpt2/default.checkpoint.pt"])
        {
            var whole = File.ReadAllBytes(Fixture.Path(name));
            foreach (var length in Enumerable.Range(0, whole.Length / 1024 + 1).Select(k => k * 1024).Append(whole.Length - 1))
                Refused(whole[..length]);
        }
    }

    [Fact]
    public void RecordsThatTorchDoesNotWrite_AreRefusedByName()
    {
        ForgedMember[] Members(Func<ForgedMember, ForgedMember> change) =>
            [new("a/data.pkl", OneTensor), change(new("a/data/0", Numbers(6)))];

        Refused(Bytes(Members(m => m with { Method = 8 })), "a/data/0: compression method 8");
        Refused(Bytes(Members(m => m with { Flags = 1 })), "a/data/0: the record is encrypted");
        Refused(Bytes(Members(m => m with { ClaimedLength = 1 << 20 })), "reach past the records");
        Refused(Bytes(Members(m => m with { ClaimedLength = long.MaxValue }), zip64: true), "reach past the records");
        Refused(Bytes(Members(m => m with { ClaimedLength = -1 }), zip64: true), "no number negative");
        Refused(Bytes(Members(m => m with { ClaimedOffset = 3 })), "where no record is");
        Refused(Bytes(Members(m => m with { ClaimedOffset = long.MaxValue }), zip64: true), "where no record is");
        Refused(Bytes(Members(m => m with { ClaimedOffset = long.MinValue }), zip64: true), "no number negative");
        Refused(Bytes(Members(m => m with { LocalName = "a/data/1" })), "has another name");
        Refused(Bytes(Members(m => m).Append(new("a/data/0", Numbers(6)))), "two records of this name");
        Refused(Bytes(Members(m => m), claimedCount: 3), "cannot lie");
        Refused(Bytes(Members(m => m), zip64: true, claimedCount: long.MaxValue), "cannot lie");
        Refused(Bytes(Members(m => m).Append(new("b/data.pkl", OneTensor))), "2 records named */data.pkl");
        Refused(Bytes([new("a/other", [])]), "0 records named */data.pkl");
        Refused(Bytes(Members(m => m).Append(new("a/byteorder", "big"u8.ToArray()))), "little-endian");
    }

    [Fact]
    public void RecordsThatOverlap_AreRefused()
    {
        // The second record begins within the first one's bytes, where a whole member with its own header lies.
        var inner = Bytes([new("a/data/1", Numbers(1))]);
        var outer = new ForgedMember("a/data/0", inner);
        var dataStart = 30 + "a/data.pkl".Length + OneTensor.Length + 30 + "a/data/0".Length;
        Refused(Bytes([new("a/data.pkl", OneTensor), outer, new("a/data/1", Numbers(1)) { ClaimedOffset = dataStart }]),
            "inside 'a/data/0'");
    }

    [Fact]
    public void FileFromBeforeTorch16_IsReadToo()
    {
        var state = new ForgedPickle().Op('}').Op('(').Text("w").LegacyTensor("94", 6, [2, 3], [3, 1]).Text("tied")
            .LegacyTensor("94", 6, [6], [1])
            .Text("b").LegacyTensor("17", 2, [2], [1]).Op('u').Stop();
        var whole = ForgedLegacy.Bytes(state, ("17", Numbers(2)), ("94", Numbers(6)));
        using (var file = Open(whole))
        {
            Assert.Equal(Numbers(6), file.StateDict()["w"].ToArray());
            Assert.Equal(Numbers(6), file.StateDict()["tied"].ToArray());
            Assert.Equal(Numbers(2), file.StateDict()["b"].ToArray());
        }
        for (var length = 0; length < whole.Length; length++)
            Refused(whole[..length]);

        Refused(whole[..^1], "storage '94': 6 elements at offset");
        Refused([.. whole, 0], "1 bytes follow");
        Refused(ForgedLegacy.Bytes(state, ("94", Numbers(6))), "1 storages are missing, such as '17'");
        Refused(ForgedLegacy.Bytes(state, ("94", Numbers(6)), ("17", Numbers(3))), "3 elements at offset");
        Refused(ForgedLegacy.Bytes(state, ("94", Numbers(6)), ("94", Numbers(6))), "listed twice");
        Refused(ForgedLegacy.Bytes(state, ("94", Numbers(6)), ("5", Numbers(2))), "belongs to no tensor");
        Refused(ForgedLegacy.Bytes(new ForgedPickle().Global("os", "system").Stop()), "'os.system'");
        Refused(ForgedLegacy.Bytes(new ForgedPickle().LegacyTensor("0", long.MaxValue, [1], [1]).Stop(), ("0", Numbers(1))),
            "1 elements at offset");
        var bigEndian = whole.ToArray();
        bigEndian[whole.AsSpan().IndexOf("little_endian"u8) + 13] = 0x89;
        Refused(bigEndian, "little-endian");
        var otherMagic = whole.ToArray();
        otherMagic[4]++;
        Refused(otherMagic, "magic number");
    }

    [Fact]
    public void BytesAfterThePickle_AreRefused() => Refused(Archive([.. OneTensor, 0], Numbers(6)), "the pickle ends at");

    [Fact]
    public void StateDict_OfSomethingElse_SaysWhatWasFound()
    {
        using var list = Open(Archive(new ForgedPickle().Op(']').Stop()));
        Assert.Contains("dict of tensors", Refusal.Of(MendError.ModelUnusable, () => list.StateDict()).What, StringComparison.Ordinal);
        using var mixed = Open(Archive(new ForgedPickle().Op('}').Text("step").Int(3).Op('s').Stop()));
        Assert.Contains("entry 'step' is Int64", Refusal.Of(MendError.ModelUnusable, () => mixed.StateDict()).What,
            StringComparison.Ordinal);
    }

    /// <summary>A module's extra state lies among the weights of a state dict; nothing that a layer reads.</summary>
    [Fact]
    public void WhatIsNoTensor_IsLeftAlone()
    {
        using var file = Open(Archive(new ForgedPickle().Op('}').Op('(').Text("_extra_state").Op('N').Text("w").Tensor("0", 6, 0, [6], [1])
            .Op('u').Stop(), Numbers(6)));
        Assert.Equal(["w"], file.StateDict().Keys);
    }

    /// <summary>A tensor with attributes of its own, as torch 2 writes it: (rebuild, class, arguments, attributes).</summary>
    [Theory]
    [InlineData("torch", "Tensor")]
    [InlineData("torch.nn.parameter", "Parameter")]
    public void ATensorWithAttributes_IsTheTensor(string module, string name)
    {
        using var file = Open(Archive(OfType(module, name, "_rebuild_tensor_v2"), Numbers(6)));
        Assert.Equal(Numbers(6), file.StateDict()["w"].ToArray());
    }

    [Fact]
    public void ATensorOfAnotherClass_IsRefusedByName()
    {
        Refused(Archive(OfType("torchao", "Int8Tensor", "_rebuild_tensor_v2"), Numbers(6)), "'torchao.Int8Tensor'");
        Refused(Archive(OfType("torch", "FloatStorage", "_rebuild_tensor_v2"), Numbers(6)), "only tensors and parameters");
    }

    private static byte[] OfType(string module, string name, string rebuild) => new ForgedPickle().Op('}').Text("w")
        .Global("torch._tensor", "_rebuild_from_type_v2").Op('(').Global("torch._utils", rebuild).Global(module, name)
        .Op('(').Storage("0", 6).Int(0).Tuple(6).Tuple(1).Op(0x89).Global("collections", "OrderedDict").Op(')').Op('R').Op('t')
        .Op('}').Text("tag").Int(1).Op('s').Op('t').Op('R').Op('s').Stop();

    [Fact]
    public void AfterDispose_CopyThrows()
    {
        var file = Open(Archive(OneTensor, Numbers(6)));
        var tensor = file.StateDict()["w"];
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(tensor.ToArray);
    }

    private static byte[] Numbers(int count) => MemoryMarshal.AsBytes(Enumerable.Range(0, count).ToArray().AsSpan()).ToArray();

    private TorchArchive Open(byte[] bytes) => TorchArchive.Open(_folder.Write("file.pt", bytes));

    private void Refused(byte[] bytes, string expected = "")
    {
        var error = Refusal.Of(MendError.ModelUnusable, () => Open(bytes).Dispose());
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        Assert.StartsWith(_folder.Path, error.Message, StringComparison.Ordinal);
    }
}
