using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Tokenizers;

public sealed class WordPieceTests : IDisposable
{
    private static readonly string[] Specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("unaffable", "un ##aff ##able")]
    [InlineData("un unq", "un [UNK]")]
    [InlineData("UN\u00C4FF un\u0308aff", "un ##aff un ##aff")]
    [InlineData("un,aff!?", "un , [UNK] ! ?")]
    [InlineData("a\u4E2Da \uAC00", "a \u4E2D a [UNK]")]
    [InlineData("\u0130 \u1ED9 \u212B", "i o a")]
    [InlineData("a\u0000\uFFFD\u200Ba\uD800", "[UNK]")]
    [InlineData("a\tun\u2003un\u00A0a", "a un un a")]
    [InlineData("a[MASK]un", "a [MASK] un")]
    [InlineData("$a^", "[UNK] a [UNK]")]
    [InlineData("\u037Ea", "[UNK] a")]
    public void Text_IsCleanedCutAndMatchedLongestFirst(string text, string tokens)
    {
        var tokenizer = Vocabulary("un", "##aff", "##able", "a", "i", "o", ",", "!", "?", "\u4E2D");
        Assert.Equal($"[CLS] {tokens} [SEP]", string.Join(' ', tokenizer.Encode(text).Select(tokenizer.TokenOf)));
    }

    [Fact]
    public void HangulSyllables_AreTakenApart()
    {
        var tokenizer = Vocabulary("\u1112\u1161\u11AB", "\u1100\u1161");
        Assert.Equal(["[CLS]", "\u1112\u1161\u11AB", "\u1100\u1161", "[SEP]"], tokenizer.Encode("\uD55C \uAC00").Select(tokenizer.TokenOf));
    }

    [Fact]
    public void EveryAccentOfLatin1_IsTakenOff()
    {
        const string accented = "\u00E0\u00E1\u00E2\u00E3\u00E4\u00E5\u00E7\u00E8\u00E9\u00EA\u00EB\u00EC\u00ED\u00EE\u00EF\u00F1\u00F2\u00F3\u00F4\u00F5\u00F6\u00F9\u00FA\u00FB\u00FC\u00FD\u00FF";
        var without = Normalizers.Bert(cleanText: false, chineseAlone: false, stripAccents: true, lowerCase: false);
        Assert.Equal("aaaaaaceeeeiiiinooooouuuuyy", without(accented));
        Assert.Equal("\u00E6\u00F0\u00F8\u00FE\u00DF", without("\u00E6\u00F0\u00F8\u00FE\u00DF"));
        Assert.Equal("\u9F9C", without("\uFACE"));
        Assert.Equal("", without("\u0301"));
    }

    [Fact]
    public void WordOfMoreThanAHundredCharacters_IsUnknown()
    {
        var tokenizer = Vocabulary("a", "##a");
        Assert.Equal(102, tokenizer.Encode(new string('a', 100)).Count);
        Assert.Equal([2, 1, 3], tokenizer.Encode(new string('a', 101)));
    }

    [Fact]
    public void CasedVocabulary_KeepsCaseAndAccents()
    {
        _folder.Write("tokenizer_config.json", """{"do_lower_case": false}""");
        var tokenizer = Vocabulary("\u00C4", "a");
        Assert.Equal(["[CLS]", "\u00C4", "a", "[UNK]", "[SEP]"], tokenizer.Encode("\u00C4 a A").Select(tokenizer.TokenOf));
    }

    [Fact]
    public void Decode_JoinsContinuationsAndPutsMarksBack()
    {
        var tokenizer = Vocabulary("un", "##aff", "don", "'", "t", ",", ".");
        Assert.Equal("unaff, don't.", tokenizer.Decode(tokenizer.Encode("Unaff, don't.")));
        Assert.Equal("don't", Vocabulary("do", "n't").Decode([5, 6]));
        Assert.Equal("[CLS] un [SEP]", tokenizer.Decode(tokenizer.Encode("un"), skipSpecialTokens: false));
    }

    private ITokenizer Vocabulary(params string[] tokens)
    {
        _folder.Write("vocab.txt", string.Concat(Specials.Concat(tokens).Select(token => token + "\n")));
        return TokenizerFiles.Load(_folder.Path);
    }
}
