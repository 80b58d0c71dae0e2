using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Recipes;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Recipes;

public sealed class SimultaneousEditsTests : IDisposable
{
    private static readonly string[] Places = ["old", "new", "south", "north", "town", "sea"];
    private readonly TemporaryFolder _folder = new();

    private static List<EditExample> Cases =>
        [.. Places.Select((place, i) => new EditExample($"who is {place}", i % 2 == 0 ? "red" : "blue", [$"the {place}"], [new("what is red", "blue"), new($"who is {Places[(i + 1) % 6]}", "red")]))];

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

    [Fact]
    public void OneEditAtATime_IsMeasuredAsByTheComparisonOfEditors()
    {
        TinyModels.Write(_folder["model"], "t5");
        var alone = new EditorComparison(_folder["model"], TimeProvider.System).Editor(_folder["model/editor.safetensors"], null, Rows);
        var reports = new SimultaneousEdits(_folder["model"], TimeProvider.System).Trained(_folder["model/editor.safetensors"], [1, 4], Rows);
        Assert.Equal((1, 6), (reports[0].Edits, reports[0].Batches));
        Assert.Equal((4, 1), (reports[1].Edits, reports[1].Batches)); // two cases fill no batch
        Assert.Equal(4, reports[1].Cases.Count);
        Assert.All(alone.Cases.Zip(reports[0].Cases), pair => Assert.Equal(pair.First.Edit.After.Nll, pair.Second.Edit.After.Nll, 3));
        Assert.Throws<InvalidDataException>(() => new SimultaneousEdits(_folder["model"], TimeProvider.System).Trained(_folder["model/editor.safetensors"], [7], Rows));
    }

    [Fact]
    public void AMalmenRun_GoesOnWhereItStopped_AndItsEditorMakesManyEditsAtOnce()
    {
        TinyModels.Write(_folder["model"], "t5");
        Train("whole", 20);
        Train("parts", 10);
        Train("parts", 20);
        Assert.Equal(File.ReadAllBytes(_folder["whole/checkpoint.safetensors"]), File.ReadAllBytes(_folder["parts/checkpoint.safetensors"]));

        var recipe = new SimultaneousEdits(_folder["model"], TimeProvider.System);
        Assert.Equal("MALMEN", recipe.Trained(_folder["whole/editor.safetensors"], [3], Rows)[0].Editor);
        var untrained = recipe.UltraEdit(new() { EditLr = 1e-2 }, [], [6], Rows)[0];
        Assert.True(untrained.Cases.Average(result => result.Edit.After.Nll) < untrained.Cases.Average(result => result.Edit.Before.Nll));

        void Train(string run, long iterations) => TaskTraining.TrainEditor(_folder["model"],
            text => QuestionAnswering.Task(text, [.. Enumerable.Range(0, 3).SelectMany(_ => Cases)], 1),
            new() { Algorithm = EditorAlgorithm.Malmen, Malmen = new() { Rank = 4, EditLr = 1e-3 }, Edits = 2, Lr = 1e-3, AccumulateBs = 1, ValInterval = 10, MaxIters = iterations, Averaging = 0.9 }, _folder[run]);
    }

    [Fact]
    public void BreadthFirstFineTuning_StandsBesideTheEditors()
    {
        TinyModels.Write(_folder["model"], "t5");
        var reports = new SimultaneousEdits(_folder["model"], TimeProvider.System).BreadthFirst(new() { EditLr = 3e-2, MaxEpochs = 200 }, [1, 6], Rows);
        Assert.Equal([("FT, breadth-first", 1, 6), ("FT, breadth-first", 6, 1)], reports.Select(report => (report.Editor, report.Edits, report.Batches)));
        Assert.All(reports, report => Assert.Equal(1, report.Summary.EditSuccess!.Value));
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

    [Theory]
    [InlineData(EditorAlgorithm.Mend, 2, "choose malmen")]
    [InlineData(EditorAlgorithm.Ke, 2, "choose malmen")]
    [InlineData(EditorAlgorithm.UltraEdit, 1, "nothing is trained")]
    public void WhatTrainingCannotDo_IsRefusedBeforeItBegins(EditorAlgorithm algorithm, int edits, string why) =>
        Assert.Contains(why, Assert.Throws<EditorException>(() => new EditorTrainingOptions { Algorithm = algorithm, Edits = edits }.Validated()).Message, StringComparison.Ordinal);
}
