using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace MendCluster.Engine.Tokenizers;

/// <summary>What is done to a text before it is cut into words, as Hugging Face's tokenizers name it.</summary>
internal delegate string Normalizer(string text);

internal static class Normalizers
{
    public static Normalizer Sequence(IReadOnlyList<Normalizer> steps) => text => steps.Aggregate(text, (result, step) => step(result));

    /// <param name="cleanText">Control characters go, white space of any kind becomes a space.</param>
    /// <param name="chineseAlone">A space on both sides of every Chinese character.</param>
    public static Normalizer Bert(bool cleanText, bool chineseAlone, bool stripAccents, bool lowerCase) => text =>
    {
        if (cleanText || chineseAlone)
        {
            var result = new StringBuilder(text.Length);
            foreach (var rune in text.EnumerateRunes()) // a lone surrogate comes as U+FFFD
                if (cleanText && UnicodeTables.IsRemoved(rune))
                    continue;
                else if (cleanText && Rune.IsWhiteSpace(rune))
                    result.Append(' ');
                else if (chineseAlone && UnicodeTables.IsChinese(rune))
                    result.Append(' ').Append(rune.ToString()).Append(' ');
                else
                    result.Append(rune.ToString());
            text = result.ToString();
        }
        if (stripAccents)
            text = Without(UnicodeTables.Decompose(text), UnicodeTables.IsNonspacingMark);
        return lowerCase ? UnicodeTables.Lower(text) : text;
    };

    public static Normalizer StripAccents => text => Without(text, UnicodeTables.IsMark);

    public static Normalizer Strip(bool left, bool right) => text => left && right ? text.Trim() : left ? text.TrimStart() : right
        ? text.TrimEnd() : text;

    public static Normalizer Replace(string pattern, string content) => text => text.Replace(pattern, content, StringComparison.Ordinal);

    public static Normalizer Replace(Regex pattern, string content) => text => pattern.Replace(text, _ => content);

    public static Normalizer Prepend(string prefix) => text => text.Length == 0 ? text : prefix + text;

    /// <summary>
    /// As the library does it: whole user-perceived characters of less than 6 bytes by the shortest entry that they begin with, else
    /// character by character. SentencePiece itself takes the longest entry, wherever it ends (<see cref="UnigramNormalizer"/>).
    /// </summary>
    public static Normalizer Precompiled(CharsMap map) => text =>
    {
        var result = new StringBuilder(text.Length);
        var parts = StringInfo.GetTextElementEnumerator(text);
        while (parts.MoveNext())
        {
            var part = parts.GetTextElement();
            if (Encoding.UTF8.GetByteCount(part) < 6 && map.First(part) is { } whole)
                result.Append(whole);
            else
                foreach (var rune in part.EnumerateRunes())
                    result.Append(map.First(rune.ToString()) ?? rune.ToString());
        }
        return result.ToString();
    };

    /// <summary>SentencePiece's own rule for odd spaces and control characters.</summary>
    public static string Nmt(string text)
    {
        var result = new StringBuilder(text.Length);
        foreach (var c in text)
            if (c is (>= '\u0001' and <= '\u0008') or '\u000B' or (>= '\u000E' and <= '\u001F') or '\u007F' or '\u008F' or '\u009F')
                continue;
            else
                result.Append(c is '\t' or '\n' or '\f' or '\r' or '\u1680' or (>= '\u200B' and <= '\u200F') or '\u2028' or '\u2029' or '\u2581' or '\uFEFF' or '\uFFFD' ? ' ' : c);
        return result.ToString();
    }

    private static string Without(string text, Func<Rune, bool> isLeftOut)
    {
        var result = new StringBuilder(text.Length);
        foreach (var rune in text.EnumerateRunes())
            if (!isLeftOut(rune))
                result.Append(rune.ToString());
        return result.ToString();
    }
}
