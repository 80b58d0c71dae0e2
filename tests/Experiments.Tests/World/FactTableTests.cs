using System.Text.RegularExpressions;
using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

/// <summary>Claims and questions of a table of facts.</summary>
public sealed class FactTableTests : IDisposable
{
    private const int Countries = 60;

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void EveryClaim_IsLabelledAsTheTableSays_AndNoSubjectIsInTwoFiles()
    {
        // a country has two languages, so neither may be claimed as the false one
        _folder.Write("facts.tsv", "source\tsubject\trelation\tobject\n" + string.Concat(Enumerable.Range(0, Countries).Select(i =>
            $"s\tNation {i}\tcapital\tTown {i}\ns\tNation {i}\tlanguage\tTongue {i % 3}\ns\tNation {i}\tlanguage\tTongue {(i + 1) % 3}\n"))
            + "s\tA river\tpart of\tNation 3\ns\tA lake\tpart of\tNation 4\ns\tThe only one\tanthem\tA song\n");
        var count = FactTable.WriteFactChecking(_folder["claims"], _folder["facts.tsv"], seed: 5, perRelation: 50);
        Assert.Equal(50 + 50 + 2, count);
        var claims = Fever.ReadKnown(Path.Combine(_folder["claims"], TaskFolder.KnownClaims));
        Assert.Equal(count, claims.Count);
        foreach (var claim in claims)
        {
            Assert.Equal(6, claim.Wordings.Distinct().Count());
            Assert.Equal(claim.Label == Fever.Supports, IsTrue(claim.Wordings[0]));
        }
        Assert.InRange(claims.Count(claim => claim.Label == Fever.Supports), count / 4, 3 * count / 4);

        var files = new[] { TaskFolder.FeverTraining, TaskFolder.FeverValidation, TaskFolder.ChoiceClaims }
            .Select(file => Fever.Read(Path.Combine(_folder["claims"], file))).ToList();
        Assert.Equal(count, files.Sum(file => file.Count));
        var subjects = files.Select(file => file.Select(edit => SubjectOf(edit.Prompt)).ToHashSet()).ToList();
        Assert.Empty(subjects[0].Intersect(subjects[1]).Concat(subjects[0].Intersect(subjects[2])).Concat(subjects[1].Intersect(subjects[2])));
        var trained = files[0].SelectMany(edit => edit.Rephrases).ToHashSet();
        Assert.DoesNotContain(files[1].SelectMany(edit => edit.Rephrases), trained.Contains);

        static bool IsTrue(string claim)
        {
            if (!claim.Contains("Nation ", StringComparison.Ordinal) || claim.Contains("part of", StringComparison.Ordinal))
                return claim is "A river is part of Nation 3." or "A lake is part of Nation 4.";
            var (nation, value) = (Number(claim, "Nation "), Number(claim, claim.Contains("Town", StringComparison.Ordinal) ? "Town " : "Tongue "));
            return claim.Contains("Town", StringComparison.Ordinal) ? value == nation : value == nation % 3 || value == (nation + 1) % 3;
        }

        static string SubjectOf(string claim) => claim.Contains("river", StringComparison.Ordinal) ? "river"
            : claim.Contains("lake", StringComparison.Ordinal) ? "lake" : $"{Number(claim, "Nation ")}";

        static int Number(string claim, string after) => int.Parse(
            new string([.. claim[(claim.IndexOf(after, StringComparison.Ordinal) + after.Length)..].TakeWhile(char.IsDigit)]),
            System.Globalization.CultureInfo.InvariantCulture);
    }

    [Fact]
    public void OneRelationIsEdited_OfSubjectsThatNoTrainingKnows_AndTheirOtherFactsAreAskedFor()
    {
        _folder.Write("facts.tsv", "subject\trelation\tobject\n" + string.Concat(Enumerable.Range(0, Countries).Select(i =>
            $"Nation {i}\thead of state\tQueen {i}\nNation {i}\tcapital\tTown {i}\nPerson {i}\tnationality\tKind {i % 7}\n"))
            + "Nation 7\thead of state\tKing\n"); // has two, so no question has one answer
        Assert.Equal((3 * Countries - 1, 30), FactTable.WriteQuestionAnswering(_folder["qa"], _folder["facts.tsv"], seed: 5, perRelation: 100, "head of state"));

        var (training, edits) = TaskFolder.ReadEdits(_folder["qa"], EditTaskKind.Qa, seed: 0);
        var choice = ZsRe.ReadPaper(Path.Combine(_folder["qa"], TaskFolder.ChoiceQuestions), Prng.At(0, 0));
        Assert.Equal(30, edits.Count);
        Assert.All(edits, edit => Assert.True(edit.Answer!.StartsWith("Queen", StringComparison.Ordinal) && edit.Target != edit.Answer));
        var trained = training.Select(edit => Name(edit.Prompt)).ToHashSet();
        Assert.Empty(trained.Intersect(edits.Concat(choice).Select(edit => Name(edit.Prompt))));
        Assert.Empty(edits.Select(edit => Name(edit.Prompt)).Intersect(choice.Select(edit => Name(edit.Prompt))));
        Assert.Equal(Countries, trained.Count(name => name.StartsWith('P')));
        Assert.Contains(training, edit => edit.Answer!.StartsWith("Queen", StringComparison.Ordinal));
        Assert.DoesNotContain(edits.SelectMany(edit => edit.Rephrases), training.SelectMany(edit => edit.Rephrases.Append(edit.Prompt)).Contains);

        // every other fact about an edited subject, and no other
        var asked = TaskFolder.OtherQuestions(_folder["qa"], EditTaskKind.Qa)!;
        Assert.Equal(edits.Select(edit => Name(edit.Prompt)).Order(), asked.Select(pair => Name(pair.Question)).Order());
        Assert.All(asked, pair => Assert.Equal($"Town {Name(pair.Question)[7..]}", pair.Answer));

        // what a model is to know: the truth, in eight wordings each
        var known = TaskFolder.MoreQuestions(_folder["qa"]);
        Assert.Equal(8 * (3 * Countries - 1), known.Select(pair => pair.Question).Distinct().Count());
        Assert.All(known.Where(pair => pair.Answer.StartsWith("Queen", StringComparison.Ordinal)),
            pair => Assert.Equal($"Queen {Name(pair.Question)[7..]}", pair.Answer));

        static string Name(string question) => Regex.Match(question, @"(Nation|Person) \d+").Value;
    }

    [Fact]
    public void ARelationOfTooFewFacts_IsRefused()
    {
        _folder.Write("facts.tsv", "subject\trelation\tobject\nA\tcapital\tB\nC\tcapital\tD\n");
        Assert.Contains("2 facts have the relation \"capital\"", Assert.Throws<InvalidDataException>(() => FactTable.WriteQuestionAnswering(_folder["qa"],
            _folder["facts.tsv"], seed: 5, perRelation: 100, "capital")).Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["qa"]));
    }

    [Theory]
    [InlineData("subject\tobject\nA\tB\n", "line 1")]
    [InlineData("subject\trelation\tobject\nA\tB\n", "line 2")]
    [InlineData("subject\trelation\tobject\nA\tb\tC\nA\t\tC\n", "line 3")]
    [InlineData("subject\trelation\tobject\n", "no usable row")]
    public void ATableInAnotherForm_IsRefusedWithItsLine(string text, string said)
    {
        _folder.Write("facts.tsv", text);
        Assert.Contains(said, Assert.Throws<InvalidDataException>(() => FactTable.Read(_folder["facts.tsv"])).Message, StringComparison.Ordinal);
    }
}
