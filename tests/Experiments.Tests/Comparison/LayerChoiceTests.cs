using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Experiments.Tests;

/// <summary>Which weights to edit, on models of random weights whose editor moves answers.</summary>
public sealed class LayerChoiceTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Theory]
    [InlineData("gpt2", 6)] // its three last blocks: all, down, up; the last 1, 2 (3 is the second) and none of 6
    [InlineData("t5", 8)]
    [InlineData("bert", 5)]
    public void Candidates_AreWeightsOfTheModel_NoSetTwice(string family, int least)
    {
        TinyModels.Write(_folder.Path, family);
        var model = ModelFamily.FromDirectory(_folder.Path);
        var candidates = LayerChoice.Candidates(model);
        Assert.InRange(candidates.Count, least - 2, least + 2);
        Assert.Equal(model.DefaultEditableWeights, candidates[0].Weights);
        Assert.All(candidates, candidate => Assert.Equal(candidate.Weights, EditableWeights.Select(model, candidate.Weights)));
        Assert.Equal(candidates.Count, candidates.Select(candidate => string.Join(' ', candidate.Weights.Order())).Distinct().Count());
        Assert.Equal(candidates.Count, candidates.Select(candidate => candidate.Name).Distinct().Count());
        Assert.Equal(family == "t5", candidates.Any(candidate => candidate.Name == "its decoder"));
    }

    [Fact]
    public void ACandidate_IsMeasuredAtTheStrengthThatDoesMostWithinTheDrawdown()
    {
        TinyModels.Write(_folder.Path, "bert");
        var family = ModelFamily.FromDirectory(_folder.Path);
        var text = new TextBatch(family, TokenizerFiles.Load(_folder.Path));
        string[] words = ["who", "is", "the", "mayor", "of", "old", "town", "woman", "from", "south", "red", "blue"];
        var labels = words.ToDictionary(word => word, word => LabelOf(family, text, word));
        var cases = words.Take(6).Select((word, i) => text.Rows(new EditExample(word, Fever.Other(labels[word]), [$"{word} {words[i + 1]}"],
            [.. words.Skip(6).Select(other => new QaPair(other, labels[other]))]))).ToList();
        using var comparison = new EditorComparison(_folder.Path, TimeProvider.System, EditTaskKind.Fc);
        var candidate = new LayerCandidate("family's choice", family.DefaultEditableWeights);
        LayerReport At(double drawdown) => new LayerChoice((weights, run) =>
        {
            Assert.Equal(candidate.Weights, weights);
            Directory.CreateDirectory(run);
            File.Copy(_folder["editor.safetensors"], Path.Combine(run, "editor.safetensors"), overwrite: true);
        }, comparison, cases, drawdown).Measure(candidate, _folder["runs"]);

        SetAlpha(0.002f); // weak enough to lose less at some strengths than at others
        var editor = new TrainedEditor(_folder["editor.safetensors"]);
        var all = LayerChoice.Strengths.Select(strength => comparison.Measure(editor.AtStrength(strength), 1, cases)).ToList();
        var drawdowns = all.Select(report => report.Summary.Drawdown!.Value).ToList();
        Assert.True(drawdowns.Distinct().Count() > 1, string.Join(' ', drawdowns));
        Assert.Equal(all.Max(report => report.Summary.RephraseSuccess!.Value), At(1).Edited.Summary.RephraseSuccess!.Value);
        var allowed = drawdowns.Order().ElementAt(1);
        var within = At(allowed);
        Assert.True(within.IsWithin);
        Assert.InRange(within.Edited.Summary.Drawdown!.Value, -1, allowed);
        Assert.Equal(all.Where(report => report.Summary.Drawdown!.Value <= allowed).Max(report => report.Summary.RephraseSuccess!.Value),
            within.Edited.Summary.RephraseSuccess!.Value);
        var none = At(-2);
        Assert.False(none.IsWithin);
        Assert.Equal(drawdowns.Min(), none.Edited.Summary.Drawdown!.Value);
        Assert.Null(LayerChoice.Best([none]));
        Assert.Equal(within, LayerChoice.Best([none, within]));
    }

    private void SetAlpha(float alpha)
    {
        using var mend = EditorCheckpoint.LoadEditor(_folder["editor.safetensors"]);
        using (no_grad())
            mend.Alpha.Mul_(0).Add_(alpha);
        EditorCheckpoint.SaveEditor(_folder["editor.safetensors"], mend);
    }

    private string LabelOf(ModelFamily family, TextBatch text, string claim)
    {
        using var scope = NewDisposeScope();
        using var files = HuggingFaceDirectory.Open(_folder.Path);
        using var stage = Stage.LoadWhole(family, new CheckpointWeights(files, ScalarType.Float32), []);
        var refuted = SmallModel.ExactMatch(stage, text, [text.Row(claim, Fever.Refutes)]);
        return refuted == 1 ? Fever.Refutes : Fever.Supports;
    }
}
