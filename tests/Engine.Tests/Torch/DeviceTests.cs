using MendCluster.Contracts;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Editors.Baselines;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Engine.Tests.Torch;

/// <summary>
/// What runs on a device gives the CPU's numbers: everything that the engine computes, on the stand-in anywhere, and on a GPU where there
/// is one.
/// </summary>
public class DeviceTests
{
    private static readonly string[] Words = ["red", "blue", "green", "old", "new", "grey"];

    public static TheoryData<string> Families => [.. TinyModel.Families, "bert"];

    /// <summary>Without gpt2: the parts into which libtorch splits a lazy tensor are the CPU's.</summary>
    public static TheoryData<string> FamiliesOfTheStandIn => [.. TinyModel.Families.Where(family => family != "gpt2"), "bert"];

    [Theory, MemberData(nameof(FamiliesOfTheStandIn))]
    public void Passes_OnTheStandIn_AreTheCpus(string family) => Same(StandInDevice.Device, device => Passes(family, device));

    [CudaTheory, MemberData(nameof(Families))]
    public void Passes_OnAGpu_AreTheCpus(string family) => Same(Gpu, device => Passes(family, device));

    [Theory, MemberData(nameof(FamiliesOfTheStandIn))]
    public void Edits_OnTheStandIn_AreTheCpus(string family) => Same(StandInDevice.Device, device => Edits(family, device));

    [CudaTheory, MemberData(nameof(Families))]
    public void Edits_OnAGpu_AreTheCpus(string family) => Same(Gpu, device => Edits(family, device));

    [Theory, InlineData("gpt_neo"), InlineData("t5")]
    public void AStepOfAnEditor_OnTheStandIn_IsTheCpus(string family) =>
        Same(StandInDevice.Device, device => StepOfAnEditor(family, device));

    [CudaTheory, MemberData(nameof(Families))]
    public void TrainingSteps_OnAGpu_AreTheCpus(string family) =>
        Same(Gpu, device => StepOfAnEditor(family, device).Concat(TrainingSteps(family, device)));

    [Fact]
    public void ManyEdits_OnTheStandIn_AreTheCpus() => Same(StandInDevice.Device, ManyEdits);

    [CudaFact]
    public void ManyEdits_OnAGpu_AreTheCpus() => Same(Gpu, device => ManyEdits(device).Concat(StepOfMalmen(device)));

    [Fact]
    public void Baselines_OnTheStandIn_AreTheCpus() => Same(StandInDevice.Device, Baselines);

    [CudaFact]
    public void Baselines_OnAGpu_AreTheCpus() => Same(Gpu, device => Baselines(device).Concat(StepsOfBaselines(device)));

    [Theory, InlineData("gpt_neo"), InlineData("t5")]
    public void AnswersWithCachedKeys_OnTheStandIn_AreTheCpus(string family) => AnswersAreTheCpus(family, StandInDevice.Device);

    [CudaTheory, MemberData(nameof(Families))]
    public void AnswersWithCachedKeys_OnAGpu_AreTheCpus(string family) => AnswersAreTheCpus(family, Gpu);

    [Theory, InlineData(ScalarType.Float32), InlineData(ScalarType.BFloat16)]
    public void Loading_OntoTheStandIn_GivesTheFilesNumbers(ScalarType dtype) =>
        LoadingGivesTheFilesNumbers(dtype, StandInDevice.Device, 1000);

    [CudaTheory, InlineData(ScalarType.Float32), InlineData(ScalarType.BFloat16), InlineData(ScalarType.Float16)]
    public void Loading_OntoAGpu_InPiecesThroughPinnedMemory_GivesTheFilesNumbers(ScalarType dtype) =>
        LoadingGivesTheFilesNumbers(dtype, Gpu, 100_000);

    [Fact]
    public void Editors_OfTheStandIn_ComeBackFromTheirFiles() => EditorsComeBackFromTheirFiles(StandInDevice.Device);

    [CudaFact]
    public void Editors_OfAGpu_ComeBackFromTheirFiles() => EditorsComeBackFromTheirFiles(Gpu);

    [CudaFact]
    public void Training_OnAGpu_IsSavedAndGoesOn() => TrainingIsSavedAndGoesOn(Gpu);

    [CudaFact]
    public void TooLargeATensor_IsAnErrorThatNamesTheGpu()
    {
        var e = Assert.ThrowsAny<Exception>(() => zeros([1L << 42], ScalarType.Float32, Gpu));
        var named = Assert.IsType<MendException>(DeviceMemory.Named(e));
        Assert.Equal(MendError.OutOfMemory, named.Error);
        Assert.Contains("Tried to allocate", named.Message, StringComparison.Ordinal);
        Assert.Contains("GPU 0", named.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TooLargeATensor_OnTheCpu_IsTheSameError()
    {
        var named = Assert.IsType<MendException>(DeviceMemory.Named(Assert.ThrowsAny<Exception>(() =>
            zeros([1L << 58], ScalarType.Float32, CPU))));
        Assert.Equal(MendError.OutOfMemory, named.Error);
        Assert.Contains($"{1L << 60} bytes", named.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void OtherErrors_StayAsTheyAre()
    {
        using var scope = NewDisposeScope();
        var e = Assert.ThrowsAny<Exception>(() => ones(2, 3).Plus(ones(4, 5)));
        Assert.Same(e, DeviceMemory.Named(e));
    }

    [Theory]
    [InlineData("")]
    [InlineData("CPU")]
    [InlineData("gpu")]
    [InlineData("cuda:")]
    [InlineData("cuda:-1")]
    [InlineData("cuda:x")]
    [InlineData("cpu:0")]
    public void UnknownNames_AreRefused(string name)
    {
        foreach (var refused in new Action[] { () => Devices.Of(name), () => Devices.Names("cpu," + name) })
        {
            var e = Assert.Throws<MendException>(refused);
            Assert.Equal(MendError.InvalidOption, e.Error);
            Assert.Contains($"\"{name}\"", e.Message, StringComparison.Ordinal);
            Assert.Contains("cuda:1", e.Hint, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void AGpuThatIsNotHere_IsRefused_WithTheLibraryThatLooked()
    {
        var e = Assert.Throws<MendException>(() => Devices.Of("cuda:99"));
        Assert.Equal(MendError.InvalidOption, e.Error);
        Assert.Contains("cuda:99", e.Message, StringComparison.Ordinal);
        if (!cuda.is_available())
            Assert.Matches(@"libtorch 2\.\d+.*\(a build for [CG]PUs, .*\) sees no GPU", e.Message);
    }

    [Fact]
    public void AList_IsTakenApart() => Assert.Equal(["cpu", "cuda:1", "cuda"], Devices.Names("cpu, cuda:1,cuda"));

    private static Device Gpu => Devices.Of("cuda");

    /// <summary>
    /// The same computation on the CPU and on a device: results of the same names, there, with the same numbers to single precision.
    /// </summary>
    private static void Same(Device device, Func<Device, IEnumerable<(string Name, Tensor Value)>> compute)
    {
        using var scope = NewDisposeScope();
        List<(string Name, Tensor Value)> expected = [.. compute(CPU)], actual = [.. compute(device)];
        Assert.Equal(expected.Select(entry => entry.Name), actual.Select(entry => entry.Name));
        foreach (var ((name, on), there) in expected.Zip(actual.Select(entry => entry.Value)))
        {
            Assert.True(there.device_type == device.type || there.numel() == 1, $"{name} is on {there.device}");
            Assert.Equal(on.shape, there.shape);
            Assert.Equal(on.dtype, there.dtype);
            var (cpu, other) = (on.detach().to_type(ScalarType.Float64), there.detach().Host().to_type(ScalarType.Float64));
            var (error, size) = ((cpu - other).norm().item<double>(), cpu.norm().item<double>());
            // A GPU sums in another order: 7e-4 was seen on an H100 in a gradient through MALMEN's solve, 2e-4 in RMSProp's quotients.
            Assert.True(error <= (device.type == TorchSharp.DeviceType.CUDA ? 2e-3 : 2e-4) * size + 1e-7,
                $"{name}: off by {error} of {size}");
        }
    }

    private static IEnumerable<(string, Tensor)> Passes(string family, Device device)
    {
        using var stage = Load(family, device);
        var batch = Batch(stage, 3);
        using var _ = no_grad();
        var top = stage.Forward(Activations.None, new ForwardContext(batch.Outer.Input));
        yield return ("hidden", top.Hidden!);
        if (top.Memory is not null)
            yield return ("memory", top.Memory);
        yield return ("logits", stage.Logits(top, Losses.LocalityRows(batch.Outer.Input, stage.Family)));
        var scored = TrainingStep.Score(stage, batch.Outer);
        yield return ("figures", scored.Figures);
        Assert.Equal(scored.Nll.Host().item<float>(), scored.Loss);
    }

    private static IEnumerable<(string, Tensor)> Edits(string family, Device device)
    {
        using var stage = Load(family, device);
        using var mend = Trained(stage);
        var batch = Batch(stage, 1);
        var (_, factors) = TrainingStep.Record(stage, batch.Inner);
        foreach (var (name, (u, delta)) in factors)
        {
            yield return ("u of " + name, u);
            yield return ("delta of " + name, delta);
        }
        var updates = mend.Propose(factors);
        foreach (var (name, update) in updates)
        {
            yield return ("update of " + name, update.ToDense());
            var compressed = update.Compress(0.9);
            Assert.True(compressed.Rank < update.Rank || update.Rank < 2);
            yield return ("compressed update of " + name, compressed.ToDense());
        }
        var stacked = updates.ToDictionary(entry => entry.Key, entry => LowRankUpdate.Stack([entry.Value, entry.Value.Times(0.5)]));
        yield return ("edited", TrainingStep.Score(stage, batch.Outer, new WeightUpdates(stacked)).Figures);
    }

    /// <summary>An editor's step by the gradient of the edited model's loss, and the losses of a training step without theirs.</summary>
    private static IEnumerable<(string, Tensor)> StepOfAnEditor(string family, Device device)
    {
        using var stage = Load(family, device);
        using var mend = Trained(stage);
        using var optimiser = new EditorOptimiser(mend, 0.01, 0.01, window: 1, gradClip: 1);
        using var average = new ParameterAverage(optimiser.Parameters, 0.9);
        var batch = Batch(stage, 1);
        var edits = new WeightUpdates(mend.ProposeForTraining(TrainingStep.Record(stage, batch.Inner).Factors));
        var rows = ScoredPositions.Of(batch.Outer.Labels, stage.Family.ShiftsLabels);
        var loss = Losses.MaskedNll(stage.Logits(stage.Forward(Activations.None, new ForwardContext(batch.Outer.Input, edits)), rows.Rows),
            rows).Nll;
        List<Tensor> gradients = [.. Derivatives.Of([loss], [.. optimiser.Parameters])];
        foreach (var ((name, _), gradient) in optimiser.Adam.Parameters.Zip(gradients))
            yield return ("gradient of " + name, gradient);
        // Adam divides by a gradient's own size, so of one that is almost 0 it would compare the rounding: these are the same on both
        // devices.
        optimiser.Take([.. gradients.Select(gradient =>
            NewTensor.Arange(1, gradient.numel() + 1, ScalarType.Float32, device).sin().reshape(gradient.shape))]);
        average.Add();
        average.Swap();
        foreach (var (name, value) in mend.State.Concat(optimiser.Adam.State).Concat(average.State).Where(entry => entry.Value.numel() > 1))
            yield return (name, value.clone());
        yield return ("figures", Figures(TrainingStep.Run(stage, mend, batch, new(), []).Figures, device));
    }

    private static IEnumerable<(string, Tensor)> TrainingSteps(string family, Device device)
    {
        using var stage = Load(family, device);
        using var mend = Trained(stage);
        List<(string Name, Tensor Value)> parameters = [.. mend.Parameters, .. mend.StepSizes];
        var (figures, gradients) =
            TrainingStep.Run(stage, mend, Batch(stage, 1), new(), [.. parameters.Select(parameter => parameter.Value)]);
        foreach (var ((name, _), gradient) in parameters.Zip(gradients))
            yield return ("gradient of both losses by " + name, gradient);
        yield return ("figures", Figures(figures, device));
    }

    private static IEnumerable<(string, Tensor)> ManyEdits(Device device)
    {
        using var stage = Load("t5", device);
        using var malmen = new Malmen(new() { Rank = 5, EditLr = 0.05, EditorBatch = 7 }, EditorTraining.EditableWeights(stage), 3, device);
        using var ultra = new UltraEdit(new() { EditLr = 1e-3 }, EditorTraining.EditableWeights(stage), device);
        foreach (var edits in new[] { 1, 5 }) // fewer rows than in-features, and more
        {
            var rows = TrainingStep.RecordEach(stage, [Batch(stage, edits).Inner]);
            malmen.AddToStatistics(rows);
            ultra.AddToStatistics(rows);
            foreach (var (name, update) in malmen.Propose(rows))
                yield return ($"MALMEN's update of {name}, {edits}", update.ToDense());
            foreach (var (name, update) in ultra.Propose(rows))
                yield return ($"UltraEdit's update of {name}, {edits}", update.ToDense());
            foreach (var (name, (equations, update)) in malmen.Solve(rows))
            {
                var (ofD, ofRho) = equations.Backward(update, update.uTilde, update.deltaTilde);
                yield return ($"back through the equations of {name}, {edits}", ofD);
                yield return ($"the same by rho of {name}, {edits}", tensor(ofRho, device: device));
            }
        }
    }

    private static IEnumerable<(string, Tensor)> StepOfMalmen(Device device)
    {
        using var stage = Load("t5", device);
        using var malmen = new Malmen(new() { Rank = 5, EditLr = 0.05, EditorBatch = 7, ModelBatch = 2 },
            EditorTraining.EditableWeights(stage), 3, device);
        var (figures, gradients) = MalmenStep.Run(stage, malmen, Batch(stage, 5), new(), trains: true);
        yield return ("MALMEN's figures", Figures(figures, device));
        foreach (var ((name, _), gradient) in malmen.Parameters.Concat(malmen.StepSizes).Zip(gradients))
            yield return ("MALMEN's gradient of " + name, gradient);
    }

    private static IEnumerable<(string, Tensor)> Baselines(Device device)
    {
        using var stage = Load("gpt_neo", device);
        var batch = Batch(stage, 1);
        using var one = Stage.LoadWhole(stage.Family, new CopiedWeights(stage.Weights), [EditableWeights.DownProjection(stage.Family, -1)]);
        foreach (var opt in Enum.GetValues<FineTuneOptimiser>())
            foreach (var (name, update) in FineTuning.BreadthFirst(one, new() { Opt = opt, BatchSize = 2, MaxEpochs = 2 },
                Batch(stage, 5).Inner, _ => [3, 1, 4, 0, 2]).Edits.Updates)
                yield return ($"breadth-first update of {name}, {opt}", ((DenseUpdate)update).R);

        using var ke = new KnowledgeEditor(new() { HiddenDim = 6, ConditionDim = 8 }, KnowledgeEditorTraining.EditableWeights(stage),
            stage.Weights.Loaded[stage.Family.WordEmbeddings].Value, 1);
        foreach (var (name, update) in KnowledgeEditorTraining.Edit(stage, ke, Conditioned(stage, batch).Inner).Updates)
            yield return ("KE's update of " + name, ((LowRankUpdate)update).ToDense());

        using var enn = new Enn(new() { EditSteps = 2, EditLr = 0.01 }, EditorTraining.EditableWeights(stage), device: device);
        foreach (var (name, update) in EnnTraining.Edit(stage, enn, batch.Inner).Updates)
            yield return ("ENN's update of " + name, ((DenseUpdate)update).R);
        foreach (var (name, update) in enn.Propose(TrainingStep.Record(stage, batch.Inner).Factors))
            yield return ("ENN's one step of " + name, update.ToDense());
    }

    private static IEnumerable<(string, Tensor)> StepsOfBaselines(Device device)
    {
        using var stage = Load("gpt2", device);
        var batch = Conditioned(stage, Batch(stage, 1));
        var unrelated = batch.Locality.Input;
        foreach (var opt in Enum.GetValues<FineTuneOptimiser>())
            foreach (var (name, update) in FineTuning.Edit(stage, new() { Opt = opt, EditLr = 1e-3, MaxEditSteps = 3 }, batch.Inner,
                _ => unrelated).Edits.Updates)
                yield return ($"{opt}'s update of {name}", ((DenseUpdate)update).R);
        var ke = new EditorTrainingOptions { Algorithm = EditorAlgorithm.Ke, Ke = new() { HiddenDim = 6, ConditionDim = 8 } };
        var enn = new EditorTrainingOptions { Algorithm = EditorAlgorithm.Enn, Enn = new() { EditSteps = 2, EditLr = 0.01 } };
        foreach (var options in new[] { ke, enn })
        {
            using var editor = EditorRegistry.Train(stage, options);
            List<(string Name, Tensor Value)> parameters = [.. editor.Groups.SelectMany(group => group.Parameters)];
            var (figures, gradients) = editor.Step(batch, new(), [.. parameters.Select(parameter => parameter.Value)]);
            yield return ($"{options.Algorithm}'s figures", Figures(figures, device));
            foreach (var ((name, _), gradient) in parameters.Zip(gradients))
                yield return ($"{options.Algorithm}'s gradient of {name}", gradient);
        }
    }

    private static Tensor Figures(StepFigures figures, Device device) =>
        tensor(new[] { figures.Total, figures.Edit, figures.Locality, figures.EditAccuracy, figures.EditProbability,
        figures.LocalityNllBefore, figures.LocalityNllAfter }, device: device);

    private static EditBatch Conditioned(Stage stage, EditBatch batch)
    {
        var text = TinyModel.Text(stage);
        return batch with { Inner = batch.Inner with { Condition = text.Of([text.EditRow(new("who", "red", [], [], "blue"))]).Condition } };
    }

    private static void EditorsComeBackFromTheirFiles(Device device)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var stage = Load("gpt_neo", device);
        var weights = EditorTraining.EditableWeights(stage);
        var rows = TrainingStep.Record(stage, Batch(stage, 1).Inner).Factors;
        var malmen = new Malmen(new() { Rank = 3 }, weights, 1, device);
        var ultra = new UltraEdit(new(), weights, device);
        malmen.AddToStatistics(rows);
        ultra.AddToStatistics(rows);
        foreach (IPreparedEditor editor in new IPreparedEditor[] { Trained(stage), malmen, ultra })
            using (editor)
            {
                EditorCheckpoint.SaveEditor(folder["editor"], editor);
                using var back = EditorCheckpoint.Load(folder["editor"], device: device);
                var (before, after) = (editor.Propose(rows), back.Propose(rows));
                foreach (var (name, update) in after)
                {
                    Assert.Equal(device.type, update.uTilde.device_type);
                    Assert.True(update.ToDense().Host().eq(before[name].ToDense().Host()).all().item<bool>(),
                        $"{editor.Algorithm}, {name}");
                }
            }
    }

    private static void AnswersAreTheCpus(string family, Device device)
    {
        using var here = Load(family, CPU);
        using var there = Load(family, device);
        foreach (var options in new AskOptions[] { new(6), new(6, Temperature: 1, TopK: 20, TopP: 0.9, Seed: 3) })
            Assert.Equal(Generation.Run(here, [5, 6, 7], options), Generation.Run(there, [5, 6, 7], options));
    }

    private static void LoadingGivesTheFilesNumbers(ScalarType dtype, Device device, long rows)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        using var generator = new Generator(1);
        var written = randn([rows, 300], generator: generator); // 1.2 MB, or 120 MB: two pieces and a part of a third
        SafetensorsWriter.Write(folder["w"],
            [TensorBytes.ToWrite("w", written), TensorBytes.ToWrite("b", written.narrow(1, 0, 1)), TensorBytes.ToWrite("one", tensor(3f))]);
        using var file = SafetensorsFile.Open(folder["w"]);
        foreach (var name in new[] { "w", "b", "one", "w" })
        {
            var read = TensorBytes.Load(file.Find(name), dtype, device);
            Assert.Equal((device.type, dtype), (read.device_type, read.dtype));
            Assert.True(read.Host().eq(TensorBytes.Load(file.Find(name), dtype)).all().item<bool>(), name);
        }
    }

    private static void TrainingIsSavedAndGoesOn(Device device)
    {
        using var folder = new TemporaryFolder();
        using var scope = NewDisposeScope();
        foreach (var algorithm in new[] { EditorAlgorithm.Mend, EditorAlgorithm.Malmen, EditorAlgorithm.Ke, EditorAlgorithm.Enn })
        {
            var options = new EditorTrainingOptions
            {
                Algorithm = algorithm,
                Mend = new() { Rank = 3 },
                Malmen = new() { Rank = 3 },
                Ke = new() { HiddenDim = 6, ConditionDim = 8 },
                AccumulateBs = 1,
                Averaging = 0.9,
                MaxIters = 2,
                ValInterval = 2,
                ValSteps = 1,
            };
            var run = new RunFolder(folder[$"{algorithm}"]);
            foreach (var iterations in new[] { 2, 4 })
            {
                using var stage = Load("gpt2", device);
                var batch = Conditioned(stage, Batch(stage, 1));
                Assert.Equal(iterations,
                    new EditorTraining(stage, options with { MaxIters = iterations }, _ => batch, _ => batch, run).Run().Iterations);
            }
            Assert.True(File.Exists(run.BestEditor), $"{algorithm}");
        }
    }

    private static Stage Load(string family, Device device) =>
        Stage.LoadWhole(TinyModel.Family(family), new RandomWeights(7, ScalarType.Float32, (_, _) => 0.3, device));

    /// <summary>With statistics to normalise by.</summary>
    private static Mend Trained(Stage stage)
    {
        var mend = new Mend(new() { Rank = 3, EditLr = 0.1, Init = EditorInit.Xavier }, EditorTraining.EditableWeights(stage), 1,
            device: stage.Device);
        mend.ProposeForTraining(TrainingStep.Record(stage, Batch(stage, 1).Outer).Factors);
        return mend;
    }

    /// <summary>Rows of different lengths, so that some are padded.</summary>
    private static EditBatch Batch(Stage stage, int edits)
    {
        var text = TinyModel.Text(stage);
        string Answer(int i) => stage.Family.Labels is { } labels ? labels[i % labels.Count] : Words[i % Words.Length];
        LabelledInput Of(string question, int answer) =>
            text.Of([.. Enumerable.Range(0, edits).Select(i => (question + new string('x', i), Answer(i + answer)))]);
        return new(Of("who", 0), Of("what", 0), Of("where", 1));
    }
}
