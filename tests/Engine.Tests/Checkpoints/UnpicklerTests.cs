using System.Numerics;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Checkpoints;

public sealed class UnpicklerTests
{
    [Fact]
    public void PlainValues_AreReadAsTheirTypes()
    {
        var pickle = new ForgedPickle(4).Op(0x95).UInt64(0).Op('(')
            .Op('N').Op(0x88).Op(0x89).Op('K', 200).Op('M', 1, 2).Op('J').UInt32(uint.MaxValue).Int(long.MinValue)
            .Op(0x8a, 0).Op(0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1).Op('G', 0x3f, 0xf8, 0, 0, 0, 0, 0, 0)
            .Op(0x8c, 2, 0xc3, 0xa9).Op('C', 2, 1, 2).Op(')').Op('t').Stop();
        object?[] expected =
            [null, true, false, 200L, 513L, -1L, long.MinValue, 0L, BigInteger.One << 64, 1.5, "é", new byte[] { 1, 2 },
            Array.Empty<object?>()];
        Assert.Equal(expected, Assert.IsType<object?[]>(Load(pickle)));
    }

    [Fact]
    public void Containers_KeepOrderAndShareParts()
    {
        // d = {"a": [1, 2], 3: (1,), "s": {1, 2}}; then the list again through the memo.
        var pickle = new ForgedPickle(4).Op('(').Op('}').Op('(')
            .Text("a").Op(']').Op(0x94).Op('(').Int(1).Int(2).Op('e')
            .Int(3).Int(1).Op(0x85)
            .Text("s").Op(0x8f).Op('(').Int(1).Int(2).Int(1).Op(0x90)
            .Op('u').Op('h', 0).Op('t').Stop();
        var root = Assert.IsType<object?[]>(Load(pickle));
        var dictionary = Assert.IsType<OrderedDictionary<object, object?>>(root[0]);
        Assert.Equal(["a", 3L, "s"], dictionary.Keys);
        Assert.Equal(new List<object?> { 1L, 2L }, dictionary["a"]);
        Assert.Same(dictionary["a"], root[1]);
        Assert.Equal([1L], Assert.IsType<object?[]>(dictionary[3L]));
        Assert.Equal([1L, 2L], Assert.IsType<HashSet<object>>(dictionary["s"]).Order());
    }

    [Fact]
    public void SetsAndBytesOfProtocol2_AreReadToo()
    {
        var set = new ForgedPickle().Global("__builtin__", "set").Op(']').Int(4).Op('a').Op(0x85).Op('R').Stop();
        Assert.Equal([4L], Assert.IsType<HashSet<object>>(Load(set)));
        var bytes = new ForgedPickle().Global("_codecs", "encode").Text("aÿ").Text("latin1").Op(0x86).Op('R').Stop();
        Assert.Equal(new byte[] { 0x61, 0xff }, Load(bytes));
        var pairs = new ForgedPickle().Global("collections", "OrderedDict").Op(']').Text("k").Int(1).Op(0x86).Op('a').Op(0x85).Op('R')
            .Stop();
        Assert.Equal(1L, Assert.IsType<OrderedDictionary<object, object?>>(Load(pairs))["k"]);
    }

    [Theory]
    [InlineData("os", "system")]
    [InlineData("posix", "system")]
    [InlineData("nt", "system")]
    [InlineData("builtins", "eval")]
    [InlineData("__builtin__", "getattr")]
    [InlineData("torch", "load")]
    [InlineData("collections.OrderedDict", "__init__")]
    public void EveryOtherGlobal_IsRefusedByName_EvenBeforeItIsCalled(string module, string name)
    {
        var byLine = new ForgedPickle().Global(module, name).Text("echo harm").Op(0x85).Op('R').Stop();
        Refused(byLine, $"'{module}.{name}'");
        Refused(new ForgedPickle().Global(module, name).Stop(), $"'{module}.{name}'");
        Refused(new ForgedPickle(4).Text(module).Text(name).Op(0x93).Stop(), $"'{module}.{name}'");
    }

    [Fact]
    public void HostileCall_BecomesAnInertObject_WhereTheCallerAsksForThem()
    {
        var pickle = new ForgedPickle().Global("posix", "system").Text("echo harm").Op(0x85).Op('R')
            .Op('}').Text("a").Int(1).Op('s').Op('b').Stop();
        var inert = Assert.IsType<PickledObject>(Load(pickle, allowInertObjects: true));
        Assert.Equal(("posix", "system"), (inert.Module, inert.Name));
        Assert.Equal(["echo harm"], inert.Args);
        Assert.Equal(1L, Assert.IsType<OrderedDictionary<object, object?>>(inert.State)["a"]);
        Assert.Equal(new PickledGlobal("posix", "system"),
            Load(new ForgedPickle().Global("posix", "system").Stop(), allowInertObjects: true));
    }

    [Fact]
    public void InertObject_KeepsWhatWouldHaveBeenPutIntoIt()
    {
        var pickle = new ForgedPickle(4).Global("m", "C").Op(')').Op('}').Op(0x92).Int(7).Op('a').Text("k").Int(8).Op('s').Stop();
        var inert = Assert.IsType<PickledObject>(Load(pickle, allowInertObjects: true));
        Assert.Equal([7L], inert.Elements);
        Assert.Equal(8L, inert.Items["k"]);
    }

    [Fact]
    public void ValuesThatAreNoFunctions_AreNotCalled()
    {
        Refused(new ForgedPickle().Text("os.system").Op(')').Op('R').Stop(), "was called");
        Refused(new ForgedPickle().Global("torch", "FloatStorage").Op(')').Op('R').Stop(), "was called");
        Refused(new ForgedPickle().Global("collections", "OrderedDict").Int(1).Op('R').Stop(), "expected a tuple");
        Refused(new ForgedPickle().Op(']').Op('}').Op('b').Stop(), "BUILD on a list");
    }

    [Theory]
    [InlineData("X", new byte[] { 0xff, 0xff, 0xff, 0xff })]
    [InlineData("B", new byte[] { 0xff, 0xff, 0xff, 0x7f })]
    [InlineData("\u008d", new byte[] { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff })]
    [InlineData("\u008d", new byte[] { 0, 0, 0, 0, 0, 0, 0, 0x80 })]
    [InlineData("\u008e", new byte[] { 0, 0, 0, 0, 1, 0, 0, 0 })]
    [InlineData("\u0096", new byte[] { 0, 0, 0, 0, 1, 0, 0, 0 })]
    [InlineData("\u008b", new byte[] { 0xff, 0xff, 0xff, 0xff })]
    [InlineData("\u0095", new byte[] { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff })]
    public void LengthBeyondTheFile_IsRefusedBeforeAnythingIsAllocated(string opcode, byte[] length)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        Refused(new ForgedPickle().Op((byte)opcode[0]).Op(length).Stop(), "bytes are left");
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
    }

    [Theory]
    [InlineData("K", "bytes are needed")]
    [InlineData("cos", "without an end")]
    [InlineData("t", "no mark")]
    [InlineData("(", "value is missing")]
    [InlineData("0", "value is missing")]
    [InlineData("(0", "value is missing")]
    [InlineData("", "value is missing")]
    [InlineData("NN", "left over")]
    [InlineData("N(", "value is missing")]
    [InlineData("(N", "left over")]
    [InlineData("R", "2 values expected")]
    [InlineData("N(R", "2 values expected")]
    [InlineData("h\u0007", "memo index 7 was never set")]
    [InlineData("Nr\u00ff\u00ff\u00ff\u00ff", "memo index 4294967295")]
    [InlineData("Nr\u0040\u0000\u0000\u0000", "memo index 64")]
    [InlineData("Nq\u0002h\u0001", "memo index 1 was never set")]
    [InlineData("}NNs", "None as a key")]
    [InlineData("}]Ns", "a list of 0 as a key")]
    [InlineData("}(Nu", "keys and values in turn")]
    [InlineData("NNa", "APPENDS on None")]
    [InlineData("NNNs", "SETITEMS on None")]
    [InlineData("NQ", "expected a storage")]
    [InlineData("\u0080\u0001", "protocol 1")]
    [InlineData("\u0080\u0006", "protocol 6")]
    [InlineData("I1\n", "opcode 0x49")]
    [InlineData("(ios\nsystem\n", "opcode 0x69")]
    [InlineData("\u0082\u0001", "opcode 0x82")]
    [InlineData("\u0097", "opcode 0x97")]
    [InlineData("\u008c\u0001\u00ff", "not UTF-8")]
    public void ProgramThatNoPicklerWrites_IsRefusedWithItsOffset(string opcodes, string expected)
    {
        var error = Refused(new ForgedPickle().Op([.. opcodes.Select(c => (byte)c)]).Stop(), expected);
        Assert.StartsWith("file.pt: pickle offset ", error.What, StringComparison.Ordinal);
    }

    [Fact]
    public void NestingIsBounded_HoweverItIsBuilt()
    {
        Assert.NotNull(Load(new ForgedPickle().Op(']').Repeat(99, 0x85).Stop()));
        Refused(new ForgedPickle().Op(']').Repeat(100, 0x85).Stop(), "more than 100 deep");
        Refused(new ForgedPickle().Repeat(100_000, (byte)']').Repeat(99_999, (byte)'a').Stop(), "more than 100 deep");
        // Shared part: seen first where it is shallow, then again below sixty others.
        var shared = new ForgedPickle().Op('(').Op(']').Repeat(60, 0x85).Op('q', 0).Op('h', 0).Repeat(60, 0x85).Op('t').Stop();
        Refused(shared, "more than 100 deep");
    }

    [Fact]
    public void ContainerInItself_IsRefused() =>
        Refused(new ForgedPickle().Op(']').Op('q', 0).Op('h', 0).Op('a').Stop(), "contains itself");

    [Fact]
    public void MemoBomb_CostsOnlyItsOwnBytes()
    {
        // Eighty tuples, each of twice the one before: 2^80 values if anything walked them.
        var pickle = new ForgedPickle().Op(')').Repeat(80, (byte)'2', 0x86).Stop();
        Assert.NotNull(Load(pickle));
        // As a key and a member too.
        Assert.NotNull(Load(new ForgedPickle().Op('}').Op(')').Repeat(80, (byte)'2', 0x86).Op('N').Op('s').Stop()));
    }

    [Fact]
    public void ListCopiedOverAndOver_RunsIntoTheLimit()
    {
        // A list of 100,000 in the memo, then set(list) 1,000 times.
        var pickle = new ForgedPickle().Op(']').Op('q', 0).Op('(').Repeat(100_000, (byte)'K', 1).Op('e')
            .Global("builtins", "set").Op('q', 1).Op('0').Repeat(1000, (byte)'h', 1, (byte)'h', 0, 0x85, (byte)'R', (byte)'0').Stop();
        Refused(pickle, "more than 4194304 values");
    }

    [Fact]
    public void MoreValuesThanAnyModelHas_AreRefused() =>
        Refused(new ForgedPickle().Repeat(5_000_000, (byte)'N').Stop(), "more than 4194304 values");

    [Fact]
    public void IntegerOfAMegabyte_IsRefused() =>
        Refused(new ForgedPickle().Op(0x8b).UInt32(1 << 20).Repeat(1 << 20, 1).Stop(), "an integer of 1048576 bytes");

    [Fact]
    public void TensorOfThousandDimensions_IsRefused() =>
        Refused(new ForgedPickle().Tensor("0", 1, 0, [.. Enumerable.Repeat(1L, 1000)], [.. Enumerable.Repeat(1L, 1000)]).Stop(),
        "1000 dimensions");

    [Fact]
    public void ArgumentsOfTheWrongKind_AreRefused()
    {
        var rebuild = new ForgedPickle().Global("torch._utils", "_rebuild_tensor_v2");
        Refused(rebuild.Op(')').Op('R').Stop(), "argument 0 of _rebuild_tensor_v2: missing, expected PickledStorage");
        Refused(new ForgedPickle().Global("torch._utils", "_rebuild_tensor_v2").Text("x").Op(0x85).Op('R').Stop(),
            "the text 'x', expected");
        Refused(new ForgedPickle().Global("collections", "OrderedDict").Op(']').Int(1).Op('a').Op(0x85).Op('R').Stop(), "expected pairs");
        Refused(new ForgedPickle().Global("_codecs", "encode").Text("x").Text("rot13").Op(0x86).Op('R').Stop(), "latin1");
        Refused(new ForgedPickle().Op('(').Text("module").Op('t').Op('Q').Stop(), "expected a storage");
    }

    private static object? Load(byte[] pickle, bool allowInertObjects = false) =>
        new Unpickler("file.pt", pickle, 0, allowInertObjects, reference => new(null!, reference.Key, reference.Type, reference.Count))
        .Load();

    private static MendException Refused(byte[] pickle, string expected)
    {
        var error = Refusal.Of(MendError.ModelUnusable, () => Load(pickle));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
        return error;
    }
}
