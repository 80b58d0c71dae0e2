using System.Text;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// BERT's WordPiece: of each word the longest piece that the vocabulary has is taken, then the longest continuation ("##…") of what is
/// left. A word that cannot be cut so is unknown. What a word is, normaliser and splitters say: BERT's clean the text and cut it at white
/// space, at punctuation and around every Chinese character; in lower-case vocabularies letters are lowered and lose their accents.
/// </summary>
public sealed class WordPiece : Tokenizer
{
    private readonly WordPieceOptions _options;
    private readonly int _unknown;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _starts;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _continuations;
    private readonly int _longestPiece;

    /// <param name="file">Named in errors.</param>
    internal WordPiece(string file, Vocabulary vocabulary, WordPieceOptions options, Pipeline pipeline)
        : base(vocabulary, pipeline)
    {
        _options = options;
        _unknown = vocabulary.Require(file, "the unknown token", options.Unknown);
        var starts = new Dictionary<string, int>(StringComparer.Ordinal);
        var continuations = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var id = 0; id < vocabulary.Size; id++)
            if (vocabulary.TokenOf(id) is { Length: > 0 } token && vocabulary.IdInModel(token) is not null)
            {
                starts.Add(token, id);
                if (token.StartsWith(options.Continuation, StringComparison.Ordinal))
                    continuations.Add(token[options.Continuation.Length..], id);
                _longestPiece = Math.Max(_longestPiece, token.Length);
            }
        _starts = starts.GetAlternateLookup<ReadOnlySpan<char>>();
        _continuations = continuations.GetAlternateLookup<ReadOnlySpan<char>>();
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

    private protected override void EncodePiece(string piece, List<int> ids)
    {
        ReadOnlySpan<char> word = piece;
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
}

/// <param name="LongestWord">In characters; a longer one is unknown.</param>
internal sealed record WordPieceOptions(string Unknown = "[UNK]", string Continuation = "##", int LongestWord = 100);
