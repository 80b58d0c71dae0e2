using System.Text.Json;
using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Data;

public sealed class WikitextTests : IDisposable
{
    private static readonly string Long = string.Join(' ', Enumerable.Repeat("word", Wikitext.MinWords));

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Continuations_AreReadAsTheyStand_WithTheWhiteSpaceAtTheirEnds()
    {
        var read = Wikitext.ReadContinuations(Write("""{"n_tokens": 3, "original": ["a b", "c"], "completions": [" One two \n", "Three"]}"""));
        Assert.Equal(3, read.Tokens);
        Assert.Equal([" One two \n", "Three"], read.Completions);
    }

    [Theory]
    [InlineData("""{"n_tokens": 3, "original": ["a", "b"], "completions": ["a"]}""", "found 2 originals and 1 completions")]
    [InlineData("""{"n_tokens": 0, "original": ["a"], "completions": ["a"]}""", "field \"n_tokens\": found 0; write how many tokens")]
    [InlineData("""{"n_tokens": "10", "original": ["a"], "completions": ["a"]}""",
        "field \"n_tokens\": found \"10\"; write a whole number")]
    [InlineData("""{"n_tokens": 2.5, "original": ["a"], "completions": ["a"]}""", "field \"n_tokens\": found 2.5")]
    [InlineData("""{"original": ["a"], "completions": ["a"]}""", "found an object without the field \"n_tokens\"")]
    [InlineData("""{"n_tokens": 3, "completions": ["a"]}""", "found an object without the field \"original\"")]
    [InlineData("""{"n_tokens": 3, "original": ["a"], "completions": [7]}""", "field \"completions\", item 0: found 7; write a string")]
    [InlineData("""{"n_tokens": 3, "original": [], "completions": []}""", "found no usable row")]
    [InlineData("""{"n_tokens": 3, "original": ["a"], "compl""", "line 1: not JSON")]
    [InlineData("[]", "the file: found a list; write an object")]
    public void Continuations_InAnotherForm_AreRefused(string text, string expected) =>
        Refusals.AssertRefused(Write(text), Wikitext.ReadContinuations, expected);

    [Fact]
    public void Paragraphs_AreTheLongOnesInAscii()
    {
        var path = Write($" = Heading = \n\n {Long}\n{Long[5..]}\n{Long} café\nLast {Long}");
        Assert.Equal([$" {Long}", $"Last {Long}"], Wikitext.ReadParagraphs(path));
        Assert.Equal([$" {Long}"], Wikitext.ReadParagraphs(path, share: 0.5));
    }

    [Fact]
    public void Paragraphs_OfAFileWithoutAny_AreRefused() =>
        Refusals.AssertRefused(Write("short\nlines"), path => Wikitext.ReadParagraphs(path), "found no usable row");

    [Fact]
    public void Paragraphs_WithBytesThatAreNotUtf8_AreRefused() =>
        Refusals.AssertRefused(_folder.Write("wiki", [.. "word\n"u8, 0xFF, 0xFE]), path => Wikitext.ReadParagraphs(path),
        "found bytes that are not UTF-8");

    [Fact]
    public void WebText_GivesNineTenthsToTraining()
    {
        var path = Write(string.Join('\n', Enumerable.Range(0, 20).Select(i => JsonSerializer.Serialize(new { text = $"t{i}" }))));
        Assert.Equal(Enumerable.Range(0, 18).Select(i => $"t{i}"), Wikitext.ReadWebText(path, training: true));
        Assert.Equal(["t18", "t19"], Wikitext.ReadWebText(path, training: false));
    }

    [Theory]
    [InlineData("""{"texts": "a"}""", "line 1: found an object without the field \"text\"")]
    [InlineData("""{"text": ["a"]}""", "line 1, field \"text\": found a list; write a string")]
    [InlineData("""{"text": "a""", "line 1: not JSON")]
    [InlineData("plain text", "line 1: not JSON")]
    public void WebText_InAnotherForm_IsRefusedByLine(string line, string expected) =>
        Refusals.AssertRefused(Write(line), path => Wikitext.ReadWebText(path, training: false), expected);

    private string Write(string text) => _folder.Write("file", text);
}
