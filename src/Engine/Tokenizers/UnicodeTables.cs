using System.Globalization;
using System.Text;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// Unicode's normal forms and the classes of characters that Hugging Face's tokenizers go by. <see cref="string.Normalize()"/> cannot be
/// used: in invariant globalisation it changes nothing. The classes are .NET's but for a few hundred characters of other versions of
/// Unicode; the tables are in UnicodeTables.txt.
/// </summary>
internal static class UnicodeTables
{
    private const int FirstSyllable = 0xAC00, FirstLeading = 0x1100, FirstVowel = 0x1161, FirstTrailing = 0x11A7;
    private const int Leadings = 19, Vowels = 21, Trailings = 28, Syllables = Leadings * Vowels * Trailings;

    private static readonly Dictionary<string, string[]> Sections = ReadSections();
    private static readonly Dictionary<int, int[]> Canonical = Mappings("canonical");
    private static readonly Dictionary<int, int[]> Compatible = Mappings("compatible");
    private static readonly Dictionary<int, int> Order = ReadOrder();
    private static readonly Dictionary<(int First, int Second), int> Compositions = ReadCompositions();
    private static readonly HashSet<int> OtherwiseRemoved = [.. Set("removed")];
    private static readonly HashSet<int> OtherwisePunctuation = [.. Set("punctuation")];
    private static readonly HashSet<int> OtherwiseNonspacing = [.. Set("nonspacing")];
    private static readonly HashSet<int> OtherwiseMark = [.. Set("mark")];
    private static readonly HashSet<int> OtherwiseNumber = [.. Set("number")];
    private static readonly Dictionary<int, int[]> AlsoLowered = Mappings("lower");

    /// <summary>NFD, or NFKD: characters taken apart, marks in canonical order.</summary>
    /// <param name="compatible">Also what looks different but means the same: ﬁ, ①, full-width letters.</param>
    public static string Decompose(string text, bool compatible = false) => Text(Decomposed(text, compatible));

    /// <summary>NFC, or NFKC: taken apart and put together again.</summary>
    public static string Compose(string text, bool compatible = false)
    {
        var codes = Decomposed(text, compatible);
        var (starter, kept) = (-1, 0);
        for (var i = 0; i < codes.Count; i++)
        {
            var code = codes[i];
            // A mark is blocked by one between it and the starter that is of its order or a later one.
            var blocked = kept > starter + 1 && (OrderOf(codes[kept - 1]) == 0 || OrderOf(codes[kept - 1]) >= OrderOf(code));
            if (starter >= 0 && !blocked && Pair(codes[starter], code) is { } composed)
            {
                codes[starter] = composed;
                continue;
            }
            if (OrderOf(code) == 0)
                starter = kept;
            codes[kept++] = code;
        }
        codes.RemoveRange(kept, codes.Count - kept);
        return Text(codes);
    }

    /// <summary>Letter by letter, as Rust's char::to_lowercase: İ becomes two characters, Σ is σ also at the end of a word.</summary>
    public static string Lower(string text)
    {
        var lower = new StringBuilder(text.Length);
        foreach (var rune in text.EnumerateRunes())
            lower.Append(rune.Value == 0x130 ? "i\u0307" : AlsoLowered.TryGetValue(rune.Value, out var other)
                ? new Rune(other[0]).ToString() : Rune.ToLowerInvariant(rune).ToString());
        return lower.ToString();
    }

    /// <summary>A control character, an invisible one or one of private use, other than tab and line ends.</summary>
    public static bool IsRemoved(Rune rune) => rune == Rune.ReplacementChar
        || (rune.Value is not ('\t' or '\n' or '\r') && Rune.GetUnicodeCategory(rune)
        is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.PrivateUse) != OtherwiseRemoved.Contains(rune.Value);

    /// <summary>BERT counts all of ASCII that is neither letter nor digit, "$" and "^" too.</summary>
    public static bool IsPunctuation(Rune rune) => rune.IsAscii
        ? rune.Value > ' ' && !Rune.IsLetterOrDigit(rune) && rune.Value != 0x7F
        : Rune.GetUnicodeCategory(rune) is >= UnicodeCategory.ConnectorPunctuation and <= UnicodeCategory.OtherPunctuation
            != OtherwisePunctuation.Contains(rune.Value);

    public static bool IsNonspacingMark(Rune rune) =>
        (Rune.GetUnicodeCategory(rune) == UnicodeCategory.NonSpacingMark) != OtherwiseNonspacing.Contains(rune.Value);

    public static bool IsMark(Rune rune) => Rune.GetUnicodeCategory(rune)
        is UnicodeCategory.NonSpacingMark or UnicodeCategory.SpacingCombiningMark or UnicodeCategory.EnclosingMark != OtherwiseMark.Contains(rune.Value);

    public static bool IsNumber(Rune rune) => Rune.IsNumber(rune) != OtherwiseNumber.Contains(rune.Value);

    /// <summary>The blocks of unified and compatibility ideographs that the library lists (not Japanese kana, not Hangul).</summary>
    public static bool IsChinese(Rune rune) => rune.Value is >= 0x4E00 and <= 0x9FFF or >= 0x3400 and <= 0x4DBF or >= 0x20000 and <= 0x2A6DF
        or >= 0x2A700 and <= 0x2B81F or >= 0x2B920 and <= 0x2CEAF or >= 0xF900 and <= 0xFAFF or >= 0x2F800 and <= 0x2FA1F;

    /// <summary>What a regular expression calls \w.</summary>
    public static bool IsWord(Rune rune) => rune.Value is 0x200C or 0x200D
        || Rune.GetUnicodeCategory(rune) is <= UnicodeCategory.EnclosingMark
        or UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.ConnectorPunctuation;

    private static List<int> Decomposed(string text, bool compatible)
    {
        var codes = new List<int>(text.Length);
        foreach (var rune in text.EnumerateRunes()) // a lone surrogate comes as U+FFFD
            Add(rune.Value);
        for (int start = 0, end; start < codes.Count; start = end)
        {
            for (end = start + 1; OrderOf(codes[start]) > 0 && end < codes.Count && OrderOf(codes[end]) > 0;)
                end++;
            foreach (var (i, code) in codes[start..end].OrderBy(OrderOf).Index()) // of one order they keep their places
                codes[start + i] = code;
        }
        return codes;

        void Add(int code)
        {
            if (code is >= FirstSyllable and < FirstSyllable + Syllables)
            {
                var (block, trailing) = Math.DivRem(code - FirstSyllable, Trailings);
                codes.AddRange([FirstLeading + block / Vowels, FirstVowel + block % Vowels]);
                if (trailing > 0)
                    codes.Add(FirstTrailing + trailing);
            }
            else if (Canonical.TryGetValue(code, out var parts) || (compatible && Compatible.TryGetValue(code, out parts)))
                foreach (var part in parts)
                    Add(part);
            else
                codes.Add(code);
        }
    }

    private static int? Pair(int first, int second)
    {
        if (first is >= FirstLeading and < FirstLeading + Leadings && second is >= FirstVowel and < FirstVowel + Vowels)
            return FirstSyllable + ((first - FirstLeading) * Vowels + second - FirstVowel) * Trailings;
        if (first is >= FirstSyllable and < FirstSyllable + Syllables && (first - FirstSyllable) % Trailings == 0
            && second is > FirstTrailing and < FirstTrailing + Trailings)
            return first + second - FirstTrailing;
        return Compositions.TryGetValue((first, second), out var composed) ? composed : null;
    }

    private static int OrderOf(int code) => code < 0x300 ? 0 : Order.GetValueOrDefault(code);

    private static string Text(List<int> codes)
    {
        var text = new StringBuilder(codes.Count);
        foreach (var code in codes)
            text.Append(new Rune(code).ToString());
        return text.ToString();
    }

    private static Dictionary<string, string[]> ReadSections()
    {
        using var stream = typeof(UnicodeTables).Assembly.GetManifestResourceStream("UnicodeTables.txt")!;
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd().Split('[')[1..].Select(section => section.Split(']'))
            .ToDictionary(section => section[0], section => section[1].Split([' ', '\n'], StringSplitOptions.RemoveEmptyEntries));
    }

    /// <summary>C0=41+300: what C0 is taken apart into.</summary>
    private static Dictionary<int, int[]> Mappings(string section) => Sections[section].Select(entry => entry.Split('='))
        .ToDictionary(entry => Number(entry[0]), entry => entry[1].Split('+').Select(Number).ToArray());

    private static IEnumerable<int> Set(string section) => Sections[section].SelectMany(Range);

    private static IEnumerable<int> Range(string range)
    {
        var ends = range.Split('-');
        return Enumerable.Range(Number(ends[0]), Number(ends[^1]) - Number(ends[0]) + 1);
    }

    /// <summary>=230 and after it the characters of that combining class.</summary>
    private static Dictionary<int, int> ReadOrder()
    {
        var (order, current) = (new Dictionary<int, int>(), 0);
        foreach (var entry in Sections["order"])
            if (entry[0] == '=')
                current = int.Parse(entry.AsSpan(1), CultureInfo.InvariantCulture);
            else
                foreach (var code in Range(entry))
                    order[code] = current;
        return order;
    }

    private static Dictionary<(int First, int Second), int> ReadCompositions()
    {
        var excluded = Set("excluded").ToHashSet();
        return Canonical.Where(entry => entry.Value.Length == 2 && !excluded.Contains(entry.Key))
            .ToDictionary(entry => (entry.Value[0], entry.Value[1]), entry => entry.Key);
    }

    private static int Number(string hexadecimal) => int.Parse(hexadecimal, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
}
