using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

/// <summary>The generated sets, read by the readers of the published forms.</summary>
public sealed class SyntheticTasksTests : IDisposable
{
    private static readonly World World = World.Generate(3);

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Questions_AreOfTheWorld_AndValidationsRephrasesAreNew()
    {
        SyntheticTasks.WriteQuestionAnswering(_folder.Path, 3);
        var training = ZsRe.ReadPaper(_folder[TaskFolder.ZsReTraining], new Prng(1));
        var validation = ZsRe.ReadPaper(_folder[TaskFolder.ZsReValidation], new Prng(1));
        var answers = World.Questions().ToDictionary(pair => pair.Question, pair => pair.Answer);
        Assert.Equal(World.Split.HeldOut.Count, validation.Count);
        Assert.True(training.Count > 1000);
        Assert.All(training.Concat(validation), edit =>
        {
            Assert.Equal(answers[edit.Prompt], edit.Answer);
            Assert.Equal(edit.Answer, edit.Prediction);
            Assert.NotEqual(edit.Answer, edit.Target);
            Assert.All(edit.Rephrases, rephrase => Assert.Equal(edit.Answer, answers[rephrase]));
        });
        var read = training.SelectMany(edit => edit.Rephrases.Append(edit.Prompt)).ToHashSet();
        Assert.DoesNotContain(validation.SelectMany(edit => edit.Rephrases.Append(edit.Prompt)), read.Contains);
        Assert.All(validation, edit => Assert.Equal(World.NewPhrasings, edit.Rephrases.Count));
        var others = NaturalQuestions.Read(_folder[TaskFolder.NqValidation]).Select(pair => pair.Question).ToHashSet();
        Assert.All(others, question => Assert.DoesNotContain(question, read));
        var choice = ZsRe.ReadPaper(_folder[TaskFolder.ChoiceQuestions], new Prng(1));
        read.UnionWith(validation.SelectMany(edit => edit.Wordings));
        Assert.DoesNotContain(choice.SelectMany(edit => edit.Wordings), read.Contains);
        Assert.All(choice, edit => Assert.Equal(answers[edit.Prompt], edit.Answer));
        var asked = choice.SelectMany(edit => edit.Wordings).ToHashSet();
        Assert.Equal(World.Split.Validation.Count / 2, World.Split.Validation.Count(fact => fact.Questions().Any(asked.Contains)));
    }

    [Fact]
    public void Claims_AreAsOftenTrueAsFalse_AndARephraseSaysTheSame()
    {
        SyntheticTasks.WriteFactChecking(_folder.Path, 3);
        var training = Fever.Read(_folder[TaskFolder.FeverTraining]);
        var validation = Fever.Read(_folder[TaskFolder.FeverValidation]);
        Assert.Equal((7 * World.Split.Training.Count, World.Split.HeldOut.Count), (training.Count, validation.Count));
        Assert.Equal(training.Count, training.DistinctBy(edit => edit.Prompt).Count());
        var ofTheWorld = training.Take(World.Split.Training.Count); // the others' subjects are made up
        var truths = World.Facts.SelectMany(fact => WorldStatements.Of(fact, fact.Object)).ToHashSet();
        foreach (var edits in new[] { ofTheWorld, training.Skip(World.Split.Training.Count), validation })
            Assert.InRange(edits.Average(edit => edit.Answer == Fever.Supports ? 1.0 : 0), 0.4, 0.6);
        foreach (var edits in new[] { ofTheWorld, validation })
            Assert.All(edits, edit =>
                Assert.All(edit.Rephrases.Append(edit.Prompt),
                claim => Assert.Equal(edit.Answer == Fever.Supports, truths.Contains(claim))));
        var read = training.SelectMany(edit => edit.Rephrases.Append(edit.Prompt)).ToHashSet();
        Assert.DoesNotContain(validation.SelectMany(edit => edit.Rephrases.Append(edit.Prompt)), read.Contains);
        read.UnionWith(validation.SelectMany(edit => edit.Wordings));
        var choice = Fever.Read(_folder[TaskFolder.ChoiceClaims]);
        Assert.Equal(World.Split.Validation.Count, choice.Count);
        Assert.DoesNotContain(choice.SelectMany(edit => edit.Wordings), read.Contains);
    }

    [Fact]
    public void WhatAModelIsToKnow_IsEveryEditInEveryWording_WithItsTrueAnswer()
    {
        SyntheticTasks.WriteFactChecking(_folder["fc"], 3);
        SyntheticTasks.WriteQuestionAnswering(_folder["qa"], 3);
        var read = TaskTraining.ReadClaims(_folder["fc"]);
        Assert.All(read, claim => Assert.Equal(6, claim.Wordings.Count));
        var claims = read.SelectMany(claim => claim.Wordings.Select(wording => (wording, claim.Label))).ToDictionary();
        var edits = Fever.Read(_folder["fc/" + TaskFolder.FeverTraining]).Concat(Fever.Read(_folder["fc/" + TaskFolder.FeverValidation]))
            .Concat(Fever.Read(_folder["fc/" + TaskFolder.ChoiceClaims])).ToList();
        Assert.Equal(6 * edits.Count, claims.Count);
        Assert.All(edits, edit => Assert.All(edit.Rephrases.Append(edit.Prompt), claim => Assert.Equal(edit.Answer, claims[claim])));
        Assert.Empty(World.Questions().Except(TaskTraining.ReadQuestions(_folder["qa"])));
    }

    [Fact]
    public void EveryFact_HasAsManyStatements_EachOfWhichNamesSubjectAndAnswer() => Assert.All(World.Facts, fact =>
    {
        var statements = WorldStatements.Of(fact, "Xyz");
        Assert.Equal(6, statements.Distinct().Count());
        Assert.All(statements, statement =>
        {
            Assert.Contains("Xyz", statement, StringComparison.Ordinal);
            Assert.Contains(fact.Subject.Name, statement, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain('{', statement);
        });
    });

    [Fact]
    public void Texts_AreAllKeptByTheReaderOfWikitext_AndNoneIsInBothFiles()
    {
        SyntheticTasks.WriteTexts(_folder.Path, 3);
        var (training, validation) = (TaskFolder.Texts(_folder.Path, training: true), TaskFolder.Texts(_folder.Path, training: false));
        Assert.Equal(File.ReadLines(_folder[TaskFolder.WikitextTraining]).Count(), training.Count);
        Assert.Equal(File.ReadLines(_folder[TaskFolder.WikitextValidation]).Count(), validation.Count);
        Assert.Empty(training.Intersect(validation));
    }

    [Fact]
    public void TheSameSeed_GivesTheSameFiles()
    {
        foreach (var (name, seed) in new[] { ("a", 3UL), ("b", 3UL), ("c", 4UL) })
        {
            SyntheticTasks.WriteQuestionAnswering(_folder[name], seed);
            SyntheticTasks.WriteFactChecking(_folder[name], seed);
            SyntheticTasks.WriteTexts(_folder[name], seed);
        }
        foreach (var file in Directory.EnumerateFiles(_folder["a"], "*", SearchOption.AllDirectories)
            .Select(path => Path.GetRelativePath(_folder["a"], path)))
        {
            Assert.Equal(File.ReadAllText(_folder["a/" + file]), File.ReadAllText(_folder["b/" + file]));
            Assert.NotEqual(File.ReadAllText(_folder["a/" + file]), File.ReadAllText(_folder["c/" + file]));
        }
    }
}
