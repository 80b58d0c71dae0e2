using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

public sealed class EditorComparisonTests : IDisposable
{
    private static readonly string[] Places = ["old", "new", "south", "north", "town", "sea"];
    private readonly TemporaryFolder _folder = new();
    private readonly List<EditRows> _cases;

    public EditorComparisonTests()
    {
        TinyModels.Write(_folder["model"], "t5");
        var text = new TextBatch(ModelFamily.FromDirectory(_folder["model"]), TokenizerFiles.Load(_folder["model"]));
        _cases = [.. Places.Select((place, i) => text.Rows(new EditExample($"who is {place}", i % 2 == 0 ? "red" : "blue", [$"the {place}"],
            [new("what is red", "blue"), new($"who is {Places[(i + 1) % 6]}", "red")], "red")))];
    }

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void EditsAtOnce_EachAsIfAlone_AreSummed_AndCasesThatFillNoBatchAreLeftOut()
    {
        using var comparison = Open();
        var mend = new TrainedEditor(_folder["model/editor.safetensors"]);
        var report = comparison.Measure(mend, 4, _cases);
        Assert.Equal(("MEND", 4, 1), (report.Editor, report.Edits, report.Batches));
        Assert.Equal(Enumerable.Range(0, 4), report.Cases.Select(result => result.Index));
        Assert.Equal(4, report.Protocol.Cases);
        Assert.All(report.Cases.Take(3), result => Assert.Single(result.Locality)); // the other asks what the next edit changes
        Assert.Throws<InvalidDataException>(() => comparison.Measure(mend, 7, _cases));
    }

    [Fact]
    public void ABatchWhoseNumbersOverflow_CountsAsNotEdited_AndTheTableSaysSo()
    {
        using var comparison = Open();
        var ruinous = new UntrainedUltraEdit(new() { EditLr = 1e300 }, EditableWeights.DownProjections(ModelFamily.FromDirectory(_folder["model"])), turn: 2);
        var report = comparison.Measure(ruinous, 4, _cases);
        Assert.Equal((1, 1), (report.Batches, report.NotMade));
        Assert.All(report.Cases, result => Assert.Equal(result.Edit.Before, result.Edit.After));
        Assert.Contains(ResultTables.AtOnce([report]).Notes, note => note.Contains("1 batches could not be computed", StringComparison.Ordinal));
        Assert.Equal(0, comparison.Measure(ruinous, 2, _cases).NotMade); // one turn, which ruins the model afterwards
    }

    [Fact]
    public void AProtocol_TellsWhatWasMeasuredApart()
    {
        using var comparison = Open();
        var tuned = new FineTunedEditor(new() { EditLr = 1e-2 }, []);
        var protocol = comparison.ProtocolOf(tuned, 2, _cases);
        Assert.Equal(protocol, comparison.Measure(tuned, 2, _cases).Protocol);
        Assert.Equal(protocol, comparison.ProtocolOf(tuned, 2, _cases));
        Assert.NotEqual(protocol, comparison.ProtocolOf(tuned, 1, _cases));
        Assert.NotEqual(protocol, comparison.ProtocolOf(tuned, 2, [.. _cases.Skip(2)]));
        Assert.NotEqual(protocol, comparison.ProtocolOf(new FineTunedEditor(new() { EditLr = 1e-3 }, []), 2, _cases));
    }

    [Fact]
    public void FineTuningWithKl_NeverReadsWhatItsBatchIsAskedAfterwards()
    {
        using var comparison = Open();
        var own = new FineTunedEditor(new() { EditLr = 1e-2, MaxEditSteps = 3 }, [], EditorComparison.UnrelatedRows(null, _cases));
        Assert.Equal(2, comparison.Measure(own, 1, _cases[..2]).Cases.Count); // each has the other's
        Assert.Contains("no unrelated row", Assert.Throws<InvalidDataException>(() =>
            comparison.Measure(new FineTunedEditor(own.Options, [], _cases[0].Locality), 1, _cases[..1])).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void BreadthFirstFineTuning_LearnsItsBatchesWhole()
    {
        using var comparison = Open();
        var breadthFirst = new BreadthFirstEditor(new() { EditLr = 3e-2, MaxEpochs = 200 });
        foreach (var (edits, batches) in new[] { (1, 6), (6, 1) })
        {
            var report = comparison.Measure(breadthFirst, edits, _cases);
            Assert.Equal((batches, 1), (report.Batches, report.Summary.EditSuccess.Value));
        }
    }

    [Fact]
    public void Enn_TakesOneStepOnAllEdits_AndKeRefusesMoreThanOne()
    {
        using var comparison = Open();
        var enn = comparison.Measure(Trained(EditorAlgorithm.Enn), 3, _cases);
        Assert.Equal(("ENN", 2), (enn.Editor, enn.Batches));
        Assert.Contains("ENN's drawdown", enn.Protocol.Locality, StringComparison.Ordinal);
        var ke = Trained(EditorAlgorithm.Ke);
        Assert.Equal(6, comparison.Measure(ke, 1, _cases).Cases.Count);
        Assert.Contains("at most 1", Assert.Throws<InvalidDataException>(() => comparison.Measure(ke, 2, _cases)).Message,
            StringComparison.Ordinal);
    }

    [Fact]
    public void AnAblation_HasItsName_AndTwoOfOneNameTheirDigests()
    {
        Assert.Equal("MEND, no norm, no identity init, only u, not shared",
            Named("a", new() { Norm = false, Init = EditorInit.Xavier, Sides = EditorSides.UOnly, Shared = false }).Name);
        Assert.Equal("MEND", Named("b", new() { Rank = 3 }).Name);
        Named("c", new() { Rank = 4 });
        var editors = TrainedEditor.OfFiles([_folder["a"], _folder["b"], _folder["c"], _folder["b"]]);
        Assert.Equal(3, editors.Count);
        Assert.Equal(2, editors.Count(editor => editor.Name == $"MEND {editor.Digest[..6]}"));
        Assert.Equal("MEND, to 0.95", new TrainedEditor(_folder["b"]).Searched(0.95)!.Name);

        TrainedEditor Named(string file, MendOptions options)
        {
            using var mend = new Mend(options with { Rank = Math.Min(options.Rank, 4) }, [new("w", 4, 3)], 1);
            EditorCheckpoint.SaveEditor(_folder[file], mend);
            return new(_folder[file]);
        }
    }

    private EditorComparison Open() => new(_folder["model"], TimeProvider.System, seed: 3);

    private TrainedEditor Trained(EditorAlgorithm algorithm)
    {
        EditExample[] edits = [.. Enumerable.Range(0, 6)
            .Select(i => new EditExample($"who is {Places[i]}", "red", [$"the {Places[i]}"], [new("what is red", "blue")], "blue"))];
        var options = TaskTraining.Defaults(null, algorithm) with
        {
            Ke = new KnowledgeEditorOptions { HiddenDim = 4, ConditionDim = 4 },
            AccumulateBs = 1,
            ValInterval = 2,
            ValSteps = 1,
            MaxIters = 2
        };
        LocalTraining.Run(_folder["model"], text => QuestionAnswering.Task(text, edits, 1), options, _folder[$"{algorithm}"]);
        return new(_folder[$"{algorithm}/editor.safetensors"]);
    }
}
