using System.Buffers.Binary;
using System.Text;
using MendCluster.Contracts;

namespace MendCluster.Engine.Checkpoints;

/// <summary>
/// Where the records of a torch archive lie: a zip, or zip64, whose members are stored and so can be mapped in place. Reads the central
/// directory at the end of the file and then each member's own header, and refuses whatever torch does not write: compression, encryption,
/// several volumes, names twice, members that overlap.
/// </summary>
internal static class ZipRecords
{
    private const uint EndSignature = 0x06054b50, End64Signature = 0x06064b50, Locator64Signature = 0x07064b50;
    private const uint EntrySignature = 0x02014b50, MemberSignature = 0x04034b50;
    private const int EndLength = 22, End64Length = 56, Locator64Length = 20, EntryLength = 46, MemberLength = 30;
    private const int LongestComment = ushort.MaxValue;
    private const ushort Encrypted = 1, Zip64Field = 1;

    /// <summary>Offset and length in the file of every member's bytes, by name.</summary>
    public static Dictionary<string, (long Offset, long Length)> Read(MappedFile file)
    {
        var (directory, directoryLength, count) = FindDirectory(file);
        var records = new Dictionary<string, (long Offset, long Length)>();
        var members = new List<(long Begin, long End, string Name)>();
        var next = directory;
        var end = directory + directoryLength;
        for (long i = 0; i < count; i++)
        {
            var where = $"zip directory, offset {next}";
            if (end - next < EntryLength)
                throw Bad(file, where, $"{count} entries are announced, the directory ends after {i}; the file is cut");
            var entry = file.Span(next, EntryLength);
            if (U32(entry, 0) != EntrySignature)
                throw Bad(file, where, $"signature {U32(entry, 0):x8}, expected {EntrySignature:x8}");
            int nameLength = U16(entry, 28), extraLength = U16(entry, 30), commentLength = U16(entry, 32);
            if (end - next - EntryLength < nameLength + extraLength + commentLength)
                throw Bad(file, where, "the entry reaches past the directory");
            var name = Encoding.Latin1.GetString(file.Span(next + EntryLength, nameLength));
            if (U16(entry, 10) != 0)
                throw Bad(file, name, $"compression method {U16(entry, 10)}, torch.save writes none; save the file again with it");
            if ((U16(entry, 8) & Encrypted) != 0)
                throw Bad(file, name, "the record is encrypted; store it plainly");
            var (length, offset) = Sizes(file, name, entry, file.Span(next + EntryLength + nameLength, extraLength));
            var data = MemberData(file, name, offset, length, directory);
            if (!records.TryAdd(name, (data, length)))
                throw Bad(file, name, "the archive holds two records of this name");
            members.Add((offset, data + length, name));
            next += EntryLength + nameLength + extraLength + commentLength;
        }
        CheckApart(file, members);
        return records;
    }

    private static (long Offset, long Length, long Count) FindDirectory(MappedFile file)
    {
        var tailLength = (int)Math.Min(file.Length, EndLength + LongestComment);
        var tailOffset = file.Length - tailLength;
        var tail = file.Span(tailOffset, tailLength);
        var at = tailLength - EndLength;
        while (at >= 0 && !(U32(tail, at) == EndSignature && U16(tail, at + 20) == tailLength - at - EndLength))
            at--;
        if (at < 0)
            throw Bad(file, $"offset {file.Length}", "no zip directory at the end; the file is cut or no torch archive, fetch it again");

        var end = tail[at..];
        long count = U16(end, 10), length = U32(end, 12), offset = U32(end, 16), endOffset = tailOffset + at;
        if (U16(end, 4) is not (0 or ushort.MaxValue))
            throw Bad(file, $"offset {endOffset}", "the archive spans several volumes");
        var locatorOffset = endOffset - Locator64Length;
        if (locatorOffset >= 0 && file.Span(locatorOffset, Locator64Length) is var locator && U32(locator, 0) == Locator64Signature)
        {
            endOffset = I64(locator, 8);
            if (endOffset < 0 || endOffset > locatorOffset - End64Length || U32(file.Span(endOffset, End64Length), 0) != End64Signature)
                throw Bad(file, $"offset {locatorOffset}", $"points to a zip64 directory at {endOffset}, where none is");
            end = file.Span(endOffset, End64Length);
            (count, length, offset) = (I64(end, 32), I64(end, 40), I64(end, 48));
        }
        if (offset < 0 || length < 0 || count < 0 || length > endOffset || offset > endOffset - length || count > length / EntryLength)
            throw Bad(file, $"offset {endOffset}",
                $"a directory of {count} entries in {length} bytes at {offset} cannot lie before offset {endOffset}; the file is damaged");
        return (offset, length, count);
    }

    /// <summary>Length and member offset; each may stand in the zip64 field instead, in this order.</summary>
    private static (long Length, long Offset) Sizes(MappedFile file, string name, ReadOnlySpan<byte> entry, ReadOnlySpan<byte> extra)
    {
        long stored = U32(entry, 20), length = U32(entry, 24), offset = U32(entry, 42);
        var wide = Field(extra, Zip64Field);
        length = Widen(length, ref wide);
        stored = Widen(stored, ref wide);
        offset = Widen(offset, ref wide);
        if (length != stored || length < 0 || offset < 0)
            throw Bad(file, name, $"length {length}, stored as {stored} at {offset}; both lengths should be equal, no number negative");
        return (length, offset);
    }

    private static long Widen(long value, ref ReadOnlySpan<byte> wide)
    {
        if (value != uint.MaxValue || wide.Length < sizeof(long))
            return value;
        value = I64(wide, 0);
        wide = wide[sizeof(long)..];
        return value;
    }

    private static ReadOnlySpan<byte> Field(ReadOnlySpan<byte> extra, ushort wanted)
    {
        while (extra.Length >= 4 && U16(extra, 2) <= extra.Length - 4)
        {
            var length = U16(extra, 2);
            if (U16(extra, 0) == wanted)
                return extra.Slice(4, length);
            extra = extra[(4 + length)..];
        }
        return [];
    }

    private static long MemberData(MappedFile file, string name, long offset, long length, long directory)
    {
        if (offset > directory - MemberLength || U32(file.Span(offset, MemberLength), 0) != MemberSignature)
            throw Bad(file, name, $"the directory places it at offset {offset}, where no record is");
        var member = file.Span(offset, MemberLength);
        var data = offset + MemberLength + U16(member, 26) + U16(member, 28);
        if (data > directory || length > directory - data)
            throw Bad(file, name, $"{length} bytes at offset {data} reach past the records, which end at {directory}");
        if (Encoding.Latin1.GetString(file.Span(offset + MemberLength, U16(member, 26))) != name)
            throw Bad(file, name, $"the record at offset {offset} has another name");
        return data;
    }

    private static void CheckApart(MappedFile file, List<(long Begin, long End, string Name)> members)
    {
        members.Sort();
        for (var i = 1; i < members.Count; i++)
            if (members[i].Begin < members[i - 1].End)
                throw Bad(file, members[i].Name,
                    $"begins at offset {members[i].Begin}, inside '{members[i - 1].Name}' which ends at {members[i - 1].End}");
    }

    private static ushort U16(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt16LittleEndian(bytes[at..]);

    private static uint U32(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[at..]);

    private static long I64(ReadOnlySpan<byte> bytes, int at) => BinaryPrimitives.ReadInt64LittleEndian(bytes[at..]);

    private static MendException Bad(MappedFile file, string where, string message) => Fault.File(file.Path, where, message);
}
