using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests.Training;

/// <summary>However a run is laid out over replicas and stages, it is the same run.</summary>
public class LayoutTests
{
    private const int Steps = 50;

    [Theory]
    [Trait("Category", "Slow")]
    [InlineData("gpt2")]
    [InlineData("t5")]   // encoder and decoder weights of one shape, on different stages
    [InlineData("bart")] // three shapes
    [InlineData("bert")]
    public async Task EveryLayout_TrainsAsThePlainFormDoes(string family)
    {
        using var training = new TrainingOfTinyModel(family);
        var options = TrainingOfTinyModel.Options(Steps);
        var (expected, phi) = InPlainForm(training, options);
        foreach (var (replicas, stages) in new[] { (1, 1), (1, 3), (2, 2), (4, 1) })
        {
            var run = $"{replicas}x{stages}";
            var (result, steps) = await training.TrainAsync(run, replicas, stages, options);
            Assert.Equal(("max_iters", (long)Steps * TrainingOfTinyModel.Window), (result.Stopped, result.Iterations));
            Assert.Equal(Steps, steps.Count);
            for (var step = 0; step < Steps; step++)
                Assert.True(Math.Abs(expected[step] - steps[step].Loss) < 1e-4,
                    $"{run}, step {step}: {steps[step].Loss} instead of {expected[step]}");
            var state = training.State(run);
            foreach (var (name, values) in phi)
                Assert.True(values.Zip(state[name], (left, right) => Math.Abs(left - right)).Max() < 5e-4, $"{run}: {name}");
        }
        Assert.True(expected[^5..].Average() < expected[..5].Average(), "nothing was learned");
    }

    /// <summary>Statistics are merged in the order of the edits, so not even rounding tells layouts apart.</summary>
    [Fact]
    public async Task StatisticsOfTheFirstStep_AreTheSameBitsOnOneMachineAndInEveryLayoutOfReplicas()
    {
        using var training = new TrainingOfTinyModel("t5");
        var options = TrainingOfTinyModel.Options(1);
        training.TrainOnOneMachine("alone", options);
        var first = training.State("alone");
        foreach (var replicas in new[] { 1, 2, 4 })
        {
            await training.TrainAsync($"{replicas}", replicas, 1, options);
            var state = training.State($"{replicas}");
            foreach (var name in first.Keys.Where(name => name.EndsWith("_mean", StringComparison.Ordinal)
                || name.EndsWith(".k", StringComparison.Ordinal) || name.EndsWith("_s", StringComparison.Ordinal)))
                Assert.Equal(first[name], state[name]);
        }
    }

    /// <summary>The run is the same code: its folder does not tell where its steps were taken.</summary>
    [Fact]
    public async Task ARunOfOneMachine_GoesOnOverReplicas_AndBack()
    {
        using var training = new TrainingOfTinyModel("t5");
        training.TrainOnOneMachine("run", TrainingOfTinyModel.Options(10));
        await training.TrainAsync("run", 2, 2, TrainingOfTinyModel.Options(20));
        var result = training.TrainOnOneMachine("run", TrainingOfTinyModel.Options(30));
        Assert.Equal(("max_iters", 30L * TrainingOfTinyModel.Window), (result.Stopped, result.Iterations));
        training.TrainOnOneMachine("alone", TrainingOfTinyModel.Options(30));
        var state = training.State("run");
        foreach (var (name, values) in training.State("alone"))
            if (!name.StartsWith("adam.", StringComparison.Ordinal))
                Assert.True(values.Zip(state[name], (left, right) => Math.Abs(left - right) / (1 + Math.Abs(left))).Max() < 5e-4, name);
        List<List<string>> lines = [.. new[] { "run", "alone" }.Select(run => File.ReadLines(training.Run(run).Metrics)
            .Where(line => !line.Contains("\"end\"", StringComparison.Ordinal)).Select(line => line.Split(",\"total\"")[0]).ToList())];
        Assert.Equal(lines[1], lines[0]);
    }

    [Fact]
    public async Task GradientsInSixteenBits_TrainNearlyTheSame()
    {
        using var training = new TrainingOfTinyModel("t5");
        var options = TrainingOfTinyModel.Options(20);
        var (_, exact) = await training.TrainAsync("float32", 2, 2, options);
        var (_, rounded) = await training.TrainAsync("bfloat16", 2, 2, options, bfloat16: true);
        Assert.All(exact.Zip(rounded), step => Assert.Equal(step.First.Loss, step.Second.Loss, 0.02 * Math.Abs(step.First.Loss)));
        Assert.NotEqual(exact[^1].Loss, rounded[^1].Loss);
    }

    [Fact]
    public async Task TheEditorOfARun_EditsAModel()
    {
        using var training = new TrainingOfTinyModel("t5");
        await training.TrainAsync("run", 2, 2, TrainingOfTinyModel.Options(10) with { Averaging = 0.9 });
        await using var cluster = await EmbeddedCluster.OpenAsync(new()
        {
            ModelDirectory = training.Model,
            Editor = training.Run("run").BestEditor,
            Ledger = training.Folder("ledger"),
        });
        var receipt = await cluster.EditAsync("what is red", "blue");
        Assert.NotEqual(receipt.Figures.ProbabilityBefore, receipt.Figures.ProbabilityAfter);
    }

    /// <summary>The plain form: the whole model, autograd from the losses straight to phi, edit by edit.</summary>
    private static (List<double> Losses, Dictionary<string, float[]> Phi) InPlainForm(TrainingOfTinyModel training,
        EditorTrainingOptions options)
    {
        using var files = HuggingFaceDirectory.Open(training.Model);
        using var stage = Stage.LoadWhole(training.Family, new CheckpointWeights(files, ScalarType.Float32));
        using var mend = new Mend(options.Mend, EditorTraining.EditableWeights(stage), options.Seed);
        using var adam = new Adam(EditorOptimiser.GroupsOf(mend, options.Lr, options.LrLr));
        List<Tensor> parameters = [.. adam.Parameters.Select(parameter => parameter.Value)];
        var losses = new List<double>();
        for (var step = 0; step < options.MaxIters / options.AccumulateBs; step++)
        {
            using var scope = NewDisposeScope();
            var batches = Enumerable.Range(0, options.AccumulateBs).Select(i => training.Batch(step * options.AccumulateBs + i)).ToList();
            List<Tensor> sums = [.. parameters.Select(parameter => zeros_like(parameter))];
            var loss = 0.0;
            for (var i = 0; i < batches.Count; i++)
            {
                var factors = TrainingStep.Record(stage, batches[i].Inner).Factors;
                foreach (var shape in mend.Shapes) // of this edit and those before it
                    foreach (var weight in shape.Weights)
                    {
                        shape.U.Add(factors[weight].u);
                        shape.Delta.Add(factors[weight].delta);
                    }
                var (figures, total) = TrainingStep.Evaluate(stage, new WeightUpdates(mend.Transform(mend.Normalise(factors))), batches[i],
                    options.Loss);
                loss += figures.Total / batches.Count;
                var gradients = Derivatives.Of([total], [.. parameters]);
                for (var p = 0; p < sums.Count; p++)
                    sums[p].Add_(gradients[p], alpha: 1.0 / batches.Count);
            }
            losses.Add(loss);
            Adam.ClipNorm(sums, options.GradClip);
            adam.Step(sums);
        }
        return (losses, adam.Parameters.ToDictionary(parameter => parameter.Name,
            parameter => parameter.Value.detach().flatten().data<float>().ToArray()));
    }
}
