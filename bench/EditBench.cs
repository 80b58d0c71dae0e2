using System.Diagnostics;
using System.Globalization;
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
        var labels = name == GeneratedModels.Gpt2Small ? 10 : 6;
        Console.WriteLine($"{name}, weights {dtype}; {TorchRuntime.Description}");
        var family = GeneratedModels.Family(name);
        using var stage = Stage.LoadWhole(family, new RandomWeights(1, dtype, family.InitialStd));
        using var mend = new Mend(new() { Rank = 1920 }, EditorTraining.EditableWeights(stage), 1);
        using var optimiser = new EditorOptimiser(mend, 1e-6, 1e-4, window: Window, gradClip: 100);
        using var scope = NewDisposeScope();
        var batch = new EditBatch(Batch(family, EditTokens, labels, 1), Batch(family, EditTokens, labels, 2),
            Batch(family, LocalityTokens, LocalityTokens, 3));
        mend.ProposeForTraining(TrainingStep.Record(stage, batch.Inner).Factors); // statistics to normalise by

        var roofs = Roofs.Measure(CPU, dtype);
        Console.WriteLine(FormattableString.Invariant($"  the machine: {roofs.Stream / 1e9:0.0} GB/s; products of 1024 x 1024 x 1024: float32 {roofs.Float32 / 1e9:0} GFLOP/s{(roofs.BFloat16 > 0 ? $", bfloat16 {roofs.BFloat16 / 1e9:0} GFLOP/s" : "")}"));

        var (_, factors) = TrainingStep.Record(stage, batch.Inner);
        var (rows, traffic) = (factors.Values.Sum(factor => factor.u.shape[0]), new Traffic(stage, mend));
        var forward = Time(() => TrainingStep.Score(stage, batch.Inner));
        var both = Time(() => TrainingStep.Record(stage, batch.Inner));
        List<Phase> edit =
        [
            new("forward", forward.Seconds, Operations.EditForward(stage, batch), traffic.EditForward),
            new("backward", both.Seconds - forward.Seconds, Operations.EditBackward(stage, batch), traffic.EditBackward),
            new("editor", Time(() => mend.Propose(factors)).Seconds, Operations.EditEditor(mend, rows), traffic.EditEditor),
        ];
        edit.ForEach(phase => Report("  " + phase.Name, phase.Seconds, [phase], roofs));
        var whole = Time(() => mend.Propose(TrainingStep.Record(stage, batch.Inner).Factors));
        Report("edit", whole.Seconds, edit, roofs, whole.Peak);
        var step = Time(() => optimiser.Take(TrainingStep.Run(stage, mend, batch, new(), optimiser.Parameters).Gradients));
        Report("training step", step.Seconds,
            [new("", step.Seconds, Operations.TrainingStep(stage, mend, batch, rows), traffic.TrainingStep(Window))], roofs, step.Peak);
        Console.WriteLine(FormattableString.Invariant($"  peak memory of the process {Passes.PeakResidentGB():0.00} GB (weights, editor, its gradients and Adam's moments included)"));
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
