using System.Diagnostics;
using System.Globalization;
using MendCluster.Engine;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Bench;

/// <summary>
/// One edit (28 tokens; 10 labels in GPT-2, 6 in T5) and one training step (that edit, its rephrase, one locality example of 32 tokens) on
/// a random model of a published shape with an editor of rank 1920: the setting of the authors' code.
/// </summary>
internal static class EditBench
{
    private const int EditTokens = 28, LocalityTokens = 32, Rounds = 15, Window = 10;

    public static readonly IReadOnlyList<string> Cases = [GeneratedModels.Gpt2Small, GeneratedModels.T5Small];

    public static void Run(string name, string dtypeName)
    {
        AllocationMeter.Install(); // before the first tensor
        var dtype = Enum.Parse<ScalarType>(dtypeName);
        Console.WriteLine($"{name}, weights {dtype}; {TorchRuntime.Description}");
        using var scope = NewDisposeScope();
        using var work = Make(name, dtype);
        var (stage, mend, batch, factors) = (work.Stage, work.Mend, work.Batch, work.Factors);

        var roofs = Roofs.Measure(CPU, dtype);
        Console.WriteLine(FormattableString.Invariant($"  the machine: {roofs.Stream / 1e9:0.0} GB/s; products of 1024 x 1024 x 1024: float32 {roofs.Float32 / 1e9:0} GFLOP/s{(roofs.BFloat16 > 0 ? $", bfloat16 {roofs.BFloat16 / 1e9:0} GFLOP/s" : "")}"));

        var forward = Time(() => TrainingStep.Score(stage, batch.Inner));
        var both = Time(() => TrainingStep.Record(stage, batch.Inner));
        double[] seconds = [forward.Seconds, both.Seconds - forward.Seconds, Time(() => mend.Propose(factors)).Seconds];
        List<Phase> edit = [.. new[] { "forward", "backward", "editor" }.Zip(seconds, work.EditParts)
            .Select(part => new Phase(part.First, part.Second, part.Third.Operations, part.Third.Bytes))];
        edit.ForEach(phase => Report("  " + phase.Name, phase.Seconds, [phase], roofs));
        var whole = Time(work.Edit);
        Report("edit", whole.Seconds, edit, roofs, whole.Peak);
        var step = Time(work.Step);
        Report("training step", step.Seconds,
            [.. work.StepParts.Select(part => new Phase("", step.Seconds, part.Operations, part.Bytes))], roofs, step.Peak);
        Console.WriteLine(FormattableString.Invariant($"  peak memory of the process {Passes.PeakResidentGB():0.00} GB (weights, editor, its gradients and Adam's moments included)"));
    }

    /// <summary>A model, an editor, and what is timed; in the caller's dispose scope.</summary>
    public static Work Make(string name, ScalarType dtype)
    {
        var (family, labels) = (GeneratedModels.Family(name), name == GeneratedModels.Gpt2Small ? 10 : 6);
        var stage = Stage.LoadWhole(family, new RandomWeights(1, dtype, family.InitialStd));
        var mend = new Mend(new() { Rank = 1920 }, EditorTraining.EditableWeights(stage), 1);
        var batch = new EditBatch(Batch(family, EditTokens, labels, 1), Batch(family, EditTokens, labels, 2),
            Batch(family, LocalityTokens, LocalityTokens, 3));
        mend.ProposeForTraining(TrainingStep.Record(stage, batch.Inner).Factors); // statistics to normalise by
        return new(stage, mend, new EditorOptimiser(mend, 1e-6, 1e-4, window: Window, gradClip: 100), batch,
            TrainingStep.Record(stage, batch.Inner).Factors);
    }

    /// <summary>An edit and a training step, and what each must do.</summary>
    internal sealed class Work(Stage stage, Mend mend, EditorOptimiser optimiser, EditBatch batch,
        IReadOnlyDictionary<string, GradientFactors> factors) : IDisposable
    {
        private readonly long _rows = factors.Values.Sum(factor => factor.u.shape[0]);
        private readonly Traffic _traffic = new(stage, mend);

        public Stage Stage => stage;

        public Mend Mend => mend;

        public EditBatch Batch => batch;

        public IReadOnlyDictionary<string, GradientFactors> Factors => factors;

        /// <summary>Forward, backward, editor: operations, and bytes that must pass through the memory.</summary>
        public IReadOnlyList<(Operations Operations, double Bytes)> EditParts =>
        [
            (Operations.EditForward(stage, batch), _traffic.EditForward), (Operations.EditBackward(stage, batch), _traffic.EditBackward),
            (Operations.EditEditor(mend, _rows), _traffic.EditEditor),
        ];

        public IReadOnlyList<(Operations Operations, double Bytes)> StepParts =>
            [(Operations.TrainingStep(stage, mend, batch, _rows), _traffic.TrainingStep(Window))];

        public void Edit() => mend.Propose(TrainingStep.Record(stage, batch.Inner).Factors);

        public void Step() => optimiser.Take(TrainingStep.Run(stage, mend, batch, new(), optimiser.Parameters).Gradients);

        public void Dispose()
        {
            optimiser.Dispose();
            mend.Dispose();
            stage.Dispose();
        }
    }

    /// <summary>Part of an edit, or a step.</summary>
    /// <param name="Bytes">That must pass through the memory.</param>
    private sealed record Phase(string Name, double Seconds, Operations Operations, double Bytes);

    /// <summary>No machine is quicker than its products of these shapes, nor than its memory: the floor is the larger of the two.</summary>
    private static void Report(string what, double seconds, IReadOnlyList<Phase> parts, Roofs roofs, long? peak = null)
    {
        List<(double Products, double Memory)> floors = [.. parts.Select(part => (roofs.SecondsOf(part.Operations), part.Bytes / roofs.Stream))];
        var floor = floors.Sum(part => Math.Max(part.Products, part.Memory));
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"  {what,-14} {1000 * seconds,7:0.0} ms; {parts.Sum(part => part.Operations.Total) / 1e9:0.0} GFLOP in {1000 * floors.Sum(part => part.Products):0.0} ms, ")
            + string.Create(CultureInfo.InvariantCulture,
            $"{parts.Sum(part => part.Bytes) / 1e9:0.00} GB in {1000 * floors.Sum(part => part.Memory):0.0} ms; ratio to the floor {seconds / floor:0.00}{(peak is { } most ? $"; tensors at most {most / 1e9:0.00} GB" : "")}"));
    }

    /// <summary>Median time, and the tensors' peak of the timed rounds.</summary>
    private static (double Seconds, long Peak) Time(Action action)
    {
        void Once()
        {
            using var scope = NewDisposeScope();
            action();
        }
        for (var i = 0; i < 3; i++)
            Once();
        var meter = AllocationMeter.Install();
        meter.Reset();
        var times = new List<double>();
        for (var i = 0; i < Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            Once();
            times.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        return (times.Order().ElementAt(Rounds / 2), meter.Peak);
    }

    private static LabelledInput Batch(ModelFamily family, int tokens, int labels, ulong seed)
    {
        using var generator = new Generator(seed);
        Tensor Ids(int count) => randint(2, family.VocabularySize - 1, [1, count], generator: generator);
        var mask = ones([1, tokens], ScalarType.Int64);
        if (family.IsEncoderDecoder)
            return new(new(Ids(tokens), mask, Ids(Math.Min(labels, 6))), Ids(Math.Min(labels, 6)));
        var ids = Ids(tokens);
        var ignored = NewTensor.Full([1, tokens - labels], ScoredPositions.Ignored, ScalarType.Int64);
        return new(new(ids, mask), cat([ignored, ids.narrow(1, tokens - labels, labels)], 1));
    }
}
