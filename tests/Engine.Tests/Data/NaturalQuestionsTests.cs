using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Data;

public sealed class NaturalQuestionsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Rows_GiveTheQuestionInProperFormAndTheShortestAnswer()
    {
        var path = _folder.Write("nq.json", """
            {"questions": ["who sang it", "When was it?", "nobody knows"], "answers": [["Billy Idol", "Idol"], "1984", []]}
            """);
        Assert.Equal([new QaPair("Who sang it?", "Idol"), new QaPair("When was it?", "1984")], NaturalQuestions.Read(path));
    }

    [Theory]
    [InlineData("""{"questions": ["q"], "answers": []}""", "found 1 questions and 0 answers")]
    [InlineData("""{"questions": ["q"]}""", "found an object without the field \"answers\"")]
    [InlineData("""{"questions": ["q"], "answers": [{}]}""", "the file, field \"answers\", item 0: found an object; write a string")]
    [InlineData("""{"questions": "q", "answers": []}""", "field \"questions\": found \"q\"; write a list")]
    public void AnotherForm_IsRefused(string text, string expected) =>
        Refusals.AssertRefused(_folder.Write("nq.json", text), NaturalQuestions.Read, expected);
}
