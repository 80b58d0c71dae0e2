using System.Runtime.InteropServices;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace MendCluster.Engine.Tokenizers;

/// <summary>
/// Learns the merges of a byte-level byte-pair encoding from text: joins the most frequent pair of neighbours, again and again. Among
/// pairs of equal count the one with the smaller ids (left first, then right) is joined first, so the result depends on the text alone.
/// </summary>
public static class BytePairTrainer
{
    /// <param name="lines">The text. Words do not reach from one line into the next.</param>
    /// <param name="vocabularySize">
    /// At most this many tokens, special ones and the 256 bytes included; fewer when no pair occurs twice.
    /// </param>
    /// <param name="specials">Get the first ids, in this order.</param>
    public static BytePairModel Train(IEnumerable<string> lines, int vocabularySize, IReadOnlyList<string> specials)
    {
        ArgumentNullException.ThrowIfNull(lines);
        ArgumentNullException.ThrowIfNull(specials);
        if (vocabularySize < specials.Count + 256)
            throw new ArgumentOutOfRangeException(nameof(vocabularySize), vocabularySize,
                $"must hold {specials.Count} special tokens and 256 bytes");
        List<string> tokens = [.. specials, .. BytePair.ByteSymbols.Select(symbol => symbol.ToString())];
        var ids = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (var (id, token) in tokens.Index())
            if (!ids.TryAdd(token, id))
                throw new ArgumentException($"'{token}' is given twice or is a byte's symbol; neither may be", nameof(specials));

        var words = CountWords(lines)
            .Select(word => (Symbols: Encoding.UTF8.GetBytes(word.Key).Select(b => specials.Count + b).ToList(), Count: word.Value))
            .ToList();
        var pairs = new Dictionary<(int Left, int Right), Pair>();
        var queue = new PriorityQueue<((int Left, int Right) Pair, long Count), (long MinusCount, int Left, int Right)>();
        var changed = new HashSet<(int Left, int Right)>();
        for (var w = 0; w < words.Count; w++)
            Count(w, +1);
        OfferChanged();

        var merges = new List<(string Left, string Right)>();
        while (tokens.Count < vocabularySize && queue.TryDequeue(out var best, out _))
        {
            var (pair, count) = best;
            if (pairs[pair].Count != count)
                continue; // counted anew since; offered again then
            var joined = tokens[pair.Left] + tokens[pair.Right];
            // The same text may be reached by two ways (a+bc, ab+c): one token, two merges. Special tokens are never made from pieces.
            if (!ids.TryGetValue(joined, out var id))
            {
                ids[joined] = id = tokens.Count;
                tokens.Add(joined);
            }
            else if (id < specials.Count)
                continue;
            merges.Add((tokens[pair.Left], tokens[pair.Right]));
            foreach (var w in pairs[pair].Words.ToArray())
            {
                Count(w, -1);
                Join(words[w].Symbols, pair, id);
                Count(w, +1);
            }
            OfferChanged();
        }
        return new(tokens, merges, specials);

        // Adds a word's pairs to the counts, or takes them out.
        void Count(int w, int sign)
        {
            var (symbols, count) = words[w];
            for (var i = 0; i + 1 < symbols.Count; i++)
            {
                var pair = (symbols[i], symbols[i + 1]);
                ref var found = ref CollectionsMarshal.GetValueRefOrAddDefault(pairs, pair, out _);
                found ??= new();
                found.Count += sign * count;
                if (sign > 0)
                    found.Words.Add(w);
                else
                    found.Words.Remove(w);
                changed.Add(pair);
            }
        }

        void OfferChanged()
        {
            foreach (var pair in changed)
                if (pairs[pair].Count >= 2)
                    queue.Enqueue((pair, pairs[pair].Count), (-pairs[pair].Count, pair.Left, pair.Right));
            changed.Clear();
        }
    }

    private static Dictionary<string, long> CountWords(IEnumerable<string> lines)
    {
        var counts = new Dictionary<string, long>(StringComparer.Ordinal);
        var bySpan = counts.GetAlternateLookup<ReadOnlySpan<char>>();
        foreach (var line in lines)
            for (var rest = line.AsSpan(); !rest.IsEmpty;)
            {
                var word = rest[..BytePair.WordLength(rest)];
                CollectionsMarshal.GetValueRefOrAddDefault(bySpan, word, out _)++;
                rest = rest[word.Length..];
            }
        return counts;
    }

    private static void Join(List<int> symbols, (int Left, int Right) pair, int joined)
    {
        var kept = 0;
        for (var i = 0; i < symbols.Count; i++)
        {
            var isPair = i + 1 < symbols.Count && symbols[i] == pair.Left && symbols[i + 1] == pair.Right;
            symbols[kept++] = isPair ? joined : symbols[i];
            if (isPair)
                i++;
        }
        symbols.RemoveRange(kept, symbols.Count - kept);
    }

    /// <summary>How often two symbols stand next to each other, and in which words.</summary>
    private sealed class Pair
    {
        public long Count { get; set; }

        public HashSet<int> Words { get; } = [];
    }
}

/// <summary>What <see cref="BytePairTrainer"/> learned.</summary>
/// <param name="Tokens">By id.</param>
/// <param name="Merges">In order.</param>
/// <param name="Specials">Tokens that are matched whole.</param>
public sealed record BytePairModel(IReadOnlyList<string> Tokens, IReadOnlyList<(string Left, string Right)> Merges,
    IReadOnlyList<string> Specials)
{
    private static readonly JsonSerializerOptions Json = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Writes tokenizer.json in Hugging Face's form, which <see cref="TokenizerFiles.Load"/> reads.</summary>
    /// <param name="directory">Made where it is missing.</param>
    /// <param name="appended">The special token that ends every encoded text; null: none does.</param>
    public void Save(string directory, string? appended)
    {
        if (appended is not null && !Specials.Contains(appended))
            throw new ArgumentException($"'{appended}' is not one of the special tokens {string.Join(", ", Specials)}", nameof(appended));
        Directory.CreateDirectory(directory);
        File.WriteAllText(Path.Combine(directory, "tokenizer.json"), new JsonObject
        {
            ["version"] = "1.0",
            ["truncation"] = null,
            ["padding"] = null,
            ["added_tokens"] = new JsonArray([.. Specials.Select((token, id) => new JsonObject
            {
                ["id"] = id,
                ["content"] = token,
                ["single_word"] = false,
                ["lstrip"] = false,
                ["rstrip"] = false,
                ["normalized"] = false,
                ["special"] = true,
            })]),
            ["normalizer"] = null,
            ["pre_tokenizer"] = ByteLevel(),
            ["post_processor"] = appended is null ? ByteLevel() : Appending(appended),
            ["decoder"] = ByteLevel(),
            ["model"] = new JsonObject
            {
                ["type"] = "BPE",
                ["dropout"] = null,
                ["unk_token"] = null,
                ["continuing_subword_prefix"] = null,
                ["end_of_word_suffix"] = null,
                ["fuse_unk"] = false,
                ["vocab"] = new JsonObject(Tokens.Select((token, id) => KeyValuePair.Create(token, (JsonNode?)id))),
                ["merges"] = new JsonArray([.. Merges.Select(merge => (JsonNode)$"{merge.Left} {merge.Right}")]),
            },
        }.ToJsonString(Json) + "\n");
    }

    private static JsonObject ByteLevel() =>
        new() { ["type"] = "ByteLevel", ["add_prefix_space"] = false, ["trim_offsets"] = true, ["use_regex"] = true };

    private JsonObject Appending(string token) => new()
    {
        ["type"] = "TemplateProcessing",
        ["single"] = new JsonArray(Sequence("A", 0), Special(token, 0)),
        ["pair"] = new JsonArray(Sequence("A", 0), Special(token, 0), Sequence("B", 1), Special(token, 1)),
        ["special_tokens"] = new JsonObject
        {
            [token] = new JsonObject
            {
                ["id"] = token,
                ["ids"] = new JsonArray(Tokens.ToList().IndexOf(token)),
                ["tokens"] = new JsonArray(token)
            },
        },
    };

    private static JsonObject Sequence(string id, int type) => new() { ["Sequence"] = new JsonObject { ["id"] = id, ["type_id"] = type } };

    private static JsonObject Special(string token, int type) =>
        new() { ["SpecialToken"] = new JsonObject { ["id"] = token, ["type_id"] = type } };
}
