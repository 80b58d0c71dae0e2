using System.Text;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// SentencePiece's unigram model (Kudo, 2018), as T5 uses it: of all ways to cut the normalised text into pieces, the one whose scores sum
/// to most. Neighbouring characters that no piece has become one unknown token. Sums are float32 as in SentencePiece, or float64 as in
/// Hugging Face's tokenizers, so that near ties fall the same way.
/// </summary>
public sealed class Unigram : Tokenizer
{
    /// <summary>Below the least score of any piece, so that unknown characters are a last resort.</summary>
    private const double UnknownPenalty = 10;

    private readonly string _unknownSurface;
    private readonly bool _isSingle;
    private readonly int _unknown;
    private readonly double _unknownScore;
    private readonly double[] _scores;

    // The trie of the pieces: the node that a character leads to, and the piece that ends at a node (or None).
    private readonly Dictionary<(int Node, char Next), int> _edges = [];
    private readonly List<int> _pieceAt = [None];

    private const int None = -1;

    /// <param name="file">Named in errors.</param>
    /// <param name="pieces">By id. Those of type normal are matched; of two with one text the later.</param>
    /// <param name="unknownSurface">What an unknown token is decoded to.</param>
    /// <param name="isSingle">Whether scores are summed in float32.</param>
    internal Unigram(string file, IReadOnlyList<Piece> pieces, string unknownSurface, bool isSingle, Vocabulary vocabulary,
        Pipeline pipeline)
        : base(vocabulary, pipeline with { Frame = pipeline.Frame with { EndsOnce = true } })
    {
        (_unknownSurface, _isSingle) = (unknownSurface, isSingle);
        _scores = [.. pieces.Select(piece => piece.Score)];
        _unknown = pieces.Index().Where(entry => entry.Item.IsUnknown).ToList() is [var only] ? only.Index
            : throw Fault.File(file, "pieces", "there must be exactly one of type unknown; the file is damaged");
        var lowest = double.PositiveInfinity;
        foreach (var (id, piece) in pieces.Index())
        {
            if (piece.Text.Length == 0 || !double.IsFinite(piece.Score))
                throw Fault.File(file, $"piece {id}",
                    $"is '{piece.Text}' with score {piece.Score}; expected a text and a finite number");
            if (!piece.IsMatched)
                continue;
            lowest = Math.Min(lowest, piece.Score);
            var node = 0;
            foreach (var c in piece.Text)
            {
                if (!_edges.TryGetValue((node, c), out var next))
                {
                    _edges[(node, c)] = next = _pieceAt.Count;
                    _pieceAt.Add(None);
                }
                node = next;
            }
            _pieceAt[node] = id;
        }
        if (double.IsInfinity(lowest))
            throw Fault.File(file, "pieces", "there is none of type normal; the file is damaged");
        _unknownScore = lowest - UnknownPenalty;
    }

    private protected override void EncodePiece(string normal, List<int> ids)
    {
        // The best cut of normal[..end]: its score, and the piece that it ends with.
        var best = new (double Score, int Start, int Id)[normal.Length + 1];
        Array.Fill(best, (0.0, None, None), 1, normal.Length);
        int width;
        for (var start = 0; start < normal.Length; start += width)
        {
            Rune.DecodeFromUtf16(normal.AsSpan(start), out _, out width);
            var known = false;
            var node = 0;
            for (var end = start; end < normal.Length && _edges.TryGetValue((node, normal[end]), out node); end++)
                if (_pieceAt[node] is var id and not None)
                {
                    Offer(start, end + 1, id, _scores[id]);
                    known |= end + 1 - start == width;
                }
            if (!known)
                Offer(start, start + width, _unknown, _unknownScore);
        }

        var first = ids.Count;
        for (var end = normal.Length; end > 0; end = best[end].Start)
            if (best[end].Id != _unknown || ids.Count == first || ids[^1] != _unknown)
                ids.Add(best[end].Id);
        ids.Reverse(first, ids.Count - first);

        void Offer(int start, int end, int id, double score)
        {
            score = _isSingle ? (float)score + (float)best[start].Score : score + best[start].Score;
            if (best[end].Start == None || score > best[end].Score)
                best[end] = (score, start, id);
        }
    }

    private protected override string DecodeKept(List<int> ids)
    {
        var text = new StringBuilder();
        foreach (var id in ids)
            if (id == _unknown)
                text.Append(_unknownSurface);
            else
            {
                var piece = TokenOf(id)!;
                // The space in front of the first word was put there by Normalize.
                text.Append(text.Length == 0 && piece[0] == UnigramNormalizer.Space ? piece[1..] : piece);
            }
        return text.Replace(UnigramNormalizer.Space, ' ').ToString();
    }
}
