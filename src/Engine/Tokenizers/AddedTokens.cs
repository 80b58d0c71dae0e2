using System.Buffers;

namespace MendCluster.Engine.Tokenizers;

/// <summary>A token that is matched whole, before the text is cut up or normalised.</summary>
/// <param name="Special">Left out when ids are decoded for a reader.</param>
/// <param name="StripLeft">Takes the white space before it along.</param>
/// <param name="StripRight">Takes the white space after it along.</param>
internal sealed record AddedToken(string Text, int Id, bool Special = true, bool StripLeft = false, bool StripRight = false);

/// <summary>Finds added tokens in a text: the leftmost, and the longest of those that start there.</summary>
internal sealed class AddedTokens
{
    private readonly AddedToken[] _longestFirst;
    private readonly SearchValues<string> _texts;
    private readonly HashSet<int> _special;

    public AddedTokens(string file, IReadOnlyCollection<AddedToken> tokens)
    {
        if (tokens.Any(token => token.Text.Length == 0))
            throw new TokenizerException(file, "added tokens", "one is the empty text, which would match everywhere; remove it");
        _longestFirst = [.. tokens.OrderByDescending(token => token.Text.Length)];
        _texts = SearchValues.Create([.. tokens.Select(token => token.Text)], StringComparison.Ordinal);
        _special = [.. tokens.Where(token => token.Special).Select(token => token.Id)];
    }

    public bool IsSpecial(int id) => _special.Contains(id);

    /// <returns>The next token at or after <paramref name="start"/>, with the white space that it takes along; null: there is none.</returns>
    public (int Start, int End, int Id)? Next(string text, int start)
    {
        var at = text.AsSpan(start).IndexOfAny(_texts);
        if (at < 0)
            return null;
        at += start;
        var token = _longestFirst.First(candidate => text.AsSpan(at).StartsWith(candidate.Text, StringComparison.Ordinal));
        var end = at + token.Text.Length;
        while (token.StripLeft && at > start && char.IsWhiteSpace(text[at - 1]))
            at--;
        while (token.StripRight && end < text.Length && char.IsWhiteSpace(text[end]))
            end++;
        return (at, end, token.Id);
    }
}
