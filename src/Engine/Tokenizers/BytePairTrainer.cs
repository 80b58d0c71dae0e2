using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// Learns the merges of a byte-level byte-pair encoding from text: joins the most frequent pair of neighbours, again and again. Among
/// pairs of equal count the one with the smaller ids is joined first, so the result depends on the text alone.
/// </summary>
public static class BytePairTrainer
{
    /// <param name="lines">The text.</param>
    /// <param name="vocabularySize">At most this many tokens, special ones and the 256 bytes included.</param>
    /// <param name="specials">Get the first ids, in this order.</param>
    public static BytePairModel Train(IEnumerable<string> lines, int vocabularySize, IReadOnlyList<string> specials)
    {
        if (vocabularySize < specials.Count + 256)
            throw new ArgumentOutOfRangeException(nameof(vocabularySize), vocabularySize, $"must hold {specials.Count} special tokens and 256 bytes");
        List<string> tokens = [.. specials, .. BytePair.ByteSymbols.Select(symbol => symbol.ToString())];
        var words = CountWords(lines).Select(entry => new Word([.. Encoding.UTF8.GetBytes(entry.Key).Select(b => specials.Count + b)], entry.Value)).ToList();

        var counts = new Dictionary<(int, int), long>();
        var places = new Dictionary<(int, int), HashSet<int>>();
        var queue = new PriorityQueue<((int Left, int Right) Pair, long Count), (long, int, int)>();
        for (var w = 0; w < words.Count; w++)
            Count(w, +1);
        foreach (var pair in counts.Keys)
            Offer(pair);

        var merges = new List<(string, string)>();
        while (tokens.Count < vocabularySize && queue.TryDequeue(out var best, out _))
        {
            if (counts.GetValueOrDefault(best.Pair) != best.Count)
                continue; // counted anew since; offered again then
            if (best.Count < 2)
                break;
            var (left, right) = best.Pair;
            var joined = tokens.Count;
            merges.Add((tokens[left], tokens[right]));
            tokens.Add(tokens[left] + tokens[right]);
            var changed = new HashSet<(int, int)>();
            foreach (var w in places[best.Pair].Order().ToList())
            {
                changed.UnionWith(Count(w, -1));
                words[w].Join(left, right, joined);
                changed.UnionWith(Count(w, +1));
            }
            foreach (var pair in changed)
                Offer(pair);
        }
        return new(tokens, merges, specials);

        // Adds a word's pairs to the counts, or takes them out.
        HashSet<(int, int)> Count(int w, int sign)
        {
            var seen = new HashSet<(int, int)>();
            var symbols = words[w].Symbols;
            for (var i = 0; i + 1 < symbols.Count; i++)
            {
                var pair = (symbols[i], symbols[i + 1]);
                counts[pair] = counts.GetValueOrDefault(pair) + sign * words[w].Count;
                if (!seen.Add(pair))
                    continue;
                if (!places.TryGetValue(pair, out var found))
                    places[pair] = found = [];
                if (sign > 0)
                    found.Add(w);
                else
                    found.Remove(w);
            }
            return seen;
        }

        void Offer((int Left, int Right) pair)
        {
            if (counts[pair] > 0)
                queue.Enqueue((pair, counts[pair]), (-counts[pair], pair.Left, pair.Right));
        }
    }

    private static SortedDictionary<string, long> CountWords(IEnumerable<string> lines)
    {
        var counts = new SortedDictionary<string, long>(StringComparer.Ordinal);
        foreach (var line in lines)
            foreach (var range in BytePair.Words(line))
                counts[line[range]] = counts.GetValueOrDefault(line[range]) + 1;
        return counts;
    }

    private sealed class Word(List<int> symbols, long count)
    {
        public List<int> Symbols { get; } = symbols;

        public long Count { get; } = count;

        public void Join(int left, int right, int joined)
        {
            var kept = 0;
            for (var i = 0; i < Symbols.Count; i++)
            {
                var isPair = i + 1 < Symbols.Count && Symbols[i] == left && Symbols[i + 1] == right;
                Symbols[kept++] = isPair ? joined : Symbols[i];
                if (isPair)
                    i++;
            }
            Symbols.RemoveRange(kept, Symbols.Count - kept);
        }
    }
}

/// <summary>What <see cref="BytePairTrainer"/> learned.</summary>
/// <param name="Tokens">By id.</param>
/// <param name="Merges">In order.</param>
/// <param name="Specials">Tokens that are matched whole.</param>
public sealed record BytePairModel(IReadOnlyList<string> Tokens, IReadOnlyList<(string Left, string Right)> Merges, IReadOnlyList<string> Specials)
{
    private static readonly JsonSerializerOptions Json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Writes vocab.json, merges.txt and tokenizer_config.json, which <see cref="TokenizerFiles.Load"/> reads.</summary>
    /// <param name="appended">The special token that ends every encoded text; null: none does.</param>
    public void Save(string directory, string? appended)
    {
        Directory.CreateDirectory(directory);
        File.WriteAllText(Path.Combine(directory, "vocab.json"), JsonSerializer.Serialize(Tokens.Select((token, id) => (token, id)).ToDictionary(e => e.token, e => e.id), Json));
        File.WriteAllText(Path.Combine(directory, "merges.txt"), "#version: 0.2\n" + string.Concat(Merges.Select(merge => $"{merge.Left} {merge.Right}\n")));
        File.WriteAllText(Path.Combine(directory, "tokenizer_config.json"), JsonSerializer.Serialize(new Dictionary<string, object?>
        {
            ["add_eos_token"] = appended is not null,
            ["eos_token"] = appended,
            ["additional_special_tokens"] = Specials,
        }, Json) + "\n");
    }
}
