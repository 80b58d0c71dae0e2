using System.Buffers.Binary;
using System.Text;

namespace MendCluster.Testing;

/// <summary>A safetensors file with any header, right or wrong.</summary>
public static class ForgedSafetensors
{
    public static byte[] Bytes(string header, int dataLength = 0, ulong? declaredLength = null) =>
        Bytes(Encoding.UTF8.GetBytes(header), dataLength, declaredLength);

    public static byte[] Bytes(byte[] header, int dataLength = 0, ulong? declaredLength = null)
    {
        var bytes = new byte[8 + header.Length + dataLength];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, declaredLength ?? (ulong)header.Length);
        header.CopyTo(bytes, 8);
        for (var i = 0; i < dataLength; i++)
            bytes[8 + header.Length + i] = (byte)i;
        return bytes;
    }

    public static string Entry(string name, string dtype, string shape, string offsets) =>
        $$"""
        "{{name}}":{"dtype":"{{dtype}}","shape":[{{shape}}],"data_offsets":[{{offsets}}]}
        """;
}

/// <summary>Writes pickles opcode by opcode.</summary>
public sealed class ForgedPickle
{
    private readonly List<byte> _bytes = [];

    public ForgedPickle(byte protocol = 2) => Op(0x80, protocol);

    public ForgedPickle Op(params ReadOnlySpan<byte> bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    public ForgedPickle Op(char opcode, params ReadOnlySpan<byte> operands) => Op((byte)opcode).Op(operands);

    public ForgedPickle Repeat(int count, params ReadOnlySpan<byte> bytes)
    {
        for (var i = 0; i < count; i++)
            _bytes.AddRange(bytes);
        return this;
    }

    public ForgedPickle Text(string text)
    {
        var utf8 = Encoding.UTF8.GetBytes(text);
        return Op('X').UInt32((uint)utf8.Length).Op(utf8);
    }

    public ForgedPickle UInt32(uint number)
    {
        Span<byte> raw = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(raw, number);
        return Op(raw);
    }

    public ForgedPickle UInt64(ulong number)
    {
        Span<byte> raw = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(raw, number);
        return Op(raw);
    }

    /// <summary>An int of eight bytes.</summary>
    public ForgedPickle Int(long number) => Op(0x8a, 8).UInt64((ulong)number);

    public ForgedPickle Global(string module, string name) => Op(Encoding.UTF8.GetBytes($"c{module}\n{name}\n"));

    public ForgedPickle Tuple(params long[] numbers)
    {
        Op('(');
        foreach (var number in numbers)
            Int(number);
        return Op('t');
    }

    /// <summary>Persistent id of a storage.</summary>
    public ForgedPickle Storage(string key, long count, string type = "FloatStorage") =>
        Op('(').Text("storage").Global("torch", type).Text(key).Text("cpu").Int(count).Op('t').Op('Q');

    public ForgedPickle Tensor(string key, long count, long offset, long[] shape, long[] stride, string type = "FloatStorage") =>
        Global("torch._utils", "_rebuild_tensor_v2").Op('(')
            .Storage(key, count, type).Int(offset).Tuple(shape).Tuple(stride).Op(0x89)
            .Global("collections", "OrderedDict").Op(')').Op('R').Op('t').Op('R');

    /// <summary>As torch wrote it before 1.6: the storage's id has a sixth part.</summary>
    public ForgedPickle LegacyTensor(string key, long count, long[] shape, long[] stride) =>
        Global("torch._utils", "_rebuild_tensor_v2").Op('(')
            .Op('(').Text("storage").Global("torch", "FloatStorage").Text(key).Text("cpu").Int(count).Op('N').Op('t').Op('Q')
            .Int(0).Tuple(shape).Tuple(stride).Op(0x89).Global("collections", "OrderedDict").Op(')').Op('R').Op('t').Op('R');

    /// <summary>Ends the pickle.</summary>
    public byte[] Stop()
    {
        Op('.');
        return [.. _bytes];
    }
}

/// <summary>A file as torch.save wrote it before 1.6.</summary>
public static class ForgedLegacy
{
    public static byte[] Bytes(byte[] state, params (string Key, byte[] Floats)[] storages)
    {
        var keys = new ForgedPickle().Op(']').Op('(');
        foreach (var (key, _) in storages)
            keys.Text(key);
        return
        [
            .. new ForgedPickle().Op(0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19).Stop(),
            .. new ForgedPickle().Op('M', 0xe9, 0x03).Stop(),
            .. new ForgedPickle().Op('}').Op('(').Text("protocol_version").Op('M', 0xe9, 0x03).Text("little_endian").Op(0x88).Op('u')
                .Stop(),
            .. state,
            .. keys.Op('e').Stop(),
            .. storages.SelectMany(storage => (byte[])[.. BitConverter.GetBytes(storage.Floats.LongLength / 4), .. storage.Floats]),
        ];
    }
}

public sealed record ForgedMember(string Name, byte[] Data)
{
    public ushort Method { get; init; }

    public ushort Flags { get; init; }

    /// <summary>What the directory says, where it lies.</summary>
    public long? ClaimedLength { get; init; }

    public long? ClaimedOffset { get; init; }

    public string? LocalName { get; init; }
}

/// <summary>A zip of stored members, optionally with every size and offset in zip64 fields, and with lies where asked.</summary>
public static class ForgedZip
{
    public static byte[] Bytes(IEnumerable<ForgedMember> members, bool zip64 = false, long? claimedCount = null)
    {
        var file = new MemoryStream();
        var directory = new MemoryStream();
        var count = 0;
        foreach (var member in members)
        {
            count++;
            var offset = file.Position;
            var localName = Encoding.Latin1.GetBytes(member.LocalName ?? member.Name);
            Put(file, 0x04034b50u, (ushort)20, member.Flags, member.Method, 0u, 0u, (uint)member.Data.Length, (uint)member.Data.Length,
                (ushort)localName.Length, (ushort)0, localName, member.Data);

            var name = Encoding.Latin1.GetBytes(member.Name);
            var length = member.ClaimedLength ?? member.Data.Length;
            var claimed = member.ClaimedOffset ?? offset;
            Put(directory, 0x02014b50u, (ushort)20, (ushort)20, member.Flags, member.Method, 0u, 0u,
                zip64 ? uint.MaxValue : (uint)length, zip64 ? uint.MaxValue : (uint)length,
                (ushort)name.Length, (ushort)(zip64 ? 28 : 0), (ushort)0, (ushort)0, (ushort)0, 0u, zip64 ? uint.MaxValue : (uint)claimed,
                    name);
            if (zip64)
                Put(directory, (ushort)1, (ushort)24, length, length, claimed);
        }
        var directoryOffset = file.Position;
        directory.WriteTo(file);
        var endOffset = file.Position;
        var announced = claimedCount ?? count;
        if (zip64)
        {
            Put(file, 0x06064b50u, 44L, (ushort)45, (ushort)45, 0u, 0u, announced, announced, directory.Length, directoryOffset);
            Put(file, 0x07064b50u, 0u, endOffset, 1u);
        }
        Put(file, 0x06054b50u, (ushort)0, (ushort)0, (ushort)announced, (ushort)announced,
            (uint)directory.Length, (uint)directoryOffset, (ushort)0);
        return file.ToArray();
    }

    /// <summary>A torch archive of this pickle with these storages, keyed "0", "1", ...</summary>
    public static byte[] Archive(byte[] pickle, params byte[][] storages) => Bytes(TorchMembers(pickle, storages));

    public static IEnumerable<ForgedMember> TorchMembers(byte[] pickle, params byte[][] storages) =>
    [
        new("archive/data.pkl", pickle),
        .. storages.Select((bytes, i) => new ForgedMember($"archive/data/{i}", bytes)),
        new("archive/version", "3\n"u8.ToArray()),
    ];

    private static void Put(Stream stream, params object[] parts)
    {
        using var writer = new BinaryWriter(stream, Encoding.UTF8, leaveOpen: true);
        foreach (var part in parts)
        {
            switch (part)
            {
                case ushort number: writer.Write(number); break;
                case uint number: writer.Write(number); break;
                case long number: writer.Write(number); break;
                case byte[] bytes: writer.Write(bytes); break;
                default: throw new ArgumentException(part.GetType().Name);
            }
        }
    }
}
