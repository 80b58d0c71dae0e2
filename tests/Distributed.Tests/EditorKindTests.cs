using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

/// <summary>A cluster edits with whatever editor the file holds; the transaction is the same.</summary>
public class EditorKindTests
{
    [Theory]
    [InlineData("malmen")]
    [InlineData("ultraedit")]
    public async Task AnEditorOfAnotherKind_EditsAndIsTakenBack(string kind)
    {
        using var model = new ClusterOfTinyModel("t5");
        Write(model, kind);
        string untouched, edited;
        await using (var cluster = await model.OpenAsync(stages: 2))
        {
            untouched = await model.StateAsync(cluster);
            var receipt = await cluster.EditAsync("who is the mayor", "a woman");
            Assert.True(receipt.Figures.ProbabilityAfter > receipt.Figures.ProbabilityBefore, receipt.Figures.ToString());
            edited = await model.StateAsync(cluster);
            Assert.NotEqual(untouched, edited);
        }
        await using var again = await model.OpenAsync(stages: 3);
        Assert.Equal(edited, await model.StateAsync(again));
        await again.RevertAsync(new(1));
        Assert.Equal(untouched, await model.StateAsync(again));
    }

    private static void Write(ClusterOfTinyModel model, string kind)
    {
        using var scope = NewDisposeScope();
        using var files = HuggingFaceDirectory.Open(model.Model);
        using var stage = Stage.LoadWhole(ModelFamily.FromDirectory(model.Model), new CheckpointWeights(files, ScalarType.Float32));
        var text = new TextBatch(stage.Family, TokenizerFiles.Load(model.Model));
        var weights = EditorTraining.EditableWeights(stage);
        IReadOnlyDictionary<string, Engine.GradientFactors> Factors(string prompt, string target) =>
            TrainingStep.Record(stage, text.Of([(prompt, target)])).Factors;
        var seen = new[] { Factors("what is red", "blue"), Factors("the old town", "south"),
            Factors("who is the mayor of the old town", "a woman") };
        if (kind == "malmen")
        {
            using var malmen = new Malmen(new() { Rank = 6, EditLr = 1e-3 }, weights, 1);
            foreach (var factors in seen)
                malmen.AddToStatistics(factors);
            EditorCheckpoint.SaveEditor(model.Editor, malmen);
        }
        else
        {
            using var ultra = new UltraEdit(new() { EditLr = 1e-3 }, weights);
            foreach (var factors in seen)
                ultra.AddToStatistics(factors);
            EditorCheckpoint.SaveEditor(model.Editor, ultra);
        }
    }
}
