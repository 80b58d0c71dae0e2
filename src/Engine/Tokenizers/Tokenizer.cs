using System.Runtime.InteropServices;

namespace MendCluster.Engine.Tokenizers;

/// <summary>What all kinds share: added tokens are cut out of the text first, and special ones are put around it.</summary>
public abstract class Tokenizer : ITokenizer
{
    private readonly AddedTokens _added;
    private readonly Frame _frame;

    private protected Tokenizer(string file, Vocabulary vocabulary, IReadOnlyCollection<AddedToken> added, Frame frame)
    {
        Vocabulary = vocabulary;
        _added = new(file, added);
        _frame = frame;
    }

    public int VocabularySize => Vocabulary.Size;

    private protected Vocabulary Vocabulary { get; }

    public IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true)
    {
        ArgumentNullException.ThrowIfNull(text);
        var ids = new List<int>();
        if (addSpecialTokens)
            ids.AddRange(_frame.Before);
        var start = 0;
        while (_added.Next(text, start) is { } found)
        {
            EncodePart(text.AsSpan(start, found.Start - start), ids);
            ids.Add(found.Id);
            start = found.End;
        }
        EncodePart(text.AsSpan(start), ids);
        if (addSpecialTokens)
            End(ids);
        return ids;
    }

    /// <summary>Encodes and cuts the text's own tokens at the end, so that with the special ones around them there are at most so many ids.</summary>
    /// <exception cref="ArgumentOutOfRangeException">Not even the special tokens fit.</exception>
    public IReadOnlyList<int> EncodeAtMost(string text, int length)
    {
        var room = length - _frame.Before.Length - _frame.After.Length;
        ArgumentOutOfRangeException.ThrowIfNegative(room, nameof(length));
        List<int> ids = [.. _frame.Before, .. Encode(text, addSpecialTokens: false).Take(room)];
        End(ids);
        return ids;
    }

    public string Decode(IEnumerable<int> ids, bool skipSpecialTokens = true)
    {
        ArgumentNullException.ThrowIfNull(ids);
        var kept = new List<int>();
        foreach (var id in ids)
        {
            ArgumentOutOfRangeException.ThrowIfNegative(id, nameof(ids));
            if (TokenOf(id) is not null && !(skipSpecialTokens && _added.IsSpecial(id)))
                kept.Add(id);
        }
        return DecodeKept(kept);
    }

    public int? IdOf(string token) => Vocabulary.IdOf(token);

    public string? TokenOf(int id) => Vocabulary.TokenOf(id);

    private void End(List<int> ids)
    {
        if (!_frame.EndsOnce || !CollectionsMarshal.AsSpan(ids).EndsWith(_frame.After))
            ids.AddRange(_frame.After);
    }

    /// <summary>Appends the ids of a text without added tokens.</summary>
    private protected abstract void EncodePart(ReadOnlySpan<char> text, List<int> ids);

    /// <param name="ids">All have a token.</param>
    private protected abstract string DecodeKept(List<int> ids);
}

/// <summary>Ids that stand before and after every text.</summary>
/// <param name="EndsOnce">A text that ends with <paramref name="After"/> as it is gets no second one; so T5 treats a written &lt;/s&gt;.</param>
internal sealed record Frame(int[] Before, int[] After, bool EndsOnce = false)
{
    public static readonly Frame None = new([], []);
}
