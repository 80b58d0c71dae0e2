using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Data;

public sealed class DataCheckTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void OfQuestions_EveryFaultIsFoundInItsLine()
    {
        var path = Write("questions.tsv", """
            Who leads the choir?	Ada

            Who leads the choir?	Ada
            Where is the hall?	
            Who leads the choir?	Ben
            Where is the museum?	Tinby
            """);
        Assert.Equal([(DataFault.Duplicate, "line 3"), (DataFault.Empty, "line 4"), (DataFault.Contradiction, "line 5")], Found(path));
        Assert.Equal($"{path}, line 5: \"Who leads the choir?\" has two answers, \"Ben\" here and \"Ada\" in {path}, line 1.",
            $"{DataCheck.Of(path)[2]}");
        Refusals.AssertRefused(path, file => QuestionAnswering.ReadEdits(file, 1), "line 5: \"Who leads the choir?\" has two answers");
    }

    [Fact]
    public void QuestionsOfWhichNoneHasAnAnswer_AreRefused() => Refusals.AssertRefused(
        Write("edits.json", """[{"subject": "S", "prompt": "Q?", "target_new": "B", "rephrase_prompt": "R?"}]"""),
        path => QuestionAnswering.ReadQuestions([path], withRewordings: false, seed: 1), "found no usable row");

    [Fact]
    public void OfAnExport_RephrasesAndLocalityCountToo()
    {
        const string first = """{"subject": "S", "src": "Q?", "rephrase": "R?", "alt": "B", "answers": ["A"], "loc": "L?", "loc_ans": "C"}""";
        var path = Write("edits.json", $"""
            [{first}, {first},
             {first.Replace("Q?", "Q2?", StringComparison.Ordinal).Replace("\"A\"", "\"D\"", StringComparison.Ordinal)},
             {first.Replace("Q?", "Q3?", StringComparison.Ordinal).Replace("R?", "L?", StringComparison.Ordinal)},
             {first.Replace("Q?", "Q4?", StringComparison.Ordinal).Replace("R?", "R4?", StringComparison.Ordinal).Replace("\"B\"", "\"A\"", StringComparison.Ordinal)},
             {first.Replace("R?", " ", StringComparison.Ordinal)}]
            """);
        Assert.Equal(
        [
            (DataFault.Duplicate, "item 1"),
            (DataFault.Contradiction, "item 2"), // R? is A in the first row, D here
            (DataFault.Contradiction, "item 3"), // L? is C, and A here
            (DataFault.Contradiction, "item 3"), // and is to stay
            (DataFault.NoChange, "item 4"),
            (DataFault.Empty, "item 5"),
        ], Found(path));
    }

    [Fact]
    public void OfThePapersForm_EachAlternativeMayBeTheTarget()
    {
        var path = Write("edits.jsonl", """
            {"input": "Q?", "alternatives": ["B", "A"], "filtered_rephrases": ["R?"], "output": [{"answer": "A"}]}
            {"input": "P?", "alternatives": ["B"], "filtered_rephrases": ["P?"], "output": [{"answer": "A"}]}
            {"input": "O?", "alternatives": ["B"], "filtered_rephrases": ["N?"], "output": [{"answer": "A"}]}
            """);
        Assert.Equal([(DataFault.NoChange, "line 1"), (DataFault.Empty, "line 2")], Found(path));
    }

    [Fact]
    public void OfAModel_TextsThatAreCutOrCannotBeReadAreFound()
    {
        var path = Write("questions.tsv", $"Short?\tyes\n{new string('q', 40)}\tyes\nShort too?\t{new string('a', 40)}\n");
        var text = new TextBatch(TinyModel.Family("gpt2"), TinyModel.Letter(), maxLength: 32);
        Assert.Equal([(DataFault.OverLong, "line 2"), (DataFault.OverLong, "line 3")],
            DataCheck.Of(path, text).Select(finding => (finding.Fault, finding.Place.Split(", ")[^1])));
        Assert.Empty(DataCheck.Of(path));
    }

    [Fact]
    public void Summary_CountsEachKind() =>
        Assert.Equal("1 contradiction, 2 duplicates", DataCheck.Summary(
            [new(DataFault.Duplicate, "a", "b"), new(DataFault.Contradiction, "a", "b"), new(DataFault.Duplicate, "a", "b")]));

    private static IEnumerable<(DataFault, string)> Found(string path) =>
        DataCheck.Of(path).Select(finding => (finding.Fault, finding.Place.Split(", ")[^1]));

    private string Write(string name, string text)
    {
        File.WriteAllText(_folder[name], text);
        return _folder[name];
    }
}
