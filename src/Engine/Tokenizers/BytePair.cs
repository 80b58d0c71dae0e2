using System.Collections.Concurrent;
using System.Globalization;
using System.Text;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// Byte-level byte-pair encoding (Sennrich et al., 2016; Radford et al., 2019), as GPT-2 and BART use it: text is cut into words, a word's
/// UTF-8 bytes are joined pair by pair in the order of the merges. Every text can be encoded and comes back unchanged (a lone surrogate,
/// which has no UTF-8 form, comes back as U+FFFD).
/// </summary>
public sealed class BytePair : Tokenizer
{
    private const int MaxCachedWords = 50_000;
    private const int LongestCachedWord = 64;
    private const int Joined = -1;

    /// <summary>The printable character that stands for each byte in the files: itself where it has one, else U+0100 and on.</summary>
    internal static readonly char[] ByteSymbols = MakeByteSymbols();

    /// <summary>A token as the files write it.</summary>
    public static string SymbolsOf(ReadOnlySpan<byte> token)
    {
        var symbols = new StringBuilder(token.Length);
        foreach (var b in token)
            symbols.Append(ByteSymbols[b]);
        return symbols.ToString();
    }

    private static readonly Dictionary<char, byte> SymbolBytes = ByteSymbols.Index()
        .ToDictionary(entry => entry.Item, entry => (byte)entry.Index);

    private readonly BytePairOptions _options;
    private readonly int[] _byteIds;
    private readonly Dictionary<(int Left, int Right), (int Rank, int Id)> _merges;
    private readonly byte[]?[] _bytes;
    private readonly ConcurrentDictionary<string, int[]> _words = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<string, int[]>.AlternateLookup<ReadOnlySpan<char>> _wordsBySpan;
    private int _cachedWords;

    /// <param name="file">Named in errors.</param>
    /// <param name="merges">
    /// Pairs of tokens, the first to be joined first, each with its place in the file. Of a pair that stands there twice the last counts.
    /// </param>
    internal BytePair(string file, Vocabulary vocabulary, IEnumerable<(string Left, string Right, string Where)> merges,
        BytePairOptions options,
        Pipeline pipeline) : base(vocabulary, pipeline)
    {
        _options = options;
        _byteIds = [.. ByteSymbols.Select((symbol, b) => vocabulary.Require(file, $"symbol of byte 0x{b:X2}", symbol.ToString()))];
        _merges = [];
        foreach (var (rank, (left, right, where)) in merges.Index())
        {
            if (left.Length == 0 || right.Length == 0)
                throw Fault.File(file, where, $"joins '{left}' and '{right}'; neither may be empty");
            var pair = (vocabulary.Require(file, where, left), vocabulary.Require(file, where, right));
            _merges[pair] = (rank, vocabulary.Require(file, where, left + right));
        }
        var addedIds = pipeline.Added.Select(token => token.Id).ToHashSet();
        _bytes = new byte[]?[vocabulary.Size];
        for (var id = 0; id < vocabulary.Size; id++)
            if (vocabulary.TokenOf(id) is { } token)
                _bytes[id] = BytesOf(token, addedIds.Contains(id));
        _wordsBySpan = _words.GetAlternateLookup<ReadOnlySpan<char>>();
    }

    /// <summary>
    /// Length of GPT-2's next word: a contraction; or letters, digits or other signs with at most one space before them; or white space.
    /// By hand, as .NET's regular expressions do not know the category of what lies beyond U+FFFF.
    /// </summary>
    internal static int WordLength(ReadOnlySpan<char> text)
    {
        if (text[0] == '\'' && text.Length > 1)
        {
            if (text[1] is 's' or 't' or 'm' or 'd')
                return 2;
            if (text.Length > 2 && text[1..3] is "re" or "ve" or "ll")
                return 3;
        }
        var lead = text[0] == ' ' && text.Length > 1 ? 1 : 0;
        var kind = KindAt(text[lead..], out _);
        if (kind != Kind.Space)
            return lead + RunLength(text[lead..], kind);
        var spaces = RunLength(text, Kind.Space);
        // The last space before a word belongs to the word.
        return spaces == text.Length || spaces == 1 ? spaces : spaces - 1;
    }

    private protected override void EncodePiece(string piece, List<int> ids)
    {
        var text = (_options.AddPrefixSpace && piece[0] != ' ' ? ' ' + piece : piece).AsSpan();
        while (!text.IsEmpty)
        {
            var word = _options.CutsWords ? text[..WordLength(text)] : text;
            if (!_wordsBySpan.TryGetValue(word, out var encoded))
            {
                encoded = EncodeWord(word);
                if (word.Length <= LongestCachedWord && _cachedWords < MaxCachedWords && _words.TryAdd(word.ToString(), encoded))
                    Interlocked.Increment(ref _cachedWords);
            }
            ids.AddRange(encoded);
            text = text[word.Length..];
        }
    }

    private protected override string DecodeKept(List<int> ids)
    {
        var bytes = new List<byte>();
        foreach (var id in ids)
            bytes.AddRange(_bytes[id]!);
        return Encoding.UTF8.GetString([.. bytes]);
    }

    /// <summary>
    /// Joins the pair of lowest rank wherever it stands, from left to right, and only then looks at the pairs that this made (they may have
    /// a lower rank). The queue over a linked list keeps it n log n: a word may be a megabyte long.
    /// </summary>
    private int[] EncodeWord(ReadOnlySpan<char> word)
    {
        var symbols = new int[Encoding.UTF8.GetByteCount(word)];
        var bytes = new byte[symbols.Length];
        Encoding.UTF8.GetBytes(word, bytes);
        if (_options.IgnoreMerges && Vocabulary.IdInModel(string.Concat(bytes.Select(b => ByteSymbols[b]))) is { } whole)
            return [whole];
        for (var i = 0; i < symbols.Length; i++)
            symbols[i] = _byteIds[bytes[i]];
        var next = new int[symbols.Length]; // symbols.Length ends the list
        var previous = new int[symbols.Length];
        var queue = new PriorityQueue<(int At, int Left, int Right, int Id), (int Rank, int At)>();
        for (var i = 0; i < symbols.Length; i++)
            (next[i], previous[i]) = (i + 1, i - 1);
        for (var i = 0; i < symbols.Length; i++)
            Offer(i);

        var changed = new List<int>();
        while (queue.TryPeek(out _, out var lowest))
        {
            while (queue.TryPeek(out var pair, out var priority) && priority.Rank == lowest.Rank)
            {
                queue.Dequeue();
                var (at, right) = (pair.At, next[pair.At]);
                if (symbols[at] != pair.Left || right == symbols.Length || symbols[right] != pair.Right)
                    continue; // one of the two was joined to another symbol since
                symbols[at] = pair.Id;
                symbols[right] = Joined;
                next[at] = next[right];
                if (next[at] < symbols.Length)
                    previous[next[at]] = at;
                changed.Add(at);
                if (previous[at] >= 0)
                    changed.Add(previous[at]);
            }
            foreach (var at in changed)
                Offer(at);
            changed.Clear();
        }
        return Array.FindAll(symbols, symbol => symbol != Joined);

        void Offer(int at)
        {
            if (symbols[at] != Joined && next[at] < symbols.Length && _merges.TryGetValue((symbols[at], symbols[next[at]]), out var merge))
                queue.Enqueue((at, symbols[at], symbols[next[at]], merge.Id), (merge.Rank, at));
        }
    }

    /// <summary>An added token, and one that is not made of byte symbols, stands for its own text.</summary>
    private static byte[] BytesOf(string token, bool isAdded) => isAdded || !token.All(SymbolBytes.ContainsKey)
        ? Encoding.UTF8.GetBytes(token)
        : [.. token.Select(symbol => SymbolBytes[symbol])];

    private static int RunLength(ReadOnlySpan<char> text, Kind kind)
    {
        var length = 0;
        while (length < text.Length && KindAt(text[length..], out var width) == kind)
            length += width;
        return length;
    }

    private static Kind KindAt(ReadOnlySpan<char> text, out int width)
    {
        Rune.DecodeFromUtf16(text, out var rune, out width);
        if (Rune.IsWhiteSpace(rune))
            return Kind.Space;
        return Rune.GetUnicodeCategory(rune) switch
        {
            <= UnicodeCategory.OtherLetter => Kind.Letter,
            UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Kind.Number,
            _ => Kind.Other,
        };
    }

    private static char[] MakeByteSymbols()
    {
        var symbols = new char[256];
        var spare = (char)256;
        for (var b = 0; b < 256; b++)
            symbols[b] = b is >= '!' and <= '~' or >= 0xA1 and <= 0xAC or >= 0xAE ? (char)b : spare++;
        return symbols;
    }

    private enum Kind
    {
        Space,
        Letter,
        Number,
        Other,
    }
}

/// <param name="AddPrefixSpace">Before every piece that does not begin with one.</param>
/// <param name="CutsWords">By GPT-2's rule; otherwise a piece is one word.</param>
/// <param name="IgnoreMerges">A word that is a token as it stands is that token.</param>
internal sealed record BytePairOptions(bool AddPrefixSpace = false, bool CutsWords = true, bool IgnoreMerges = false);
