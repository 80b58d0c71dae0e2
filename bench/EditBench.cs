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
    private const int EditTokens = 28, LocalityTokens = 32, Rounds = 15;

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
        using var optimiser = new EditorOptimiser(mend, 1e-6, 1e-4, window: 10, gradClip: 100);
        using var scope = NewDisposeScope();
        var batch = new EditBatch(Batch(family, EditTokens, labels, 1), Batch(family, EditTokens, labels, 2),
            Batch(family, LocalityTokens, LocalityTokens, 3));
        mend.ProposeForTraining(TrainingStep.Record(stage, batch.Inner).Factors); // statistics to normalise by

        var (fp32, bf16) = (MatrixRate(ScalarType.Float32), dtype == ScalarType.BFloat16 ? MatrixRate(ScalarType.BFloat16) : 0);
        Console.WriteLine(FormattableString.Invariant($"  matrix rate (1024 x 1024 x 1024): float32 {fp32 / 1e9:0} GFLOP/s{(bf16 > 0 ? $", bfloat16 {bf16 / 1e9:0} GFLOP/s" : "")}"));

        long rows = 0;
        Report("edit", Time(() =>
        {
            var (_, factors) = TrainingStep.Record(stage, batch.Inner);
            rows = factors.Values.Sum(factor => factor.u.shape[0]);
            mend.Propose(factors);
        }), Operations.Edit(stage, mend, batch, rows), fp32, bf16);

        Report("training step", Time(() => optimiser.Take(TrainingStep.Run(stage, mend, batch, new(), optimiser.Parameters).Gradients)),
            Operations.TrainingStep(stage, mend, batch, rows), fp32, bf16);
        Console.WriteLine(FormattableString.Invariant($"  peak memory of the process {Passes.PeakResidentGB():0.00} GB (weights, editor, its gradients and Adam's moments included)"));
    }

    private static void Report(string what, (double Seconds, long Peak) measured, Operations operations, double fp32, double bf16)
    {
        var floor = operations.Base / (bf16 > 0 ? bf16 : fp32) + operations.Editor / fp32;
        Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"  {what,-14} {measured.Seconds * 1000,7:0.0} ms; {(operations.Base + operations.Editor) / 1e9:0.0} GFLOP ({operations.Editor / 1e9:0.0} in the editor); floor {floor * 1000:0.0} ms; ratio {measured.Seconds / floor:0.00}; tensors at most {measured.Peak / 1e9:0.00} GB"));
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

    /// <summary>The best of several products: what the machine can do when it is let.</summary>
    private static double MatrixRate(ScalarType dtype)
    {
        const int n = 1024;
        using var scope = NewDisposeScope();
        var (a, b) = (randn([n, n]).to_type(dtype), randn([n, n]).to_type(dtype));
        var best = double.MaxValue;
        for (var i = 0; i < 20; i++)
        {
            var start = Stopwatch.GetTimestamp();
            using var product = a.mm(b);
            best = Math.Min(best, Stopwatch.GetElapsedTime(start).TotalSeconds);
        }
        return 2.0 * n * n * n / best;
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
