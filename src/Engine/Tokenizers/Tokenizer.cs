using System.Runtime.InteropServices;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// What all kinds share, in the order in which Hugging Face's tokenizers work: added tokens are cut out of the text, what is left is
/// normalised and cut into pieces, the pieces become tokens, and special ones are put around them.
/// </summary>
public abstract class Tokenizer : ITokenizer
{
    private readonly AddedTokens _added;
    private readonly Pipeline _pipeline;

    private protected Tokenizer(Vocabulary vocabulary, Pipeline pipeline)
    {
        Vocabulary = vocabulary;
        _added = new(pipeline.Added, pipeline.Normalizer);
        _pipeline = pipeline;
    }

    public int VocabularySize => Vocabulary.Size;

    private protected Vocabulary Vocabulary { get; }

    public IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true)
    {
        ArgumentNullException.ThrowIfNull(text);
        var ids = new List<int>();
        if (addSpecialTokens)
            ids.AddRange(_pipeline.Frame.Before);
        foreach (var (part, id) in _added.Cut(text))
            if (id is { } added)
                ids.Add(added);
            else
                foreach (var piece in Pieces(part))
                    EncodePiece(piece, ids);
        if (addSpecialTokens && !(_pipeline.Frame.EndsOnce && CollectionsMarshal.AsSpan(ids).EndsWith(_pipeline.Frame.After)))
            ids.AddRange(_pipeline.Frame.After);
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

    /// <summary>A text without added tokens as the model sees it, its pieces together.</summary>
    internal string Normalize(string text)
    {
        var normal = _pipeline.Normalizer is { } normalize ? normalize(text) : text;
        return normal.Length == 0 ? "" : string.Concat(Pieces(new(normal, true)));
    }

    /// <summary>The pieces of a text without added tokens.</summary>
    private protected IEnumerable<string> Pieces(TextPart part) =>
        _pipeline.Splitters.Aggregate((IEnumerable<TextPart>)[part], (pieces, split) => pieces.SelectMany(piece => split(piece)))
        .Select(piece => piece.Text);

    /// <summary>Appends the ids of a piece, which is not empty.</summary>
    private protected abstract void EncodePiece(string piece, List<int> ids);

    /// <param name="ids">All have a token.</param>
    private protected abstract string DecodeKept(List<int> ids);
}

/// <summary>What comes before and after a model's own tokens.</summary>
/// <param name="Normalizer">Null: texts stay as they are.</param>
/// <param name="Splitters">One after the other; none: a text is one piece.</param>
internal sealed record Pipeline(IReadOnlyCollection<AddedToken> Added, Frame Frame, Normalizer? Normalizer,
    IReadOnlyList<Splitter> Splitters);

/// <summary>Ids that stand before and after every text.</summary>
/// <param name="EndsOnce">
/// A text that ends with <paramref name="After"/> as it is gets no second one; so T5 treats a written &lt;/s&gt;.
/// </param>
internal sealed record Frame(int[] Before, int[] After, bool EndsOnce = false)
{
    public static readonly Frame None = new([], []);
}
