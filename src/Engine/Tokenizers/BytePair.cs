using System.Collections.Concurrent;
using System.Globalization;
using System.Text;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// Byte-level byte-pair encoding (Sennrich et al., 2016; Radford et al., 2019), as GPT-2 and BART use it: text is cut into words, a word's
/// UTF-8 bytes are joined pair by pair in the order of the merges. Every text can be encoded and comes back unchanged (a lone surrogate,
/// which has no UTF-8 form, comes back as U+FFFD).
/// </summary>
public sealed class BytePair : ITokenizer
{
    private const int MostCachedWords = 50_000;

    /// <summary>The printable character that stands for each byte in the files: itself where it has one, else U+0100 and on.</summary>
    internal static readonly char[] ByteSymbols = MakeByteSymbols();

    private static readonly Dictionary<char, byte> SymbolBytes = ByteSymbols.Select((symbol, b) => (symbol, b)).ToDictionary(e => e.symbol, e => (byte)e.b);

    private readonly Dictionary<string, int> _ids;
    private readonly string?[] _tokens;
    private readonly int[] _byteIds;
    private readonly Dictionary<(int Left, int Right), (int Rank, int Id)> _merges = [];
    private readonly IReadOnlyList<string> _specials;
    private readonly HashSet<int> _specialIds;
    private readonly int? _appended;
    private readonly ConcurrentDictionary<string, int[]> _words = new();

    /// <param name="file">Named in errors.</param>
    /// <param name="vocabulary">Id by token, in byte symbols.</param>
    /// <param name="merges">Pairs of tokens, the first to be joined first.</param>
    /// <param name="specials">Tokens that are matched whole, before anything else.</param>
    /// <param name="appended">The token that ends every encoded text, if any.</param>
    public BytePair(string file, IReadOnlyDictionary<string, int> vocabulary, IReadOnlyList<(string Left, string Right)> merges,
        IReadOnlyCollection<string> specials, string? appended = null)
    {
        _ids = new(vocabulary);
        var size = vocabulary.Count == 0 ? 0 : vocabulary.Values.Max() + 1L;
        if (vocabulary.Values.Any(id => id < 0) || size > 4L * vocabulary.Count + 1024)
            throw new TokenizerException(file, "vocabulary", $"ids reach {size - 1} with {vocabulary.Count} tokens; they must be numbers from 0 on");
        _tokens = new string?[size];
        foreach (var (token, id) in vocabulary)
            _tokens[id] = token;
        _byteIds = [.. ByteSymbols.Select(symbol => Id(symbol.ToString(), "a byte's symbol"))];
        for (var rank = 0; rank < merges.Count; rank++)
        {
            var (left, right) = merges[rank];
            _merges.TryAdd((Id(left, $"merge {rank}"), Id(right, $"merge {rank}")), (rank, Id(left + right, $"merge {rank}")));
        }
        _specials = [.. specials.OrderByDescending(special => special.Length)];
        _specialIds = [.. specials.Select(special => Id(special, "a special token"))];
        _appended = appended is null ? null : Id(appended, "the end-of-sequence token");
        if (_appended is { } end)
            _specialIds.Add(end);

        int Id(string token, string what) => _ids.TryGetValue(token, out var id) ? id
            : throw new TokenizerException(file, what, $"'{token}' is not in the vocabulary; the files belong to different tokenizers");
    }

    public int VocabularySize => _tokens.Length;

    public IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true)
    {
        var ids = new List<int>();
        var start = 0;
        while (NextSpecial(text, start) is { } special)
        {
            EncodeWords(text.AsSpan(start, special.At - start), ids);
            ids.Add(_ids[special.Token]);
            start = special.At + special.Token.Length;
        }
        EncodeWords(text.AsSpan(start), ids);
        if (addSpecialTokens && _appended is { } end)
            ids.Add(end);
        return ids;
    }

    public string Decode(IEnumerable<int> ids, bool skipSpecialTokens = true)
    {
        var bytes = new List<byte>();
        foreach (var id in ids)
        {
            var token = TokenOf(id) ?? throw new ArgumentOutOfRangeException(nameof(ids), id, $"is no token; ids are 0 to {VocabularySize - 1}");
            if (_specialIds.Contains(id))
            {
                if (!skipSpecialTokens)
                    bytes.AddRange(Encoding.UTF8.GetBytes(token));
                continue;
            }
            foreach (var symbol in token)
                bytes.Add(SymbolBytes.TryGetValue(symbol, out var b) ? b : (byte)'?');
        }
        return Encoding.UTF8.GetString([.. bytes]);
    }

    public int? IdOf(string token) => _ids.TryGetValue(token, out var id) ? id : null;

    public string? TokenOf(int id) => id >= 0 && id < _tokens.Length ? _tokens[id] : null;

    /// <summary>GPT-2's words: contractions, then letters, digits or other signs with at most one space before them, then white space.</summary>
    internal static List<Range> Words(ReadOnlySpan<char> text)
    {
        var words = new List<Range>();
        for (var start = 0; start < text.Length;)
        {
            var end = start + WordLength(text[start..]);
            words.Add(start..end);
            start = end;
        }
        return words;
    }

    private static int WordLength(ReadOnlySpan<char> text)
    {
        foreach (var contraction in (ReadOnlySpan<string>)["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"])
            if (text.StartsWith(contraction, StringComparison.Ordinal))
                return contraction.Length;
        var lead = text[0] == ' ' && text.Length > 1 ? 1 : 0;
        var kind = KindAt(text[lead..], out _);
        if (kind != Kind.Space)
            return lead + RunLength(text[lead..], kind);
        var spaces = RunLength(text, Kind.Space);
        // The last space before a word belongs to the word.
        return spaces == text.Length || spaces == 1 ? spaces : spaces - 1;
    }

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

    private (int At, string Token)? NextSpecial(string text, int start)
    {
        (int At, string Token)? first = null;
        foreach (var special in _specials) // longest first, so that it wins at the same place
            if (text.IndexOf(special, start, StringComparison.Ordinal) is >= 0 and var at && (first is null || at < first.Value.At))
                first = (at, special);
        return first;
    }

    private void EncodeWords(ReadOnlySpan<char> text, List<int> ids)
    {
        foreach (var range in Words(text))
        {
            var word = text[range].ToString();
            if (!_words.TryGetValue(word, out var encoded))
            {
                encoded = EncodeWord(word);
                if (_words.Count < MostCachedWords && word.Length < 64)
                    _words.TryAdd(word, encoded);
            }
            ids.AddRange(encoded);
        }
    }

    /// <summary>
    /// Joins the best pair until there is none. A queue of pairs over a linked list keeps it n log n: a word may be a megabyte long.
    /// </summary>
    private int[] EncodeWord(string word)
    {
        var symbols = Encoding.UTF8.GetBytes(word).Select(b => _byteIds[b]).ToArray();
        var next = Enumerable.Range(1, symbols.Length).ToArray(); // symbols.Length ends the list
        var previous = Enumerable.Range(-1, symbols.Length).ToArray();
        var queue = new PriorityQueue<(int At, int Left, int Right), (int Rank, int At)>();
        for (var i = 0; i + 1 < symbols.Length; i++)
            Offer(i);
        const int joined = -1;
        while (queue.TryDequeue(out var pair, out _))
        {
            var (at, after) = (pair.At, next[pair.At]);
            if (symbols[at] != pair.Left || after >= symbols.Length || symbols[after] != pair.Right)
                continue; // one of the two was joined to another symbol since
            symbols[at] = _merges[(pair.Left, pair.Right)].Id;
            symbols[after] = joined;
            next[at] = next[after];
            if (next[at] < symbols.Length)
            {
                previous[next[at]] = at;
                Offer(at);
            }
            if (previous[at] >= 0)
                Offer(previous[at]);
        }
        return [.. symbols.Where(symbol => symbol != joined)];

        void Offer(int at)
        {
            var (left, right) = (symbols[at], symbols[next[at]]);
            if (_merges.TryGetValue((left, right), out var merge))
                queue.Enqueue((at, left, right), (merge.Rank, at));
        }
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
