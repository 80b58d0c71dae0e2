using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Tokenizers;

public sealed class BytePairTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData(1, 300)]
    public void AnyText_ComesBackUnchanged(int seed, int texts) => RoundTrip(seed, texts);

    [Theory]
    [Trait("Category", "Slow")]
    [InlineData(2, 100_000)]
    public void VeryManyTexts_ComeBackUnchanged(int seed, int texts) => RoundTrip(seed, texts);

    [Fact]
    public void LoneSurrogates_ComeBackAsReplacementCharacters()
    {
        var tokenizer = Tiny();
        Assert.Equal("a\uFFFDb \uFFFD", tokenizer.Decode(tokenizer.Encode("a\uD800b \uDC00")));
    }

    [Theory]
    [InlineData("don't we'll 'sup", "don|'t| we|'ll| '|sup")]
    [InlineData("I'VE 've", "I|'|VE| '|ve")]
    [InlineData("a  b   c ", "a| | b|  | c| ")]
    [InlineData("x\n\ny\t z", "x|\n|\n|y|\t| z")]
    [InlineData("3rd 42nd!?", "3|rd| 42|nd|!?")]
    [InlineData("\u00BD\u2167 \U0001D400\U00020000b\U0001F600", "\u00BD\u2167| \U0001D400\U00020000b|\U0001F600")]
    [InlineData("a\u00A0\u3000b\u0085c", "a|\u00A0|\u3000|b|\u0085|c")]
    public void Text_IsCutIntoGpt2sWords(string text, string words)
    {
        var found = new List<string>();
        for (var rest = text; rest.Length > 0; rest = rest[found[^1].Length..])
            found.Add(rest[..BytePair.WordLength(rest)]);
        Assert.Equal(words, string.Join('|', found));
    }

    [Fact]
    public void QueueOfPairs_JoinsAsRoundsOverTheWholeWordDo()
    {
        var merges = File.ReadAllLines(Path.Combine(TinyFolder, "merges.txt")).Skip(1).Index()
            .ToDictionary(merge => merge.Item, merge => merge.Index);
        var tokenizer = Tiny();
        var random = new Random(3);
        for (var i = 0; i < 500; i++)
        {
            var word = string.Concat(Enumerable.Range(0, random.Next(1, 30)).Select(_ => "theinaorsdl"[random.Next(11)]));
            Assert.Equal(Rounds(word, merges), tokenizer.Encode(word).Select(tokenizer.TokenOf));
        }
    }

    [Fact]
    public void PairMadeByAJoin_WaitsUntilAllPairsOfThatRankAreJoined()
    {
        // The first b+c makes the pair bc+b, which has the lower rank, while the second b+c is still open.
        var tokenizer = WithMerges(("bc", "b"), ("b", "c"));
        Assert.Equal(["bc", "bc"], tokenizer.Encode("bcbc").Select(tokenizer.TokenOf));
        Assert.Equal(["bcb"], tokenizer.Encode("bcb").Select(tokenizer.TokenOf));
    }

    [Fact]
    public void WordOfAMegabyte_IsEncoded()
    {
        var tokenizer = WithMerges(("a", "a"), ("aa", "aa"));
        Assert.Equal(Enumerable.Repeat(tokenizer.IdOf("aaaa"), 1 << 18), tokenizer.Encode(new string('a', 1 << 20)).Select(id => (int?)id));
    }

    [Fact]
    public void SpecialTokens_AreMatchedWholeAndLongestFirst()
    {
        _folder.Write("vocab.json", File.ReadAllText(Path.Combine(TinyFolder, "vocab.json")));
        _folder.Write("merges.txt", File.ReadAllText(Path.Combine(TinyFolder, "merges.txt")));
        var size = Tiny().VocabularySize;
        _folder.Write("added_tokens.json", $$"""{"[PAD]": {{size}}, "[PAD]s": {{size + 1}}}""");
        _folder.Write("special_tokens_map.json", """{"pad_token": "[PAD]", "additional_special_tokens": ["[PAD]s"]}""");
        var tokenizer = TokenizerFiles.Load(_folder.Path);

        Assert.Equal(size + 2, tokenizer.VocabularySize);
        var ids = tokenizer.Encode("a[PAD]s<|endoftext|> [PAD]");
        Assert.Equal(["a", "[PAD]s", "<|endoftext|>", "\u0120", "[PAD]"], ids.Select(tokenizer.TokenOf));
        Assert.Equal("a ", tokenizer.Decode(ids));
        Assert.Equal("a[PAD]s<|endoftext|> [PAD]", tokenizer.Decode(ids, skipSpecialTokens: false));
    }

    [Fact]
    public void IdsWithoutToken_StandForNoText_AndNegativeOnesAreRefused()
    {
        var tokenizer = Tiny();
        Assert.Null(tokenizer.TokenOf(tokenizer.VocabularySize));
        Assert.Equal("a", tokenizer.Decode([tokenizer.VocabularySize + 5, tokenizer.IdOf("a")!.Value]));
        Assert.Throws<ArgumentOutOfRangeException>(() => tokenizer.Decode([-100]));
    }

    [Fact]
    public void ManyThreads_EncodeAsOne()
    {
        var random = new Random(4);
        var texts = Enumerable.Range(0, 200).Select(_ => RandomText.Next(random)).ToList();
        var alone = Tiny();
        var expected = texts.ConvertAll(text => alone.Encode(text));
        var shared = Tiny();
        Parallel.For(0, 8, _ => Assert.Equal(expected, texts.Select(text => shared.Encode(text))));
    }

    private static string TinyFolder => Path.Combine(FixtureFolder.Path, "tokenizers", "tiny_bpe");

    private static ITokenizer Tiny() => TokenizerFiles.Load(TinyFolder);

    private static void RoundTrip(int seed, int texts)
    {
        var tokenizer = Tiny();
        var random = new Random(seed);
        for (var i = 0; i < texts; i++)
        {
            var text = RandomText.Next(random);
            Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text)));
        }
    }

    /// <summary>The definition: find the pair of lowest rank, join it everywhere from left to right, begin again.</summary>
    private static List<string> Rounds(string word, Dictionary<string, int> merges)
    {
        var symbols = word.Select(c => c.ToString()).ToList();
        while (true)
        {
            var best = symbols.Zip(symbols.Skip(1), (left, right) => $"{left} {right}").Where(merges.ContainsKey)
                .MinBy(pair => merges[pair]);
            if (best is null)
                return symbols;
            for (var i = 0; i + 1 < symbols.Count; i++)
                if ($"{symbols[i]} {symbols[i + 1]}" == best)
                {
                    symbols[i] += symbols[i + 1];
                    symbols.RemoveAt(i + 1);
                }
        }
    }

    private BytePair WithMerges(params (string Left, string Right)[] merges)
    {
        string[] tokens = [.. BytePair.ByteSymbols.Select(symbol => symbol.ToString()),
            .. merges.Select(merge => merge.Left + merge.Right).Distinct()];
        new BytePairModel(tokens, merges, []).Save(_folder.Path, appended: null);
        return (BytePair)TokenizerFiles.Load(_folder.Path);
    }
}
