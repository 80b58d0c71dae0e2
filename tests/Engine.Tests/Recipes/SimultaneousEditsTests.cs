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
    public void AMalmenRun_GoesOnWhereItStopped_AndItsEditorMakesManyEditsAtOnce()
    {
        TinyModels.Write(_folder["model"], "t5");
        Train("whole", 20);
        Train("parts", 10);
        Train("parts", 20);
        Assert.Equal(File.ReadAllBytes(_folder["whole/checkpoint.safetensors"]), File.ReadAllBytes(_folder["parts/checkpoint.safetensors"]));

        using var comparison = new EditorComparison(_folder["model"], TimeProvider.System);
        Assert.Equal("MALMEN", comparison.Measure(new TrainedEditor(_folder["whole/editor.safetensors"]), 3, Rows).Editor);
        var untrained = comparison.Measure(new UntrainedUltraEdit(new() { EditLr = 1e-2 }, []), 6, Rows);
        Assert.True(untrained.Cases.Average(result => result.Edit.After.Nll) < untrained.Cases.Average(result => result.Edit.Before.Nll));

        void Train(string run, long iterations) => TaskTraining.TrainEditor(_folder["model"],
            text => QuestionAnswering.Task(text, [.. Enumerable.Range(0, 3).SelectMany(_ => Cases)], 1),
            new() { Algorithm = EditorAlgorithm.Malmen, Malmen = new() { Rank = 4, EditLr = 1e-3 }, Edits = 2, Lr = 1e-3, AccumulateBs = 1, ValInterval = 10, MaxIters = iterations, Averaging = 0.9 }, _folder[run]);
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
