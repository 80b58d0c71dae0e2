using System.Text.Json;
using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Training;

public sealed class EditorTrainingTests : IDisposable
{
    private static readonly string[] Words = ["red", "blue", "green", "old", "new"];
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void ARunThatWasStopped_GoesOnAsIfItHadNot()
    {
        var whole = Run("whole", 40);
        var first = Run("parts", 20);
        Assert.Equal(20, first.Iterations);
        Assert.Equal(whole, Run("parts", 40));
        using var scope = NewDisposeScope();
        using var straight = EditorCheckpoint.Open(_folder["whole/checkpoint.safetensors"]);
        using var resumed = EditorCheckpoint.Open(_folder["parts/checkpoint.safetensors"]);
        using var expectedEditor = straight.Editor();
        using var actualEditor = resumed.Editor();
        foreach (var ((name, expected), (_, actual)) in expectedEditor.State.Zip(actualEditor.State))
            Assert.True(expected.eq(actual).all().item<bool>(), $"{name} differs");
    }

    [Theory]
    [InlineData(EditorAlgorithm.Mend, "t5")]
    [InlineData(EditorAlgorithm.Mend, "bert")]
    [InlineData(EditorAlgorithm.Mend, "gpt2")]
    [InlineData(EditorAlgorithm.Ke, "t5")]
    [InlineData(EditorAlgorithm.Ke, "bert")]
    [InlineData(EditorAlgorithm.Ke, "gpt2")]
    [InlineData(EditorAlgorithm.Enn, "t5")]
    [InlineData(EditorAlgorithm.Enn, "bert")]
    [InlineData(EditorAlgorithm.Enn, "gpt2")]
    [InlineData(EditorAlgorithm.Malmen, "t5")]
    [InlineData(EditorAlgorithm.Malmen, "bert")]
    [InlineData(EditorAlgorithm.Malmen, "gpt2")]
    [Trait("Category", "Slow")]
    public void EveryAlgorithm_OnEveryTask_LowersTheLoss_AndGoesOnAsIfItHadNotStopped(EditorAlgorithm algorithm, string family)
    {
        var straight = Train("straight", 60);
        Train("parts", 40);
        Assert.Equal(straight, Train("parts", 60));
        Assert.Equal(Tensors("straight"), Tensors("parts"));

        var validations = File.ReadLines(_folder["straight/metrics.jsonl"]).Select(line => JsonDocument.Parse(line).RootElement)
            .Where(entry => entry.GetProperty("kind").GetString() == "validation"
                && entry.GetProperty("total").ValueKind == JsonValueKind.Number)
            .Select(entry => entry.GetProperty("total").GetDouble()).ToList();
        Assert.Equal(3, validations.Count);
        Assert.True(straight.BestLoss < 0.99 * validations[0], string.Join(", ", validations));

        TrainingResult Train(string run, long iterations)
        {
            using var stage = TinyModel.Load(family);
            var task = Task(family);
            var options = new EditorTrainingOptions
            {
                Algorithm = algorithm,
                Mend = new() { Rank = 4, EditLr = 0.01 },
                Ke = new() { HiddenDim = 6, ConditionDim = 5 },
                Malmen = new() { Rank = 4, EditLr = 0.01 },
                Loss = new(CEdit: 1),
                Lr = algorithm == EditorAlgorithm.Enn ? 2e-3 : 1e-2,
                LrLr = 1e-3,
                AccumulateBs = 2,
                Averaging = 0.5,
                ValInterval = 20,
                ValSteps = task.ValidationCount,
                MaxIters = iterations,
            };
            return new EditorTraining(stage, options, i => TinyModel.Text(stage).Of(task.Training(i)),
                i => TinyModel.Text(stage).Of(task.Validation(i)), new(_folder[run])).Run();
        }

        List<string> Tensors(string run)
        {
            using var file = SafetensorsFile.Open(_folder[run + "/checkpoint.safetensors"]);
            using var scope = NewDisposeScope();
            return [.. file.Entries.Keys.Order(StringComparer.Ordinal).Select(name =>
                $"{name} {string.Join(' ', TensorBytes.Load(file.Find(name)).to_type(ScalarType.Float64).reshape(-1).data<double>().ToArray())}")];
        }
    }

    [Fact]
    public void ARunFolderOfAnotherAlgorithm_IsRefused()
    {
        Run("run", 10);
        using var checkpoint = EditorCheckpoint.Open(_folder["run/checkpoint.safetensors"]);
        Assert.Equal(EditorAlgorithm.Mend, checkpoint.Algorithm);
        using var stage = TinyModel.Load("t5");
        var error = Refusal.Of(MendError.ModelUnusable, () =>
            EditorRegistry.Train(stage, new() { Algorithm = EditorAlgorithm.Ke }, checkpoint));
        Assert.Contains("is Mend, expected Ke", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnEditWithoutText_IsRefusedByTheKnowledgeEditor()
    {
        using var stage = TinyModel.Load("t5");
        using var editor = EditorRegistry.Train(stage,
            new() { Algorithm = EditorAlgorithm.Ke, Ke = new() { HiddenDim = 6, ConditionDim = 5 } });
        var edit = TinyModel.Text(stage).Of([("is it red", "blue")]);
        Assert.Contains("EditRow", Refusal.Of(MendError.InvalidOption, () => editor.Measure(new(edit, edit, edit), new())).What,
            StringComparison.Ordinal);
    }

    [Fact]
    public void PerplexityDrawdown_IsOfAllTokensTogether()
    {
        StepFigures Step(double before, double after, long tokens) => new(0, 0, 0, 0, 0, 0, 0, before, after, tokens);
        Assert.Equal(Math.Exp((2 * 10 + 3 * 30) / 40.0) - Math.Exp((1 * 10 + 3 * 30) / 40.0),
            EditorValidation.Of(1, [Step(1, 2, 10), Step(3, 3, 30)]).PerplexityDrawdown, 1e-12);
    }

    [Fact]
    public void ARunFolder_HasConfigurationMetricsAndTheBestEditor()
    {
        Run("run", 40);
        Assert.Contains("\"rank\"", File.ReadAllText(_folder["run/config.json"]), StringComparison.Ordinal);
        var validations = File.ReadLines(_folder["run/metrics.jsonl"])
            .Count(line => line.Contains("\"validation\"", StringComparison.Ordinal));
        Assert.Equal(5, validations); // at 0, 10, 20, 30 and 40
        using var editor = EditorCheckpoint.LoadEditor(_folder["run/editor.safetensors"]);
        Assert.NotEmpty(editor.Weights);
    }

    [Theory]
    [InlineData("gpt_neo")]
    [InlineData("gptj")]
    public void AnEditorOfChosenWeights_EditsThoseAlone(string family)
    {
        TinyModels.Write(_folder["model"], family);
        var options = new EditorTrainingOptions
        {
            Editable = ["transformer.h.0.mlp.*", "*.h.2.attn.*q_proj.weight"],
            Mend = new() { Rank = 4 },
            MaxIters = 20,
            ValInterval = 10
        };
        var edits = Enumerable.Range(0, 12)
            .Select(i => new EditExample(Words[i % 5], Words[(i + 1) % 5], [Words[i % 5]], [new(Words[(i + 2) % 5], "blue")], null))
            .ToList();
        LocalTraining.Run(_folder["model"], text => QuestionAnswering.Task(text, edits, 0), options, _folder["run"]);
        using var editor = EditorCheckpoint.LoadEditor(_folder["run/editor.safetensors"]);
        Assert.Equal(EditableWeights.Select(ModelFamily.FromDirectory(_folder["model"]), options.Editable),
            editor.Weights.Select(weight => weight.Name));
        Assert.Equal(3, editor.Weights.Count);
    }

    [Fact]
    public void ARunFoldersConfiguration_IsReadBack()
    {
        var options = new EditorTrainingOptions
        {
            Editable = ["*.mlp.*"],
            Mend = new() { Rank = 4, Sides = EditorSides.Smaller },
            Lr = 3e-4,
            Seed = 9
        };
        new RunFolder(_folder["run"]).Start(options, 0);
        Assert.Equivalent(options, RunFolder.ReadConfiguration<EditorTrainingOptions>(_folder["run/config.json"]), strict: true);
    }

    [Theory]
    [InlineData("""{"edit_able": []}""", "edit_able")]
    [InlineData("""{"mend": {"rank": "many"}}""", "rank")]
    [InlineData("""{"editable": "*"}""", "editable")]
    [InlineData("nothing", "config.json")]
    public void AConfigurationThatIsNone_IsRefusedWithFileAndKey(string json, string named)
    {
        var file = _folder["config.json"];
        File.WriteAllText(file, json);
        var error = Refusal.Of(MendError.InvalidOption, () => RunFolder.ReadConfiguration<EditorTrainingOptions>(file));
        Assert.Contains(file, error.Message, StringComparison.Ordinal);
        Assert.Contains(named, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TrainingLowersTheLoss()
    {
        var result = Run("run", 200);
        var first = File.ReadLines(_folder["run/metrics.jsonl"])
            .First(line => line.Contains("\"validation\"", StringComparison.Ordinal)
            && line.Contains("\"iteration\":10,", StringComparison.Ordinal));
        var before = JsonDocument.Parse(first).RootElement.GetProperty("total").GetDouble();
        Assert.True(result.BestLoss < before, $"{result.BestLoss} is not below {before}");
    }

    [Fact]
    public void EarlyStopping_KeepsTheBestAndStopsWhenItIsOld()
    {
        var stopping = new EarlyStopping(patience: 20);
        Assert.True(stopping.Observe(10, 0.5));
        Assert.False(stopping.Observe(20, 0.6));
        Assert.False(stopping.Observe(25, double.NaN));
        Assert.False(stopping.IsOver(29));
        Assert.True(stopping.IsOver(30));
        Assert.Equal((0.5, 10L), (stopping.Best, stopping.BestIteration));
    }

    [Fact]
    public void GradientsThatAreNotFinite_AreRefused()
    {
        using var scope = NewDisposeScope();
        using var mend = new Mend(new() { Rank = 2 }, [new("a", 2, 3)], 1);
        using var optimiser = new EditorOptimiser(mend, 1e-3, 1e-3, 1, 100);
        var before = mend.Parameters.Select(parameter => parameter.Value.clone()).ToList();
        List<Tensor> gradients = [.. optimiser.Parameters.Select(parameter => zeros_like(parameter))];
        gradients[0] = gradients[0].Plus(double.NaN);
        optimiser.Take(gradients);
        Assert.Equal(1, optimiser.Refused);
        foreach (var (expected, (name, actual)) in before.Zip(mend.Parameters))
            Assert.True(expected.eq(actual).all().item<bool>(), name);
    }

    /// <summary>Question answering, fact checking or generation, by what the family can do.</summary>
    private static IEditTask Task(string family)
    {
        var text = new TextBatch(TinyModel.Family(family), TinyModel.Letter());
        if (family == "gpt2")
        {
            var data = (new Continuations(3, [.. Words.Select(word => $"it is {word} and {word}")]),
                (IReadOnlyList<string>)[.. Words.Select(word => $"what is {word} is old")]);
            return new PassageTask(text, data, data, seed: 1);
        }
        if (family == "t5")
            text = new TextBatch(TinyModel.Family(family), TinyModel.Letter(TinyModel.Family(family).EosIds[0]));
        var (one, other) = family == "bert" ? ("true", "false") : ("yes", "no");
        EditExample[] edits = [.. Words.Select((word, i) =>
            new EditExample($"is it {word}", i % 2 == 0 ? one : other, [$"it is {word}"], [], other, Prediction: i % 2 == 0 ? other
            : one))];
        return new QuestionTask(text, edits, edits, seed: 1, halfUnchanged: family == "bert");
    }

    private TrainingResult Run(string name, long iterations)
    {
        using var stage = TinyModel.Load("t5");
        var text = TinyModel.Text(stage);
        EditBatch Batch(long i) => new(
            text.Of([($"is it {Words[i % 5]}", Words[(i + 1) % 5])]), text.Of([($"it is {Words[i % 5]}", Words[(i + 1) % 5])]),
            text.Of([($"how {Words[(i + 2) % 5]}", Words[(i + 3) % 5])]));
        var options = new EditorTrainingOptions
        {
            Mend = new() { Rank = 4, EditLr = 0.01 },
            Lr = 1e-2,
            LrLr = 1e-3,
            AccumulateBs = 5,
            Averaging = 0.9,
            ValInterval = 10,
            ValSteps = 5,
            MaxIters = iterations,
        };
        return new EditorTraining(stage, options, Batch, i => Batch(i), new(_folder[name])).Run();
    }
}
