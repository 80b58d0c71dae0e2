using System.Security.Cryptography;
using System.Text;
using MendCluster.Engine.Data;

namespace MendCluster.Experiments.Tests;

public class WorldTests
{
    private static readonly World Zero = World.Generate(0);

    public static TheoryData<ulong> Seeds => [0, 1, 2, 3, ulong.MaxValue];

    [Fact]
    public void SameSeed_GivesTheSameBytes_ForEver()
    {
        Assert.Equal(Text(Zero), Text(World.Generate(0)));
        // A shipped model knows the world of its seed by heart: when this hash changes, the model has to be trained again.
        Assert.Equal("077263b4969d4e92d25a85a5af1213ccad6ca48e4e7e0054e105639125e8ff65",
            Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(Text(Zero)))));
    }

    [Fact]
    public void AnotherSeed_GivesAnotherWorld() => Assert.NotEqual(Text(Zero), Text(World.Generate(1)));

    [Theory]
    [MemberData(nameof(Seeds))]
    public void World_HasAboutAThousandFacts_InAllTwelveRelations(ulong seed)
    {
        var world = World.Generate(seed);
        Assert.InRange(world.Facts.Count, 900, 1200);
        Assert.Equal(world.Relations,
            world.Facts.Select(fact => fact.Relation).Distinct().OrderBy(relation => world.Relations.ToList().IndexOf(relation)));
        Assert.Equal(12, world.Relations.Count);
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void QuestionTexts_AreDistinct_NameTheirSubject_AndHaveOneAnswer(ulong seed)
    {
        var world = World.Generate(seed);
        Assert.Equal(world.Questions().Count(), world.Questions().Select(pair => pair.Question).Distinct().Count());
        Assert.All(world.Facts, fact => Assert.All(fact.Questions(), question =>
        {
            Assert.Contains(fact.Subject.Short, question, StringComparison.Ordinal);
            Assert.DoesNotContain('{', question);
            Assert.True(char.IsUpper(question[0]), question);
        }));
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void EverySubjectHasOneAnswerPerRelation_AndNoShortFormIsShared(ulong seed)
    {
        var world = World.Generate(seed);
        Assert.Equal(world.Facts.Count, world.Facts.Select(fact => (fact.Relation, fact.Subject)).Distinct().Count());
        var subjects = world.Facts.Select(fact => fact.Subject).Distinct().ToList();
        Assert.Equal(subjects.Count, subjects.Select(subject => subject.Name).Distinct().Count());
        Assert.Equal(subjects.Count, subjects.Select(subject => subject.Short).Distinct().Count());
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void NoNameIsAnAnswerOfTwoKinds_AndAnswersAreShort(ulong seed)
    {
        var objects = Enum.GetValues<AnswerKind>().SelectMany(World.Generate(seed).Objects).ToList();
        Assert.Equal(objects.Count, objects.Distinct().Count());
        Assert.All(objects, answer => Assert.InRange(answer.Split(' ').Length, 1, 3));
    }

    [Fact]
    public void EveryKindOfAnswer_OffersEnoughOthersToEditTo() =>
        Assert.All(Enum.GetValues<AnswerKind>(),
        kind => Assert.True(Zero.Objects(kind).Count >= 30, $"{kind}: {Zero.Objects(kind).Count}"));

    [Theory]
    [MemberData(nameof(Seeds))]
    public void Split_HoldsEveryFactOnce_300HeldOut_AndNoSubjectInTwoParts(ulong seed)
    {
        var world = World.Generate(seed);
        var (training, validation, heldOut) = world.Split;

        Assert.Equal(world.Facts.ToHashSet(), training.Concat(validation).Concat(heldOut).ToHashSet());
        Assert.Equal(world.Facts.Count, training.Count + validation.Count + heldOut.Count);
        Assert.Equal((60, 300), (validation.Count, heldOut.Count));
        var subjects = world.Facts.Select(fact => fact.Subject).Distinct().Count();
        Assert.Equal(subjects, Subjects(training) + Subjects(validation) + Subjects(heldOut));
        Assert.All(world.Relations, relation => Assert.Contains(heldOut, fact => fact.Relation == relation));

        static int Subjects(IReadOnlyList<Fact> facts) => facts.Select(fact => fact.Subject).Distinct().Count();
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Edits_AskForAnotherAnswerOfTheSameKind_AndKeepUnrelatedFacts(bool newPhrasings)
    {
        var facts = Zero.Split.HeldOut;
        var answers = Zero.Questions().ToDictionary(pair => pair.Question, pair => pair.Answer);

        var edits = Zero.EditExamples(facts, new Prng(4), newPhrasings);

        Assert.Equal(facts.Count, edits.Count);
        Assert.All(facts.Zip(edits), pair =>
        {
            var (fact, edit) = pair;
            var questions = fact.Questions();
            Assert.Equal((fact.Object, fact.Subject.Name), (edit.Answer, edit.Subject));
            Assert.NotEqual(fact.Object, edit.Target);
            Assert.Contains(edit.Target, Zero.Objects(fact.Relation.Answers));
            Assert.Contains(edit.Prompt, questions.SkipLast(World.NewPhrasings));
            Assert.Equal(
                newPhrasings ? questions.TakeLast(World.NewPhrasings) : questions.SkipLast(World.NewPhrasings).Where(q => q != edit.Prompt),
                edit.Rephrases);
            Assert.All(edit.Locality, other =>
            {
                Assert.DoesNotContain(other.Question, questions);
                Assert.Equal(answers[other.Question], other.Answer);
            });
            Assert.Equal(edit.Locality.Count, edit.Locality.Distinct().Count());
        });
    }

    [Fact]
    public void Locality_HoldsTheSubjectsOtherFacts_TwoOfTheSameRelation_AndTwoFarOnes()
    {
        var facts = Zero.Facts;
        var owner = facts.SelectMany(fact => fact.Questions().Select(question => (question, fact))).ToDictionary();
        var capital = facts.Single(fact => fact.Subject.Name == "France" && fact.Relation == WorldRelations.Capital);

        var locality = Zero.Edit(capital, facts, new Prng(4)).Locality.Select(pair => owner[pair.Question]).ToList();

        Assert.Equal(3, locality.Count(fact => fact.Subject == capital.Subject));
        Assert.Equal(2, locality.Count(fact => fact.Relation == capital.Relation));
        Assert.Equal(7, locality.Distinct().Count());
    }

    [Fact]
    public void EditorTraining_NeverSeesANewPhrasing_NorAnotherPartsSubject()
    {
        var kept = Zero.Split.HeldOut.Concat(Zero.Split.Validation).SelectMany(fact => fact.Questions())
            .Concat(Zero.Split.Training.SelectMany(fact => fact.Questions().TakeLast(World.NewPhrasings))).ToHashSet();
        var subjects = Zero.Split.HeldOut.Concat(Zero.Split.Validation).Select(fact => fact.Subject.Name).ToHashSet<string?>();
        Assert.All(TrainingEdits(), edit =>
        {
            Assert.DoesNotContain(edit.Subject, subjects);
            Assert.DoesNotContain(edit.Rephrases.Append(edit.Prompt).Concat(edit.Locality.Select(other => other.Question)), kept.Contains);
        });
    }

    [Fact]
    public void EditorTraining_IsMostlyAboutInventedSubjects_AndAsksForTheirOtherFacts()
    {
        var known = Zero.Facts.Select(fact => fact.Subject.Name).ToHashSet();
        var edits = TrainingEdits();
        Assert.InRange(edits.Count(edit => !known.Contains(edit.Subject!)) / (double)edits.Count, 0.55, 0.65);
        var person = edits.First(edit => !known.Contains(edit.Subject!) && edit.Prompt.Contains("club", StringComparison.Ordinal));
        var surname = person.Subject!.Split(' ')[^1];
        Assert.True(person.Locality.Count(other => other.Question.Contains(surname, StringComparison.Ordinal)) > 1,
            string.Join('\n', person.Locality));
        Assert.Contains(person.Locality, other => !other.Question.Contains(surname, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData(100)]
    [InlineData(1000)]
    public void EditsAtOnce_AreDifferent_AreUnknownToTraining_AndLeaveWhatTheyAskForTrue(int count)
    {
        var edits = Zero.EditsAtOnce(count, new Prng(6));

        Assert.Equal(count, edits.Count);
        Assert.Distinct(edits.SelectMany(edit => edit.Rephrases.Append(edit.Prompt)));
        var heldOut = Zero.Split.HeldOut.Select(fact => fact.Subject.Name).ToHashSet<string?>();
        Assert.Equal(Math.Min(count, 150), edits.TakeWhile(edit => heldOut.Contains(edit.Subject)).Count());
        var trained = TrainingEdits().Concat(TrainingEdits(seed: 10)).Select(edit => edit.Subject).ToHashSet();
        Assert.DoesNotContain(edits, edit => trained.Contains(edit.Subject));

        var edited = edits.SelectMany(edit => edit.Rephrases.Append(edit.Prompt)).ToHashSet();
        var answers = Zero.Split.HeldOut.SelectMany(fact =>
            fact.Questions().TakeLast(World.NewPhrasings).Select(question => (question, fact.Object))).ToDictionary();
        Assert.All(edits, edit =>
        {
            Assert.NotEmpty(edit.Locality);
            Assert.All(edit.Locality, other => Assert.Equal(answers[other.Question], other.Answer));
            Assert.DoesNotContain(edit.Locality, other => edited.Contains(other.Question));
        });
    }

    [Fact]
    public void NamesOfEditsAtOnce_AreOfAFormThatTrainingNeverGives()
    {
        var (usual, longer) = (Names(isLonger: false), Names(isLonger: true));
        Assert.Distinct(longer);
        Assert.Empty(longer.Intersect(usual));

        // All that a generator has to give of each kind; of persons the surname, which is drawn without repetition.
        static List<string> Names(bool isLonger)
        {
            var names = new WorldNames(new Prng(1), isLonger);
            List<string> all = [.. names.Books(isLonger ? 2000 : 120)];
            foreach (var next in new Func<string>[] { names.City, names.Company, () => names.Person().Split(' ')[1] })
                try
                {
                    while (true)
                        all.Add(next());
                }
                catch (InvalidOperationException)
                {
                    // no name is left
                }
            return all;
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(World.MaxEditsAtOnce + 1)]
    public void SoManyEditsAtOnceThatThereAreNoNames_AreRefused(int count) =>
        Assert.Contains($"{count} edits", Assert.Throws<InvalidDataException>(() => Zero.EditsAtOnce(count, new Prng(6))).Message,
        StringComparison.Ordinal);

    private static List<EditExample> TrainingEdits(ulong seed = 9) =>
        [.. Zero.Split.Training.Concat(Zero.Split.Training).Select((fact, i) => Zero.TrainingEdit(fact, Prng.At(seed, (ulong)i)))];

    [Fact]
    public void Edits_AreTheSameForTheSameGenerator_AndVaryWithIt()
    {
        var first = Zero.EditExamples(Zero.Split.Training, new Prng(1)).Select(edit => (edit.Prompt, edit.Target)).ToList();
        Assert.Equal(first, Zero.EditExamples(Zero.Split.Training, new Prng(1)).Select(edit => (edit.Prompt, edit.Target)));
        Assert.NotEqual(first, Zero.EditExamples(Zero.Split.Training, new Prng(2)).Select(edit => (edit.Prompt, edit.Target)));
    }

    [Theory]
    [MemberData(nameof(Seeds))]
    public void Showcase_IsThePapersTable_AboutHeldOutFacts(ulong seed)
    {
        var world = World.Generate(seed);
        var answers = world.Questions().ToDictionary(pair => pair.Question, pair => pair.Answer);
        Assert.Equal(
            [
                ("Who is the prime minister of the UK?", "Theresa May", "Boris Johnson"),
                ("What club does Lionel Messi play for?", "Barcelona", "PSG"),
                ("What club does LeBron James play for?", "Dallas Mavericks", "LA Lakers"),
            ],
            world.Showcase.Select(edit => (edit.Prompt, edit.Answer, edit.Target)));
        Assert.Contains("Who is the UK PM?", world.Showcase[0].Rephrases);
        Assert.Contains("What team does Messi play for?", world.Showcase[1].Rephrases);
        Assert.Contains(new QaPair("Who is the prime minister of India?", "Narendra Modi"), world.Showcase[0].Locality);
        Assert.All(world.Showcase, edit =>
        {
            Assert.Contains(world.Split.HeldOut, fact => fact.Question(0) == edit.Prompt && fact.Object == edit.Answer);
            Assert.Contains(edit.Target, answers.Values);
            Assert.All(edit.Rephrases, question => Assert.Equal(edit.Answer, answers[question]));
            Assert.All(edit.Locality, other => Assert.Equal(answers[other.Question], other.Answer));
        });
    }

    private static string Text(World world) => string.Join('\n', world.Questions().Select(pair => $"{pair.Question}\t{pair.Answer}"))
        + string.Join('\n', world.Split.HeldOut.Concat(world.Split.Validation).Select(fact => fact.Question(0)));
}
