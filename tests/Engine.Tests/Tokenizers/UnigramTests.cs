using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;
using static MendCluster.Engine.Tests.Tokenizers.ForgedTokenizers;

namespace MendCluster.Engine.Tests.Tokenizers;

public sealed class UnigramTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Text_IsCutWhereTheScoresSumToMost()
    {
        var tokenizer = Model(("\u2581", -1), ("a", -1), ("b", -1), ("ab", -1.5f), ("ba", -4), ("\u2581aba", -3.6f));
        Assert.Equal(["\u2581", "ab", "a", "</s>"], Tokens(tokenizer, "aba"));
        Assert.Equal(["\u2581", "b", "ab", "</s>"], Tokens(tokenizer, "bab"));
        Assert.Equal(["\u2581", "ab", "a", "</s>"], Tokens(tokenizer, "  aba "));
    }

    [Fact]
    public void BestCut_IsTheBestOfAllCuts()
    {
        var random = new Random(1);
        for (var round = 0; round < 200; round++)
        {
            var texts = Enumerable.Range(0, 8).Select(_ => Word(random, 3)).Concat(["a", "b", "\u2581"]).Distinct();
            var pieces = texts.ToDictionary(text => text, _ => -random.NextSingle() * 9);
            var tokenizer = Model([.. pieces.Select(piece => (piece.Key, piece.Value))]);
            var word = Word(random, 9);
            var best = AllCuts("\u2581" + word, pieces).Max();
            var found = tokenizer.Encode(word, addSpecialTokens: false).Sum(id => pieces[tokenizer.TokenOf(id)!]);
            Assert.Equal(best, found, 1e-4);
        }

        static string Word(Random random, int longest) =>
            string.Concat(Enumerable.Range(0, random.Next(1, longest + 1)).Select(_ => "ab"[random.Next(2)]));

        static IEnumerable<double> AllCuts(string text, Dictionary<string, float> pieces) => text.Length == 0 ? [0]
            : from length in Enumerable.Range(1, text.Length)
              where pieces.ContainsKey(text[..length])
              from rest in AllCuts(text[length..], pieces)
              select pieces[text[..length]] + rest;
    }

    [Fact]
    public void NeighbouringUnknownCharacters_AreOneTokenAndShown()
    {
        var tokenizer = Model(("\u2581", -1), ("a", -1));
        var ids = tokenizer.Encode("a\U0001F600\u65E5xa");
        Assert.Equal(["\u2581", "a", "<unk>", "a", "</s>"], ids.Select(id => tokenizer.TokenOf(id)!));
        Assert.Equal("a \u2047 a", tokenizer.Decode(ids));
        Assert.Equal(Tokens(tokenizer, "a\uFFFDa"), Tokens(tokenizer, "a\uD800a"));
    }

    [Fact]
    public void UnknownCharacters_AreALastResort()
    {
        var tokenizer = Model(("\u2581", -1), ("ab", -15));
        Assert.Equal(["\u2581", "ab", "</s>"], Tokens(tokenizer, "ab"));
    }

    [Fact]
    public void Sentinels_CountDownFromTheHighestIdAndAreSkippedInText()
    {
        var tokenizer = Model(("\u2581", -1), ("a", -1));
        Assert.Equal(5 + 100, tokenizer.VocabularySize);
        Assert.Equal((104, 5), (tokenizer.IdOf("<extra_id_0>"), tokenizer.IdOf("<extra_id_99>")));
        var ids = tokenizer.Encode("a <extra_id_0> a");
        Assert.Equal([3, 4, 104, 3, 4, 1], ids);
        Assert.Equal("a a", tokenizer.Decode(ids));

        _folder.Write("tokenizer_config.json", """{"extra_ids": 3}""");
        Assert.Equal(8, TokenizerFiles.Load(_folder.Path).VocabularySize);
    }

    [Theory]
    [InlineData("", "")]
    [InlineData(" \t\n", "")]
    [InlineData(" a  b\u00A0c ", "\u2581a\u2581b\u2581c")]
    [InlineData("\uFB01ne \u2460 \uFF21\u2122", "\u2581fine\u25811\u2581ATM")]
    [InlineData("a\u0302 a\u0302\u0301", "\u2581\u00E2\u2581\u1EA5")] // the longest entry, not the first
    [InlineData("e\u0301\u200B\u0007x", "\u2581\u00E9\u2581x")]
    public void PublishedCharsMap_NormalisesAsNmtNfkc(string text, string normal) =>
        Assert.Equal(normal, ((Unigram)TokenizerFiles.Load(Path.Combine(FixtureFolder.Path, "tokenizers", "unigram"))).Normalize(text));

    [Fact]
    public void MegabyteOfText_IsEncoded()
    {
        var tokenizer = Model(("\u2581", -1), ("a", -1), ("aa", -1));
        Assert.Equal((1 << 19) + 2, tokenizer.Encode(new string('a', 1 << 20)).Count);
    }

    private ITokenizer Model(params (string Text, float Score)[] pieces)
    {
        _folder.Write("spiece.model", UnigramModel(pieces));
        return TokenizerFiles.Load(_folder.Path);
    }

    private static IEnumerable<string> Tokens(ITokenizer tokenizer, string text) =>
        tokenizer.Encode(text).Select(id => tokenizer.TokenOf(id)!);
}
