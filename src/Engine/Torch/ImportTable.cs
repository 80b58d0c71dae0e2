using System.Globalization;
using System.Runtime.InteropServices;

namespace MendCluster.Engine.Torch;

/// <summary>
/// Where a loaded library (ELF, 64 bits) keeps the addresses of the functions that it calls in others and that were bound lazily.
/// </summary>
internal sealed unsafe class ImportTable
{
    private const int Magic = 0x464c457f, Bits64 = 2; // "\x7fELF"; the class, a byte after it
    private const int Segments = 0x20, SegmentCount = 0x38, SegmentBytes = 56, DynamicSegment = 2, SegmentAddress = 16;
    private const int RelocationsBytes = 2, Strings = 5, Symbols = 6, Relocations = 23; // DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_JMPREL
    private const int RelocationBytes = 24, SymbolBytes = 24, FunctionSlot = 7; // Elf64_Rela, Elf64_Sym; R_X86_64_JUMP_SLOT

    private readonly Dictionary<string, nint> _slots = [];
    private readonly string _library;
    private readonly List<(nint Start, nint End)> _writable;

    /// <param name="maps">The lines of /proc/self/maps.</param>
    /// <param name="library">The name of its file.</param>
    /// <exception cref="NotSupportedException">It is not loaded, or is built otherwise.</exception>
    public ImportTable(IEnumerable<string> maps, string library)
    {
        _library = library;
        List<(nint Start, nint End, bool IsWritable)> regions =
            [.. maps.Where(line => line.EndsWith("/" + library, StringComparison.Ordinal)).Select(Region)];
        if (regions.Count == 0)
            throw Unexpected("is not loaded");
        _writable = [.. regions.Where(region => region.IsWritable).Select(region => (region.Start, region.End))];

        var start = (byte*)regions[0].Start;
        if (*(int*)start != Magic || start[4] != Bits64)
            throw Unexpected("does not begin as an ELF file of 64 bits");
        var dynamic = new Dictionary<long, long>();
        for (var i = 0; i < *(ushort*)(start + SegmentCount); i++)
        {
            var segment = start + *(long*)(start + Segments) + i * SegmentBytes;
            if (*(int*)segment == DynamicSegment)
                for (var entry = (long*)(start + *(long*)(segment + SegmentAddress)); entry[0] != 0; entry += 2)
                    dynamic[entry[0]] = entry[1];
        }
        if (!new long[] { RelocationsBytes, Strings, Symbols, Relocations }.All(dynamic.ContainsKey))
            throw Unexpected("has no table of functions that are bound lazily");

        // The loader has made these addresses absolute.
        var symbols = (byte*)dynamic[Symbols];
        for (var at = (byte*)dynamic[Relocations]; at < (byte*)(dynamic[Relocations] + dynamic[RelocationsBytes]); at += RelocationBytes)
        {
            var (offset, type, symbol) = (*(long*)at, *(int*)(at + 8), *(uint*)(at + 12));
            if (type == FunctionSlot)
                _slots[Marshal.PtrToStringUTF8((nint)dynamic[Strings] + *(int*)(symbols + symbol * SymbolBytes))!] = (nint)(start + offset);
        }
    }

    /// <summary>Where the address of a function is kept.</summary>
    /// <exception cref="NotSupportedException">There is no such place, or it cannot be written.</exception>
    public nint SlotOf(string function)
    {
        if (!_slots.TryGetValue(function, out var slot))
            throw Unexpected($"does not call {function} through its table of functions");
        if (!_writable.Any(region => slot >= region.Start && slot < region.End))
            throw Unexpected($"keeps the address of {function} where it cannot be written");
        return slot;
    }

    /// <summary>"7f12a000-7f13b000 rw-p 0011a000 fe:00 1234 /path/library".</summary>
    private static (nint Start, nint End, bool IsWritable) Region(string line)
    {
        var words = line.Split(' ', '-');
        nint Address(int i) => nint.Parse(words[i], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        return (Address(0), Address(1), words[2].StartsWith("rw", StringComparison.Ordinal));
    }

    private NotSupportedException Unexpected(string what) =>
        new($"The memory of tensors cannot be measured: {_library} {what}. The meter was made for libtorch 2.10.");
}
