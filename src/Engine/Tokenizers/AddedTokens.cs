using System.Buffers;
using System.Text;

namespace MendCluster.Engine.Tokenizers;

/// <summary>A token that is matched whole.</summary>
/// <param name="Special">Left out when ids are decoded for a reader.</param>
/// <param name="StripLeft">Takes the white space before it along.</param>
/// <param name="StripRight">Takes the white space after it along.</param>
/// <param name="Normalized">Looked for in the normalised text, in its own normalised form; otherwise before.</param>
/// <param name="SingleWord">Not matched inside a word.</param>
internal sealed record AddedToken(string Text, int Id, bool Special = true, bool StripLeft = false, bool StripRight = false,
    bool Normalized = false, bool SingleWord = false);

/// <summary>Cuts added tokens out of a text: at each place the longest, from left to right; what is left over is normalised.</summary>
internal sealed class AddedTokens
{
    private readonly Normalizer? _normalize;
    private readonly Matcher _before, _after;
    private readonly HashSet<int> _special;

    public AddedTokens(IReadOnlyCollection<AddedToken> tokens, Normalizer? normalize)
    {
        _normalize = normalize;
        _before = new(tokens.Where(token => !token.Normalized));
        _after = new(tokens.Where(token => token.Normalized)
            .Select(token => normalize is null ? token : token with { Text = normalize(token.Text) })
                .Where(token => token.Text.Length > 0));
        _special = [.. tokens.Where(token => token.Special).Select(token => token.Id)];
    }

    public bool IsSpecial(int id) => _special.Contains(id);

    /// <returns>The parts in order, none empty; with an id those that are an added token.</returns>
    public IEnumerable<(TextPart Part, int? Id)> Cut(string text)
    {
        foreach (var found in _before.Cut(new(text, true)))
            if (found.Id is not null)
                yield return found;
            else
                foreach (var inner in _after.Cut(_normalize is null ? found.Part : found.Part with { Text = _normalize(found.Part.Text) }))
                    yield return inner;
    }

    private sealed class Matcher
    {
        private readonly AddedToken[] _longestFirst;
        private readonly SearchValues<string> _texts;

        public Matcher(IEnumerable<AddedToken> tokens)
        {
            _longestFirst = [.. tokens.OrderByDescending(token => token.Text.Length)];
            _texts = SearchValues.Create([.. _longestFirst.Select(token => token.Text)], StringComparison.Ordinal);
        }

        public IEnumerable<(TextPart Part, int? Id)> Cut(TextPart part)
        {
            var text = part.Text;
            var (start, from) = (0, 0);
            while (_longestFirst.Length > 0 && text.AsSpan(from).IndexOfAny(_texts) is var offset and >= 0)
            {
                var at = from + offset;
                var token = _longestFirst.First(candidate => text.AsSpan(at).StartsWith(candidate.Text, StringComparison.Ordinal));
                var end = from = at + token.Text.Length;
                if (token.SingleWord && (EndsWithWord(text.AsSpan(0, at)) || StartsWithWord(text.AsSpan(end))))
                    continue;
                while (token.StripLeft && at > start && char.IsWhiteSpace(text[at - 1]))
                    at--;
                while (token.StripRight && end < text.Length && char.IsWhiteSpace(text[end]))
                    end++;
                if (start < at)
                    yield return (new(text[start..at], part.IsFirst && start == 0), null);
                yield return (new(text[at..end], part.IsFirst && at == 0), token.Id);
                start = end;
                from = Math.Max(from, start);
            }
            if (start < text.Length)
                yield return (new(text[start..], part.IsFirst && start == 0), null);
        }

        private static bool EndsWithWord(ReadOnlySpan<char> text) =>
            Rune.DecodeLastFromUtf16(text, out var rune, out _) == OperationStatus.Done && UnicodeTables.IsWord(rune);

        private static bool StartsWithWord(ReadOnlySpan<char> text) =>
            Rune.DecodeFromUtf16(text, out var rune, out _) == OperationStatus.Done && UnicodeTables.IsWord(rune);
    }
}
