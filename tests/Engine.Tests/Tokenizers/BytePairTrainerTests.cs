using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Tokenizers;

public sealed class BytePairTrainerTests : IDisposable
{
    private static readonly string[] Specials = ["<pad>", "</s>", "<unk>"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void MostFrequentPair_IsJoinedFirst()
    {
        // l+o and o+w occur five times each, l has the smaller id; then lo+w five times, then the space before low four times.
        var model = BytePairTrainer.Train(["low low low lower lower"], 256 + 3, []);
        Assert.Equal([("l", "o"), ("lo", "w"), ("\u0120", "low")], model.Merges);
    }

    [Fact]
    public void PairsOfEqualCount_AreJoinedBySmallerIds()
    {
        // Three pairs, each twice: ids follow the bytes.
        var model = BytePairTrainer.Train(["dc", "dc", "da", "da", "ba", "ba"], 259, []);
        Assert.Equal([("b", "a"), ("d", "a"), ("d", "c")], model.Merges);
    }

    [Fact]
    public void IncrementalCounts_LearnWhatCountingAnewLearns()
    {
        var lines = Lines(5, 40);
        var merges = BytePairTrainer.Train(lines, 256 + 120, []).Merges;
        Assert.Equal(Recounting(lines, merges.Count), merges);
    }

    [Fact]
    public void OrderOfTheLines_DoesNotMatter()
    {
        var lines = Lines(6, 200);
        var forwards = BytePairTrainer.Train(lines, 600, Specials);
        var backwards = BytePairTrainer.Train(lines.AsEnumerable().Reverse(), 600, Specials);
        Assert.Equal(forwards.Tokens, backwards.Tokens);
        Assert.Equal(forwards.Merges, backwards.Merges);
    }

    [Fact]
    public void PairsThatOccurOnce_AreNotJoined()
    {
        var model = BytePairTrainer.Train(["abcdef"], 1000, Specials);
        Assert.Empty(model.Merges);
        Assert.Equal(3 + 256, model.Tokens.Count);
    }

    [Fact]
    public void SpecialToken_IsNeverMadeOfPieces()
    {
        var model = BytePairTrainer.Train(["ab ab ab abab abab"], 400, ["ab"]);
        Assert.DoesNotContain(model.Merges, merge => merge.Left + merge.Right == "ab");
        Assert.Equal(model.Tokens.Count, model.Tokens.Distinct().Count());
    }

    [Fact]
    public void SavedModel_LoadsWithSpecialsFirstAndTheEndAppended()
    {
        var lines = Lines(7, 300);
        var model = BytePairTrainer.Train(lines, 700, Specials);
        model.Save(_folder.Path, "</s>");
        var tokenizer = TokenizerFiles.Load(_folder.Path);

        Assert.Equal(model.Tokens, Enumerable.Range(0, tokenizer.VocabularySize).Select(tokenizer.TokenOf));
        Assert.Equal([0, 1, 2], Specials.Select(special => tokenizer.IdOf(special)!.Value));
        foreach (var line in lines.Append("Not of the \U0001F600 lines"))
        {
            var ids = tokenizer.Encode(line);
            Assert.Equal(1, ids[^1]);
            Assert.Equal(ids.SkipLast(1), tokenizer.Encode(line, addSpecialTokens: false));
            Assert.Equal(line, tokenizer.Decode(ids));
            Assert.Equal(line + "</s>", tokenizer.Decode(ids, skipSpecialTokens: false));
        }

        model.Save(_folder.Path, appended: null);
        Assert.NotEqual(1, TokenizerFiles.Load(_folder.Path).Encode(lines[0])[^1]);
    }

    [Fact]
    public void SizesAndSpecialsThatMakeNoSense_AreRefused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => BytePairTrainer.Train([], 258, Specials));
        Assert.Throws<ArgumentException>(() => BytePairTrainer.Train([], 300, ["<pad>", "<pad>"]));
        Assert.Throws<ArgumentException>(() => BytePairTrainer.Train([], 300, ["a"]));
        Assert.Throws<ArgumentException>(() => BytePairTrainer.Train([], 300, Specials).Save(_folder.Path, "<eos>"));
    }

    private static List<string> Lines(int seed, int count)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ =>
            string.Join(' ', Enumerable.Range(0, 8)
            .Select(_ => string.Concat(Enumerable.Range(0, random.Next(1, 7)).Select(_ => "aabenrst"[random.Next(8)])))))];
    }

    /// <summary>The definition: count every pair of every word, join the best, count again.</summary>
    private static List<(string Left, string Right)> Recounting(List<string> lines, int joins)
    {
        var words = new List<List<string>>();
        foreach (var line in lines)
            for (var rest = line; rest.Length > 0; rest = rest[words[^1].Count..])
                words.Add([.. rest[..BytePair.WordLength(rest)].Select(c => c == ' ' ? "\u0120" : c.ToString())]);
        var ids = BytePair.ByteSymbols.Index().ToDictionary(entry => entry.Item.ToString(), entry => entry.Index);
        var merges = new List<(string Left, string Right)>();
        while (merges.Count < joins)
        {
            var best = words.SelectMany(word => word.Zip(word.Skip(1))).GroupBy(pair => pair)
                .OrderByDescending(group => group.Count()).ThenBy(group => ids[group.Key.First]).ThenBy(group => ids[group.Key.Second])
                    .First().Key;
            merges.Add(best);
            ids.TryAdd(best.First + best.Second, ids.Count);
            foreach (var word in words)
                for (var i = 0; i + 1 < word.Count; i++)
                    if ((word[i], word[i + 1]) == best)
                    {
                        word[i] += word[i + 1];
                        word.RemoveAt(i + 1);
                    }
        }
        return merges;
    }
}
