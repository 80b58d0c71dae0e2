using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Routing;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Routing;

public sealed class RouterTests
{
    private const int Facts = 400, Wordings = 4, S = 32;

    /// <summary>A fact's wordings differ in some directions as much as facts do in the others; so as they are they cannot be told apart.</summary>
    [Fact]
    public void WhatTheWordingsShare_IsFound_OnFactsThatItWasNotTrainedOn()
    {
        using var scope = NewDisposeScope();
        var (facts, states) = Made(Facts);
        using var router = RouterTraining.Train(facts, states, new() { Steps = 300, Edits = 100, FalseMatches = 0.02 });
        var figures = router.Figures;
        Assert.Equal((100, 360, 40), (figures.Edits, figures.Facts, figures.ValidationFacts));
        Assert.InRange(figures.FalseMatches, 0, 0.02);
        Assert.InRange(figures.Recall, 0.9, 1);

        // on others than both, by the threshold that was set
        var (_, others) = Made(Facts, seed: 2);
        var keys = router.Keys(others).reshape(Facts, Wordings, -1);
        var edited = keys.narrow(0, 0, 100).select(1, 0);                                            // [100, D]
        var asked = keys.narrow(0, 0, 100).select(1, 1).mm(edited.t());
        var unrelated = keys.narrow(0, 100, Facts - 100).reshape(-1, router.Dimensions).mm(edited.t()).max(1).values;
        Assert.InRange(Fraction(asked.max(1).indexes.eq(NewTensor.Arange(0, 100))), 0.9, 1);
        Assert.InRange(Fraction(unrelated.Ge(router.Threshold)), 0, 0.1);

        var plain = nn.functional.normalize(others, 2, -1).reshape(Facts, Wordings, -1);
        Assert.InRange(Fraction(plain.select(1, 1).mm(plain.select(1, 0).t()).max(1).indexes.eq(NewTensor.Arange(0, Facts))), 0, 0.6);
    }

    [Fact]
    public void AFile_GivesTheSameKeys_AndIsRefusedForAnotherModel()
    {
        using var scope = NewDisposeScope();
        using var folder = new TemporaryFolder();
        var file = Path.Combine(folder.Path, EditRouter.FileName);
        var (facts, states) = Made(40);
        using var router = RouterTraining.Train(facts, states, new() { Steps = 3, Dimensions = 8 });
        byte[] model = [.. Enumerable.Repeat((byte)7, 32)];
        router.Save(file, model);

        using var read = EditRouter.Load(file, model);
        Assert.Equal(router.Keys(states).data<float>().ToArray(), read.Keys(states).data<float>().ToArray());
        Assert.Equal((router.Threshold, router.Figures, router.Dimensions), (read.Threshold, read.Figures, read.Dimensions));
        Assert.Equal(router.Digest(), read.Digest());
        model[0]++;
        Assert.Contains("another model's", Assert.Throws<MendException>(() => EditRouter.Load(file, model)).Message, StringComparison.Ordinal);
        Assert.Equal(file, EditRouter.Beside(folder.Path));
    }

    [Fact]
    public void TooFewFacts_AndSettingsOutOfRange_AreRefused()
    {
        using var scope = NewDisposeScope();
        var (few, states) = Made(RouterTraining.MinFacts - 1);
        Assert.Contains("19 facts", Assert.Throws<MendException>(() => RouterTraining.Train(few, states, new())).Message, StringComparison.Ordinal);
        var (facts, more) = Made(RouterTraining.MinFacts);
        foreach (var options in new RouterOptions[] { new() { Edits = 0 }, new() { FalseMatches = 0 }, new() { FalseMatches = 1 }, new() { Dimensions = 0 }, new() { Steps = 0 } })
            Assert.Equal(MendError.InvalidOption, Assert.Throws<MendException>(() => RouterTraining.Train(facts, more, options)).Error);
    }

    [Fact]
    public void EditsThatShareAWording_AreOfOneFact()
    {
        var facts = RoutedFacts.Of(
        [
            new("a1", "x", ["a2"], [new("b1", "y"), new("A1", "x")]),
            new("a3", "x", ["a4"], [new("c1", "z")]),
            new("a2 ", "x", ["a3"], []), // joins the two before
            new("b1", "y", ["b2"], [new("a1", "x")]),
            new("d1", "y", [], []),      // in one wording
        ]);
        Assert.Equal(["a1", "a2", "b1", "a3", "a4", "c1", "b2", "d1"], facts.Questions.Select(asked => asked.Question));
        Assert.Equal(["a1 a2 a3 a4 | b1 c1", "b1 b2 | a1"], facts.InManyWordings.Select(fact =>
            $"{Text(fact.Wordings)} | {Text(fact.Others)}").Order(StringComparer.Ordinal));

        string Text(IEnumerable<int> places) => string.Join(' ', places.Select(place => facts.Questions[place].Question).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void InAListOfQuestions_WordingsThatTemplatesJoin_AreOfOneFact()
    {
        string[] subjects = [.. Enumerable.Range(0, 40).Select(i => $"Place{(char)('a' + i % 26)}{i}")];
        var corpus = subjects.SelectMany((subject, i) => new QaPair[]
        {
            new($"Who leads {subject}?", $"person {i % 30}"), new($"Name the leader of {subject}.", $"person {i % 30}"), // ten persons lead two
        }).ToList();
        var found = RoutedFacts.OfCorpus(corpus);
        var facts = found.InManyWordings;
        Assert.Equal(subjects.Length, facts.Count);
        Assert.False(found.IsWhole);
        Assert.Equal(30, facts.Select(found.Name).Distinct().Count()); // what one person leads may be one place
        Assert.All(facts, fact => Assert.Equal(2, fact.Wordings.Count));

        var single = RoutedFacts.OfCorpus([.. subjects.Select((subject, i) => new QaPair($"Who leads {subject}?", $"person {i}"))]);
        Assert.Equal(subjects.Length, single.InManyWordings.Count); // by rules
    }

    /// <summary>In a batch, with its answer behind it, a question is in the state in which its answer would be begun.</summary>
    [Theory]
    [MemberData(nameof(Families))]
    public void AState_IsThatOfTheAnswersFirstPass(string family)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        using var stage = TinyModel.Load(family);
        var text = TinyModel.Text(stage);
        List<QaPair> questions = [new("abcdef", "gh"), new("fed", "a"), new("bb", "cdefa")];
        var states = RouterTraining.States(stage, text, questions);
        foreach (var (i, asked) in questions.Index())
        {
            var (top, memory) = stage.Forward(Activations.None, new ForwardContext(new Generation(stage.Family, text.Encode(asked.Question), new()).NextInput()));
            var hidden = top!.select(0, 0);
            var expected = QuestionState.Of(memory?.select(0, 0) ?? hidden, hidden.select(0, hidden.shape[0] - 1));
            Assert.InRange((states.select(0, i) - expected).abs().max().item<float>(), 0, 1e-4f);
        }
    }

    public static TheoryData<string> Families => [.. TinyModel.Families];

    private static double Fraction(Tensor which) => which.to_type(ScalarType.Float32).mean().item<float>();

    /// <summary>States whose first half tells the fact, in a mixture, and whose second half the wording.</summary>
    private static (RoutedFacts Facts, Tensor States) Made(int count, ulong seed = 1)
    {
        using var generator = new Generator(seed);
        using var mixing = new Generator(99);
        var (fact, wording, noise) = (NewTensor.Normal([count, 1, S / 2], generator).expand(count, Wordings, S / 2),
            NewTensor.Normal([1, Wordings, S / 2], mixing).Plus(NewTensor.Normal([count, Wordings, S / 2], generator)).Times(2),
            NewTensor.Normal([count, Wordings, S], generator).Times(0.1));
        var states = cat([fact, wording], 2).Plus(noise).reshape(count * Wordings, S).mm(NewTensor.Normal([S, S], mixing));
        return (new([.. Enumerable.Range(0, count * Wordings).Select(i => new QaPair($"{i}", "a"))],
            [.. Enumerable.Range(0, count).Select(i => new RoutedFact([.. Enumerable.Range(i * Wordings, Wordings)], [(i + 1) % count * Wordings]))]), states);
    }
}
