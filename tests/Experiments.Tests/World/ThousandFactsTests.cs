using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

public sealed class ThousandFactsTests
{
    private static readonly ThousandFacts Facts = new(7, WorldSize.Large);

    [Fact]
    public void AThousandFactsAreEdited_FiveHundredStay_OfFourThousand()
    {
        var world = Facts.World;
        Assert.Equal((4000, 2300, 200), (world.Facts.Count, world.Split.Training.Count, world.Split.Validation.Count));
        Assert.Equal((1000, 500), (Facts.Edited.Count, Facts.Staying.Count));
        Assert.Equal(world.Split.HeldOut.ToHashSet(), [.. Facts.Edited, .. Facts.Staying]);
        Assert.Equal(world.Questions().Count(), world.Questions().Select(pair => pair.Question).Distinct().Count());
        var subjects = world.Facts.Select(fact => fact.Subject).Distinct().ToList();
        Assert.Distinct(subjects.Select(subject => subject.Short));
    }

    [Fact]
    public void NoEditChangesWhatAnotherAsks_NorWhatIsUnrelated()
    {
        Assert.Distinct(Facts.Edits.SelectMany(edit => edit.Wordings));
        var edited = Facts.Edited.SelectMany(fact => fact.Questions()).ToHashSet();
        var answers = Facts.World.Questions().ToDictionary(pair => pair.Question, pair => pair.Answer);
        Assert.All(Facts.Edits.SelectMany(edit => edit.Locality).Concat(Facts.Unrelated).Concat(Facts.Known), other =>
        {
            Assert.DoesNotContain(other.Question, edited);
            Assert.Equal(answers[other.Question], other.Answer);
        });
        Assert.Equal(500, Facts.Unrelated.DistinctBy(pair => pair.Question).Count());
    }

    [Fact]
    public void EveryStratumIsAsked_AndToldApart()
    {
        var counts = Facts.Edits.SelectMany(edit => edit.Locality.Select(other => Facts.StratumOf(edit.Prompt, other.Question))).CountBy(stratum => stratum)
            .ToDictionary();
        Assert.True(counts[Stratum.SameSubject] > 300 && counts[Stratum.SameRelation] > 1500 && counts[Stratum.Far] == 2000,
            string.Join(", ", counts));
        var edit = Facts.Edits.First(edit => edit.Locality.Count == 5);
        Assert.Equal([Stratum.SameSubject, Stratum.SameRelation, Stratum.SameRelation, Stratum.Far, Stratum.Far],
            edit.Locality.Select(other => Facts.StratumOf(edit.Prompt, other.Question)));
        Assert.Contains(edit.Subject!.Split(' ')[^1], edit.Locality[0].Question, StringComparison.Ordinal);
    }

    /// <summary>Their subjects have no word in common with anything that the model knows or an editor is trained on.</summary>
    [Fact]
    public void EditsAboutMadeUpSubjects_AreOfNamesThatNothingElseHas()
    {
        Assert.Equal(250, Facts.MadeUp.Count);
        Assert.Distinct(Facts.MadeUp.SelectMany(edit => edit.Wordings));
        using var folder = new TemporaryFolder();
        TinyModels.Write(folder["model"], "t5");
        var task = Facts.Task(new TextBatch(ModelFamily.FromDirectory(folder["model"]), TokenizerFiles.Load(folder["model"])));
        var read = Enumerable.Range(0, 2000).Select(i => task.Training(i).Edit.Prompt).Concat(Facts.Questions.Select(pair => pair.Question))
            .SelectMany(Words).ToHashSet();
        Assert.All(Facts.MadeUp, edit => Assert.DoesNotContain(Words(edit.Subject!).Where(word => word != "The"), read.Contains));
        var locality = Facts.MadeUp.SelectMany(edit => edit.Locality.Select(other => Facts.StratumOf(edit.Prompt, other.Question))).Distinct().Order();
        Assert.Equal([Stratum.SameRelation, Stratum.Far], locality);

        static IEnumerable<string> Words(string text) => text.Split(' ', '?', '.', ',', '\'').Where(word => word.Length > 1);
    }

    [Fact]
    public void WhatFollowsFromAnEditAndAnotherFact_IsAskedInTwoSteps_AndKnownBefore()
    {
        var known = Facts.Questions.ToDictionary(pair => pair.Question, pair => pair.Answer);
        var implied = Facts.Edited.Zip(Facts.Edits).Select(edit => (Fact: edit.First, edit.Second.Target, Pairs: Facts.Implied(edit.First, edit.Second.Target)))
            .Where(edit => edit.Pairs.Count > 0).ToList();
        Assert.InRange(implied.Count, 80, 250);
        Assert.Equal([WorldRelations.Employer, WorldRelations.Headquarters], implied.Select(edit => edit.Fact.Relation).Distinct().OrderBy(relation => relation.Name));
        var seats = Facts.World.Facts.Where(fact => fact.Relation == WorldRelations.Headquarters).ToDictionary(fact => fact.Subject.Name, fact => fact.Object);
        var edited = Facts.Edited.ToHashSet();
        foreach (var (job, target, _) in implied.Where(edit => edit.Fact.Relation == WorldRelations.Employer))
            Assert.DoesNotContain(edited, fact => fact.Relation == WorldRelations.Headquarters && fact.Subject.Name == target);
        Assert.All(implied, edit => Assert.All(edit.Pairs, pair =>
        {
            Assert.Contains(pair.Question, known.Keys);
            Assert.Equal(edit.Fact.Relation == WorldRelations.Employer ? seats[edit.Target] : edit.Target, pair.Answer);
        }));
    }

    [Fact]
    public void EditorsTrainOnNothingThatIsMeasured()
    {
        using var folder = new TemporaryFolder();
        TinyModels.Write(folder["model"], "t5");
        var task = Facts.Task(new TextBatch(ModelFamily.FromDirectory(folder["model"]), TokenizerFiles.Load(folder["model"])));
        var measured = Facts.World.Split.HeldOut.SelectMany(fact => fact.Questions()).ToHashSet();
        var known = Facts.World.Split.Training.SelectMany(fact => fact.Questions()).ToHashSet();
        var invented = 0;
        for (var i = 0; i < 300; i++)
        {
            var edit = task.Training(i);
            Assert.All(edit.Rephrases.Concat(edit.Locality).Prepend(edit.Edit), row => Assert.DoesNotContain(row.Prompt, measured));
            invented += known.Contains(edit.Edit.Prompt) ? 0 : 1;
        }
        Assert.InRange(invented, 150, 210); // 60 %
        Assert.Equal((200, 1000), (task.ValidationCount, task.CaseCount));
        Assert.All(Enumerable.Range(0, 200), i => Assert.DoesNotContain(task.Validation(i).Edit.Prompt, measured));
        Assert.Equal(task.Training(5).Edit.Prompt, task.Training(5).Edit.Prompt);
    }

    [Fact]
    public void LongNamesAreDrawn_AsAStockWouldGiveThem()
    {
        var stock = new WorldNames(new Prng(1), isLonger: true);
        foreach (var kind in new[] { SubjectKind.Person, SubjectKind.Book, SubjectKind.Company, SubjectKind.City })
            Assert.Equal(stock.Of(kind).Split(' ').Length, WorldNames.LongName(kind, new Prng(2)).Split(' ').Length);
    }
}
