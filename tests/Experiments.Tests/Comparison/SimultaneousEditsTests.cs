using MendCluster.Contracts;
using MendCluster.Engine;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Experiments.Tests;

public sealed class SimultaneousEditsTests : IDisposable
{
    private static readonly string[] Places = ["old", "new", "south", "north", "town", "sea"];
    private readonly TemporaryFolder _folder = new();

    private static List<EditExample> Cases =>
        [.. Places.Select((place, i) =>
        new EditExample($"who is {place}", i % 2 == 0 ? "red" : "blue", [$"the {place}"],
        [new("what is red", "blue"), new($"who is {Places[(i + 1) % 6]}", "red")]))];

    private List<EditRows> Rows
    {
        get
        {
            var text = new TextBatch(ModelFamily.FromDirectory(_folder["model"]), TokenizerFiles.Load(_folder["model"]));
            return [.. Cases.Select(text.Rows)];
        }
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void WhatOneEditChanges_IsNoLocalityOfAnotherInTheSameBatch()
    {
        TinyModels.Write(_folder["model"], "t5");
        var together = SimultaneousEdits.Together(Rows[..2]);
        Assert.Single(together[0].Locality); // "who is new" is the second edit
        Assert.Equal(2, together[1].Locality.Count);
    }

    [Theory]
    [InlineData(EditorAlgorithm.Malmen, "MALMEN")]
    [InlineData(EditorAlgorithm.Mend, "MEND")]
    [InlineData(EditorAlgorithm.Enn, "ENN")]
    public void ARunOfManyEditsAnIteration_GoesOnWhereItStopped_AndItsEditorMakesManyAtOnce(EditorAlgorithm algorithm, string name)
    {
        TinyModels.Write(_folder["model"], "t5");
        Train("whole", 20);
        Train("parts", 10);
        Train("parts", 20);
        Assert.Equal(File.ReadAllBytes(_folder["whole/checkpoint.safetensors"]),
            File.ReadAllBytes(_folder["parts/checkpoint.safetensors"]));

        using var comparison = new EditorComparison(_folder["model"], TimeProvider.System);
        Assert.Equal(name, comparison.Measure(new TrainedEditor(_folder["whole/editor.safetensors"]), 3, Rows).Editor);

        void Train(string run, long iterations) => LocalTraining.Run(_folder["model"],
            text => QuestionAnswering.Task(text, [.. Enumerable.Range(0, 3).SelectMany(_ => Cases)], 1),
            new()
            {
                Algorithm = algorithm,
                Mend = new() { Rank = 4 },
                Malmen = new() { Rank = 4, EditLr = 1e-3 },
                Edits = 2,
                Lr = 1e-3,
                AccumulateBs = 1,
                ValInterval = 10,
                MaxIters = iterations,
                Averaging = 0.9
            }, _folder[run]);
    }

    [Fact]
    public void UltraEdit_MakesManyEditsAtOnceWithoutTraining()
    {
        TinyModels.Write(_folder["model"], "t5");
        using var comparison = new EditorComparison(_folder["model"], TimeProvider.System);
        var untrained = comparison.Measure(new UntrainedUltraEdit(new() { EditLr = 1e-2 }, []), 6, Rows);
        Assert.True(untrained.Cases.Average(result => result.Edit.After.Nll) < untrained.Cases.Average(result => result.Edit.Before.Nll));

    }

    [Fact]
    public void UltraEditInTurns_MakesEachOnWhatTheOnesBeforeItLeft()
    {
        TinyModels.Write(_folder["model"], "t5");
        UltraEditOptions options = new() { EditLr = 1e-2 };
        using var comparison = new EditorComparison(_folder["model"], TimeProvider.System);
        IEnumerable<double> After(int turn) =>
            comparison.Measure(new UntrainedUltraEdit(options, [], turn), 6, Rows).Cases.Select(result => result.Edit.After.Nll);
        Assert.Equal(comparison.Measure(new UntrainedUltraEdit(options, []), 6, Rows).Cases.Select(result => result.Edit.After.Nll), After(6));

        var family = ModelFamily.FromDirectory(_folder["model"]);
        var text = new TextBatch(family, TokenizerFiles.Load(_folder["model"]));
        using var files = HuggingFaceDirectory.Open(_folder["model"]);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32));
        using var scope = NewDisposeScope();
        using var learning = new UltraEdit(options, EditorTraining.EditableWeights(stage));
        IReadOnlyDictionary<string, LowRankUpdate> Turn(IEnumerable<EditRows> edits, WeightUpdates made)
        {
            var rows = TrainingStep.RecordEach(stage, [text.Of([.. edits.Select(edit => edit.Edit)])], made);
            learning.AddToStatistics(rows);
            return learning.Propose(rows);
        }
        var first = Turn(Rows.Take(3), WeightUpdates.None);
        var second = Turn(Rows.Skip(3), new WeightUpdates(first));
        var both = new WeightUpdates(first.ToDictionary(update => update.Key, update => LowRankUpdate.Stack([update.Value, second[update.Key]])));
        foreach (var (row, nll) in Rows.Zip(After(3)))
            Assert.Equal(TrainingStep.Score(stage, text.Of([row.Edit]), both).Loss, nll, 1e-4);
    }

    [Fact]
    public void AStepOfManyEdits_IsOneUpdateOfEachMadeAlone()
    {
        TinyModels.Write(_folder["model"], "t5");
        var (family, text) = (ModelFamily.FromDirectory(_folder["model"]),
            new TextBatch(ModelFamily.FromDirectory(_folder["model"]), TokenizerFiles.Load(_folder["model"])));
        using var files = HuggingFaceDirectory.Open(_folder["model"]);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32));
        using var scope = NewDisposeScope();
        List<EditRows> two = [Rows[0], Rows[3]]; // their prompts have as many tokens: alone and together they are padded alike
        var batch = SimultaneousEdits.Batch(text, two, new Prng(1));
        var mend = new Mend(new() { Rank = 4, EditLr = 0.1 }, EditorTraining.EditableWeights(stage), 1);
        var alone = two.Select(edit => TrainingStep.Record(stage, text.Of([edit.Edit])).Factors).ToList();
        foreach (var factors in alone)
            mend.ProposeForTraining(factors);
        var sum = alone.Select(mend.Propose)
            .Aggregate((first, second) =>
            first.ToDictionary(update => update.Key, update => LowRankUpdate.Stack([update.Value, second[update.Key]])));
        var expected = TrainingStep.Evaluate(stage, new WeightUpdates(sum), batch, new()).Figures;
        var figures = TrainingStep.Run(stage, mend, batch, new(), []).Figures;
        Assert.Equal(expected.Edit, figures.Edit, 1e-3); // normalising magnifies the rounding
        Assert.Equal(expected.Locality, figures.Locality, 1e-3);
        Assert.NotEqual(expected.Edit,
            TrainingStep.Evaluate(stage, new WeightUpdates(alone.Select(mend.Propose).First()), batch, new()).Figures.Edit, 1e-2);
    }

    [Fact]
    public void ABatchOfATrainingStep_HasNoEditTwice()
    {
        TinyModels.Write(_folder["model"], "t5");
        var data = EditorData.Of(_folder["model"], [.. Cases, .. Cases], new() { Algorithm = EditorAlgorithm.Malmen, Edits = 4 });
        for (var iteration = 0; iteration < 10; iteration++)
        {
            using var scope = NewDisposeScope();
            var ids = data.Training(iteration).Inner.Input.InputIds; // [B, T]
            var rows = ids.data<long>().ToArray().Chunk((int)ids.shape[1]).Select(row => string.Join(' ', row)).ToList();
            Assert.Distinct(rows);
        }
    }

    /// <summary>With rows as published: one of each wording, with a target of its own.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(25)]
    [InlineData(125)]
    public void ABatchOfATrainingStep_WantsOneAnswerOfEachFact_AndNoQuestionAboutAnEditedFactStays(int edits)
    {
        const int facts = 300;
        TinyModels.Write(_folder["model"], "t5");
        var text = new TextBatch(ModelFamily.FromDirectory(_folder["model"]), TokenizerFiles.Load(_folder["model"]));
        string[] wordings = ["who is", "is it", "what"];
        string Question(int fact, int wording) => $"{wordings[wording]} {fact}";
        var factOf = (from fact in Enumerable.Range(0, facts)
                      from wording in Enumerable.Range(0, 3)
                      select (Tokens: string.Join(' ', text.Row(Question(fact, wording), "red").Ids), fact)).ToDictionary();
        List<EditExample> rows = [.. from fact in Enumerable.Range(0, facts)
                                     from wording in Enumerable.Range(0, 3)
                                     select new EditExample(Question(fact, wording), Places[(fact + wording) % 6],
                                         [.. Enumerable.Range(0, 3).Where(other => other != wording).Select(other => Question(fact, other))],
                                         [], Answer: "blue")];
        var data = EditorData.Of(_folder["model"], read => new QuestionTask(read, rows, rows, 1, new(Training: 8)),
            new() { Algorithm = EditorAlgorithm.Malmen, Edits = edits });
        for (var i = 0; i < 20; i++)
        {
            using var scope = NewDisposeScope();
            foreach (var batch in new[] { data.Training(i), data.Validation(i % data.Options.ValSteps) })
            {
                var edited = FactsOf(batch.Inner.Input);
                Assert.Distinct(edited);
                Assert.Equal(edited, FactsOf(batch.Outer.Input));
                Assert.Empty(FactsOf(batch.Locality.Input).Intersect(edited));
            }
            Assert.Equal(edits, data.Training(i).Inner.Input.BatchSize); // those that were left out have others in their place
        }

        List<int> FactsOf(ModelInput input) => [.. input.InputIds.data<long>().ToArray().Zip(input.AttentionMask.data<long>().ToArray())
            .Chunk((int)input.InputIds.shape[1])
            .Select(row => factOf[string.Join(' ', row.Where(at => at.Second == 1).Select(at => at.First))])];
    }

    [Theory]
    [InlineData(EditorAlgorithm.Mend, 0, "at least 1")]
    [InlineData(EditorAlgorithm.Ke, 2, "choose another algorithm")]
    [InlineData(EditorAlgorithm.UltraEdit, 1, "nothing is trained")]
    public void WhatTrainingCannotDo_IsRefusedBeforeItBegins(EditorAlgorithm algorithm, int edits, string why) =>
        Assert.Contains(why, Refusal.Of(MendError.InvalidOption, () =>
        new EditorTrainingOptions { Algorithm = algorithm, Edits = edits }.Validated()).What, StringComparison.Ordinal);
}
