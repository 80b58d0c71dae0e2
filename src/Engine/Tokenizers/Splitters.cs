using System.Text;

namespace MendCluster.Engine.Tokenizers;

/// <summary>A piece of a text.</summary>
/// <param name="IsFirst">Whether it begins where the text does.</param>
internal readonly record struct TextPart(string Text, bool IsFirst);

/// <summary>Cuts a piece into smaller ones, as Hugging Face's pre-tokenizers do. None of them is empty.</summary>
internal delegate IEnumerable<TextPart> Splitter(TextPart part);

internal static class Splitters
{
    /// <summary>At white space, which is dropped.</summary>
    public static IEnumerable<TextPart> Spaces(TextPart part)
    {
        var start = 0;
        for (var i = 0; i <= part.Text.Length; i++)
            if (i == part.Text.Length || char.IsWhiteSpace(part.Text[i])) // all white space is below U+10000
            {
                if (i > start)
                    yield return new(part.Text[start..i], part.IsFirst && start == 0);
                start = i + 1;
            }
    }

    /// <summary>At white space, and every punctuation mark alone.</summary>
    public static IEnumerable<TextPart> Bert(TextPart part) =>
        Spaces(part).SelectMany(word => Cut(word, rune => UnicodeTables.IsPunctuation(rune) ? Class.Alone : Class.Other));

    /// <summary>Runs of digits, or every digit alone.</summary>
    public static Splitter Digits(bool alone) => part =>
        Cut(part, rune => !UnicodeTables.IsNumber(rune) ? Class.Other : alone ? Class.Alone : Class.Together);

    /// <summary>Spaces become ▁, one is put in front, and each begins a new piece.</summary>
    public static Splitter Metaspace(Prepended prepended, bool splits) => part =>
    {
        const char space = UnigramNormalizer.Space;
        var text = part.Text.Replace(' ', space);
        if (text[0] != space && (prepended == Prepended.Always || (prepended == Prepended.First && part.IsFirst)))
            text = space + text;
        if (!splits)
            return [new(text, part.IsFirst)];
        var pieces = new List<TextPart>();
        var start = 0;
        for (var i = 1; i <= text.Length; i++)
            if (i == text.Length || text[i] == space)
            {
                pieces.Add(new(text[start..i], part.IsFirst && start == 0));
                start = i;
            }
        return pieces;
    };

    private static IEnumerable<TextPart> Cut(TextPart part, Func<Rune, Class> classOf)
    {
        var text = part.Text;
        int width;
        var (start, before) = (0, (Class?)null);
        for (var i = 0; i < text.Length; i += width)
        {
            Rune.DecodeFromUtf16(text.AsSpan(i), out var rune, out width);
            var kind = classOf(rune);
            if (before is not null && (kind == Class.Alone || kind != before))
            {
                yield return new(text[start..i], part.IsFirst && start == 0);
                start = i;
            }
            before = kind;
        }
        if (start < text.Length)
            yield return new(text[start..], part.IsFirst && start == 0);
    }

    private enum Class
    {
        Other,
        Together,
        Alone,
    }
}

/// <summary>Where Metaspace puts a ▁ in front.</summary>
internal enum Prepended
{
    Never,
    First,
    Always,
}
