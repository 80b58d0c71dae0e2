using System.Buffers.Binary;
using System.Text;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// The "precompiled charsmap" of a SentencePiece model: what to write in place of a run of bytes (nmt_nfkc: compatibility forms, odd
/// spaces, control characters). All little endian:
/// <code>
/// 0      uint32 size of the trie in bytes
/// 4      the trie: uint32 units of a double array (darts-clone)
/// 4+size the replacements: UTF-8, each ended by a zero byte; a leaf of the trie holds the offset of its own
/// </code>
/// </summary>
internal sealed class CharsMap
{
    /// <summary>Changes nothing.</summary>
    public static readonly CharsMap Empty = new([], []);

    private readonly uint[] _units;
    private readonly byte[] _replacements;

    private CharsMap(uint[] units, byte[] replacements)
    {
        _units = units;
        _replacements = replacements;
    }

    public static CharsMap Parse(string file, string where, ReadOnlyMemory<byte> blob)
    {
        if (blob.IsEmpty)
            return Empty;
        if (blob.Length < 4)
            throw Fault.File(file, where, $"has {blob.Length} bytes, expected at least 4; the file is damaged");
        var bytes = blob.Span;
        var size = BinaryPrimitives.ReadUInt32LittleEndian(bytes);
        if (size % 4 != 0 || size == 0 || size > bytes.Length - 4)
            throw Fault.File(file, where,
                $"says that its trie has {size} bytes, expected a multiple of 4 up to {bytes.Length - 4}; the file is damaged");
        var units = new uint[size / 4];
        for (var i = 0; i < units.Length; i++)
            units[i] = BinaryPrimitives.ReadUInt32LittleEndian(bytes[(4 + 4 * i)..]);
        var replacements = bytes[(4 + (int)size)..];
        if (replacements.IsEmpty || replacements[^1] != 0)
            throw Fault.File(file, where, "its last replacement is not ended by a zero byte; the file is damaged");
        // Damage in the trie then cannot show while a request is served: a step or an offset out of bounds counts as "no entry".
        return new(units, replacements.ToArray());
    }

    /// <summary>The replacement of the shortest entry that a text begins with; null: there is none.</summary>
    public string? First(string text) => Match(Encoding.UTF8.GetBytes(text), out var replacement, shortest: true) > 0
        ? Encoding.UTF8.GetString(replacement) : null;

    /// <summary>Finds the longest entry that <paramref name="text"/> (UTF-8) starts with.</summary>
    /// <returns>The entry's length in bytes; 0: there is none.</returns>
    public int Match(ReadOnlySpan<byte> text, out ReadOnlySpan<byte> replacement, bool shortest = false)
    {
        replacement = default;
        if (_units.Length == 0)
            return 0;
        var longest = 0;
        var node = Children(_units[0]);
        for (var i = 0; i < text.Length; i++)
        {
            node ^= text[i];
            if (node >= _units.Length || (_units[node] & 0x800000FF) != text[i]) // bit 31 is set in leaves alone
                break;
            var hasLeaf = (_units[node] & 0x100) != 0;
            node ^= Children(_units[node]);
            if (!hasLeaf || node >= _units.Length)
                continue;
            var offset = _units[node] & 0x7FFFFFFF;
            if (offset >= _replacements.Length)
                continue;
            longest = i + 1;
            replacement = _replacements.AsSpan((int)offset);
            replacement = replacement[..replacement.IndexOf((byte)0)];
            if (shortest)
                break;
        }
        return longest;

        // Distance from a unit to its children; bit 9 says that it is counted in steps of 256.
        static uint Children(uint unit) => (unit >> 10) << (int)((unit & 0x200) >> 6);
    }
}

/// <summary>
/// SentencePiece's way from a text to what the pieces are matched against: characters mapped, runs of spaces made one "▁", one "▁" put
/// in front.
/// </summary>
internal sealed record UnigramNormalizer(CharsMap CharsMap, bool AddDummyPrefix = true, bool RemoveExtraWhitespaces = true)
{
    public const char Space = '\u2581';

    /// <summary>The result has no lone surrogates: each became U+FFFD.</summary>
    public string Normalize(string text)
    {
        var bytes = new byte[Encoding.UTF8.GetByteCount(text)];
        Encoding.UTF8.GetBytes(text, bytes);
        var mapped = new List<byte>(bytes.Length + 8);
        for (var rest = bytes.AsSpan(); !rest.IsEmpty;)
        {
            var length = CharsMap.Match(rest, out var replacement);
            if (length == 0)
            {
                Rune.DecodeFromUtf8(rest, out _, out length);
                replacement = rest[..length];
            }
            mapped.AddRange(replacement);
            rest = rest[length..];
        }

        var plain = Encoding.UTF8.GetString([.. mapped]);
        var result = new StringBuilder(plain.Length + 1);
        if (RemoveExtraWhitespaces)
            plain = plain.Trim(' ');
        if (plain.Length > 0 && AddDummyPrefix)
            result.Append(Space);
        foreach (var c in plain)
            if (c != ' ')
                result.Append(c);
            else if (!RemoveExtraWhitespaces || result[^1] != Space)
                result.Append(Space);
        return result.ToString();
    }
}
