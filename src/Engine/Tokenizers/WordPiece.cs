using System.Globalization;
using System.Text;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// BERT's WordPiece: the text is cleaned, cut at white space, at punctuation and around every Chinese character; of each word the longest
/// piece that the vocabulary has is taken, then the longest continuation ("##…") of what is left. A word that cannot be cut so is unknown.
/// In lower-case vocabularies letters are lowered one by one (Σ becomes σ also at the end of a word) and lose their accents.
/// </summary>
public sealed class WordPiece : Tokenizer
{
    private readonly WordPieceOptions _options;
    private readonly int _unknown;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _starts;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _continuations;
    private readonly int _longestPiece;

    /// <param name="file">Named in errors.</param>
    internal WordPiece(string file, Vocabulary vocabulary, WordPieceOptions options, IReadOnlyCollection<AddedToken> added, Frame frame)
        : base(file, vocabulary, added, frame)
    {
        _options = options;
        _unknown = vocabulary.Require(file, "the unknown token", options.Unknown);
        var starts = new Dictionary<string, int>(StringComparer.Ordinal);
        var continuations = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var id = 0; id < vocabulary.Size; id++)
            if (vocabulary.TokenOf(id) is { Length: > 0 } token)
            {
                starts.Add(token, id);
                if (token.StartsWith(options.Continuation, StringComparison.Ordinal))
                    continuations.Add(token[options.Continuation.Length..], id);
                _longestPiece = Math.Max(_longestPiece, token.Length);
            }
        _starts = starts.GetAlternateLookup<ReadOnlySpan<char>>();
        _continuations = continuations.GetAlternateLookup<ReadOnlySpan<char>>();
    }

    private protected override void EncodePart(ReadOnlySpan<char> text, List<int> ids)
    {
        var word = new StringBuilder();
        foreach (var rune in text.EnumerateRunes()) // a lone surrogate comes as U+FFFD
        {
            if (IsSpace(rune))
                EndWord();
            else if (IsRemoved(rune))
                continue;
            else if (!_options.LowerCase)
                Append(rune);
            else if (rune.IsAscii)
                Append(Rune.ToLowerInvariant(rune));
            else
                foreach (var left in Accents.Without(Rune.ToLowerInvariant(rune)).EnumerateRunes())
                    Append(left);
        }
        EndWord();

        void Append(Rune rune)
        {
            var alone = StandsAlone(rune);
            if (alone)
                EndWord();
            word.Append(rune.ToString());
            if (alone)
                EndWord();
        }

        void EndWord()
        {
            if (word.Length > 0)
                EncodeWord(word.ToString(), ids);
            word.Clear();
        }
    }

    private protected override string DecodeKept(List<int> ids)
    {
        var text = new StringBuilder();
        foreach (var id in ids)
        {
            var token = TokenOf(id)!;
            if (text.Length > 0 && token.StartsWith(_options.Continuation, StringComparison.Ordinal))
                text.Append(token, _options.Continuation.Length, token.Length - _options.Continuation.Length);
            else
                text.Append(text.Length > 0 ? " " : "").Append(token);
        }
        // As Hugging Face's clean_up_tokenization_spaces, in its order.
        foreach (var mark in (ReadOnlySpan<string>)[".", "?", "!", ","])
            text.Replace(" " + mark, mark);
        text.Replace(" ' ", "'");
        foreach (var ending in (ReadOnlySpan<string>)["n't", "'m", "'s", "'ve", "'re"])
            text.Replace(" " + ending, ending);
        return text.ToString();
    }

    private void EncodeWord(ReadOnlySpan<char> word, List<int> ids)
    {
        if (Characters(word) > _options.LongestWord)
        {
            ids.Add(_unknown);
            return;
        }
        var first = ids.Count;
        for (var pieces = _starts; !word.IsEmpty; pieces = _continuations)
        {
            var (length, id) = (Math.Min(word.Length, _longestPiece), 0);
            while (length > 0 && !pieces.TryGetValue(word[..length], out id))
                length--;
            if (length == 0)
            {
                ids.RemoveRange(first, ids.Count - first);
                ids.Add(_unknown);
                return;
            }
            ids.Add(id);
            word = word[length..];
        }
    }

    private static int Characters(ReadOnlySpan<char> word)
    {
        var count = 0;
        foreach (var _ in word.EnumerateRunes())
            count++;
        return count;
    }

    private static bool IsSpace(Rune rune) => rune.Value is not (0x0B or 0x0C or 0x85) && Rune.IsWhiteSpace(rune);

    private static bool IsRemoved(Rune rune) => rune == Rune.ReplacementChar || Rune.GetUnicodeCategory(rune)
        is UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned;

    private static bool StandsAlone(Rune rune) => IsPunctuation(rune) || IsChinese(rune);

    /// <summary>BERT counts all of ASCII that is neither letter nor digit, "$" and "^" too.</summary>
    private static bool IsPunctuation(Rune rune) => rune.IsAscii
        ? rune.Value > ' ' && !Rune.IsLetterOrDigit(rune) && rune.Value != 0x7F
        : Rune.GetUnicodeCategory(rune) is >= UnicodeCategory.ConnectorPunctuation and <= UnicodeCategory.OtherPunctuation;

    /// <summary>The blocks of unified and compatibility ideographs that BERT lists (not Japanese kana, not Hangul).</summary>
    private static bool IsChinese(Rune rune) => rune.Value
        is >= 0x4E00 and <= 0x9FFF or >= 0x3400 and <= 0x4DBF or >= 0x20000 and <= 0x2A6DF or >= 0x2A700 and <= 0x2B73F
        or >= 0x2B740 and <= 0x2B81F or >= 0x2B820 and <= 0x2CEAF or >= 0xF900 and <= 0xFAFF or >= 0x2F800 and <= 0x2FA1F;
}

/// <param name="LowerCase">Letters are lowered and lose their accents.</param>
/// <param name="LongestWord">In characters; a longer one is unknown.</param>
internal sealed record WordPieceOptions(bool LowerCase = true, string Unknown = "[UNK]", string Continuation = "##", int LongestWord = 100);
