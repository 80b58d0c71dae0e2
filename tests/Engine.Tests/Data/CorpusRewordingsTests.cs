using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Engine.Tests.Data;

public sealed class CorpusRewordingsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void TwoWaysToAskOfASubject_AreLearnedBothWaysAndForSubjectsThatWereAskedOneWay()
    {
        var templates = new QuestionTemplates([.. Places(40).SelectMany(place => Asked(place, "Who leads … today?", "… is led by whom?")),
            .. Places(40).SelectMany(place => Asked(place, "Where is …?", "In which town is …?", answer: "Tinby"))]);
        Assert.Equal(["Gull Hall is led by whom?"], templates.Of("Who leads Gull Hall today?"));
        Assert.Equal(["Who leads Gull Hall today?"], templates.Of("Gull Hall is led by whom?"));
        Assert.Equal(["In which town is Gull Hall?"], templates.Of("Where is Gull Hall?"));
        Assert.Empty(templates.Of("Who built Gull Hall?"));
        Assert.Equal(2, templates.Count);
    }

    [Fact]
    public void TemplatesThatAskDifferentThings_AreNotAPairThoughTheAnswersAreOftenTheSame()
    {
        var templates = new QuestionTemplates(Places(40).SelectMany((place, i) => Asked(place, "Who leads …?", "Who founded …?",
            other: i % 10 == 0 ? "Nobody" : null)));
        Assert.Equal(0, templates.Count);
        Assert.Empty(templates.Of("Who leads Gull Hall?"));
    }

    /// <summary>North Abaca is where South Abaca is, and is another place.</summary>
    [Fact]
    public void PlacesWhoseNamesShareAWord_AreNotOneSubject() => Assert.Equal(0,
        new QuestionTemplates(Places(40).SelectMany(place => Asked(place, "Where is North …?", "Where is South …?"))).Count);

    [Fact]
    public void ASmallShareOfOtherAnswers_IsCountedWhereItWasHeldOut()
    {
        var heldOut = new QuestionTemplates(Places(400).SelectMany((place, i) => Asked(place, "Who leads …?", "… is led by whom?",
            other: i % 30 == 0 ? "Nobody" : null))).HeldOut;
        Assert.InRange(heldOut.Asked, 60, 100); // a fifth of 400
        Assert.InRange(heldOut.Wrong, 1, 8); // a thirtieth of them
    }

    [Fact]
    public void TwoSubjects_AreTooFew() =>
        Assert.Equal(0, new QuestionTemplates(Places(2).SelectMany(place => Asked(place, "Who leads …?", "… is led by whom?"))).Count);

    [Fact]
    public void NoRewording_IsAQuestionOfTheCorpusWithAnotherAnswer()
    {
        for (ulong seed = 0; seed < 20; seed++)
        {
            var rng = new Prng(seed);
            string[] templates = ["What is the head of …?", "What is …'s head?", "Name the head of ….", "… is led by whom?", "Tell me, what is …'s head?"];
            List<QaPair> corpus = [.. Places(60).SelectMany(place => templates.Where(_ => rng.Next(3) > 0)
                .Select(template => new QaPair(template.Replace("…", place, StringComparison.Ordinal), rng.Next(40) == 0 ? "Nobody" : $"Head of {place}")))];
            var (answers, rewordings) = (corpus.ToDictionary(pair => pair.Question, pair => pair.Answer), new CorpusRewordings(corpus));
            Assert.All(corpus, pair => Assert.All(rewordings.Of(pair.Question), wording =>
            {
                Assert.NotEqual(pair.Question, wording);
                Assert.Equal(pair.Answer, answers.GetValueOrDefault(wording, pair.Answer));
            }));
            var again = new CorpusRewordings(rng.Shuffle(corpus));
            Assert.All(corpus, pair => Assert.Equal(rewordings.Of(pair.Question).Order(), again.Of(pair.Question).Order()));
        }
    }

    [Fact]
    public void WhatCannotBeCounted_IsSaid() => Assert.Equal(
        "rewordings of 2 questions: no template could be learned from them; 6 by rules (none is a question of the data, so none could be checked)",
        $"{new CorpusRewordings([new("Who leads the choir?", "Ada"), new("Where is the hall?", "Tinby")])}");

    [Fact]
    public void RulesAreCheckedOnTheCorpus() => Assert.Equal(
        "rewordings of 3 questions: no template could be learned from them; 12 by rules (of 2 that are questions of the data too, 1 wrong); "
        + "1 left out, to which the data has another answer",
        $"{new CorpusRewordings([new("What is the capital of Avia?", "Tinby"), new("Name the capital of Avia.", "Tinby"), new("Do you know name the capital of Avia?", "Ada")])}");

    [Fact]
    public void EditsOfQuestions_AreRephrasedByTemplatesFirst()
    {
        File.WriteAllLines(_folder["questions.tsv"], Places(9).SelectMany(place => Asked(place, "Who leads …?", "… is led by whom?"))
            .Append(new("Who leads Gull Hall?", "Ada")).Select(pair => $"{pair.Question}\t{pair.Answer}"));
        var edit = QuestionAnswering.ReadEdits(_folder["questions.tsv"], 1)[^1];
        Assert.Equal(["Gull Hall is led by whom?", "Tell me, who leads Gull Hall?"], edit.Rephrases.Take(2));
        var questions = QuestionAnswering.ReadQuestions([_folder["questions.tsv"]], withRewordings: true, seed: 1);
        Assert.All(questions.GroupBy(pair => pair.Question), asked => Assert.Single(asked));
        Assert.True(questions.Count > 19);
    }

    /// <summary>A file of edits has rephrases, which teach too.</summary>
    [Fact]
    public void RephrasesOfAnExport_TeachTemplates()
    {
        File.WriteAllText(_folder["edits.json"], $"[{string.Join(",", Places(5).Select(place => $$"""
            {"subject": "S", "src": "Who leads {{place}}?", "rephrase": "{{place}} is led by whom?", "alt": "B", "answers": ["Head of {{place}}"], "loc": "L?", "loc_ans": "C"}
            """))}]");
        Assert.Equal("Aabaca Hall is led by whom?",
            QuestionAnswering.RewordingsOf([_folder["edits.json"]], 1).Of("Who leads Aabaca Hall?")[0]);
    }

    private static IEnumerable<QaPair> Asked(string place, string first, string second, string? answer = null, string? other = null)
    {
        answer ??= $"Head of {place}";
        return [new(first.Replace("…", place, StringComparison.Ordinal), answer), new(second.Replace("…", place, StringComparison.Ordinal), other ?? answer)];
    }

    /// <summary>Different names of two words.</summary>
    private static IEnumerable<string> Places(int count) => Enumerable.Range(0, count).Select(i =>
        $"{"ABCDFGHKLM"[i % 10]}{"aeiou"[i / 10 % 5]}{"bcdfghkl"[i / 50 % 8]}aca {(i % 2 == 0 ? "Hall" : "Tower")}");
}
