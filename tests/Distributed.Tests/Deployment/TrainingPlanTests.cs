using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Data;
using MendCluster.Engine.Torch;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests.Deployment;

[Collection(nameof(MemoryTests))]
public sealed class TrainingPlanTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void ARunThatNeedsMoreThanThereIs_IsRefusedWithBothNumbers()
    {
        var plan = TrainingPlan.Of(TinyModel.Family("t5"), new());
        plan.RequireFit(plan.HeldBytes, plan.DiskBytes);
        plan.RequireFit(null, null);
        var memory = Refusal.Of(MendError.OutOfMemory, () => plan.RequireFit(plan.HeldBytes / 2, plan.DiskBytes));
        Assert.Contains(TrainingPlan.Size(plan.HeldBytes), memory.What, StringComparison.Ordinal);
        Assert.Contains(TrainingPlan.Size(plan.HeldBytes / 2), memory.What, StringComparison.Ordinal);
        var disk = Refusal.Of(MendError.FileUnusable, () => plan.RequireFit(plan.HeldBytes, plan.DiskBytes / 2));
        Assert.Contains(TrainingPlan.Size(plan.DiskBytes), disk.What, StringComparison.Ordinal);
        Assert.Equal(3 * plan.HeldBytes, TrainingPlan.Of(TinyModel.Family("t5"), new(), replicas: 3).HeldBytes);
    }

    /// <summary>A run with two validations, on prompts and targets of as many tokens as are read.</summary>
    [MeteredTheory]
    [InlineData("gpt2", EditorAlgorithm.Mend, 1, 64)]
    [InlineData("gpt2", EditorAlgorithm.Mend, 6, 64)]
    [InlineData("gpt2", EditorAlgorithm.Malmen, 6, 64)]
    [InlineData("t5", EditorAlgorithm.Mend, 1, 64)]
    [InlineData("t5", EditorAlgorithm.Malmen, 40, 64)]
    [InlineData("gpt2", EditorAlgorithm.Ke, 1, 64)]
    [InlineData("gpt2", EditorAlgorithm.Enn, 1, 64)]
    public void WhatIsPlanned_BoundsWhatIsMeasured(string family, EditorAlgorithm algorithm, int edits, int width)
    {
        TinyModels.Write(_folder["model"], family, width: width);
        var options = new EditorTrainingOptions
        {
            Algorithm = algorithm,
            Edits = edits,
            Averaging = edits > 1 ? 0.9 : 0,
            AccumulateBs = 1,
            MaxIters = 2,
            ValInterval = 1,
            ValSteps = 1,
        };
        var examples = Enumerable.Range(0, 100).Select(i => new EditExample(Text(i), Text(i + 3000),
            [Text(i + 1000)], [new(Text(i + 2000), Text(i + 4000))], "old")).ToList();
        var plan = TrainingPlan.Read(_folder["model"], options);
        var measured = AllocationMeter.Install().PeakOf(() =>
            LocalTraining.Run(_folder["model"], text => QuestionAnswering.Task(text, examples, 0), options, _folder["run"]));
        Assert.True(measured >= 0.9 * plan.HeldBytes, $"{plan}: measured {measured}");
        Assert.True(plan.ActivationBytes is not { } activations || measured <= plan.HeldBytes + activations
            && plan.HeldBytes + activations < 5 * measured, $"{plan}: measured {measured}");
        var disk = new FileInfo(_folder["run/checkpoint.safetensors"]).Length * 2 + new FileInfo(_folder["run/editor.safetensors"]).Length;
        Assert.InRange(disk, 0.9 * plan.DiskBytes, 1.1 * plan.DiskBytes);

        static string Text(int i) => string.Join(' ', Enumerable.Range(0, 14).Select(bit => (i >> bit) % 2 == 0 ? "red" : "old"));
    }
}
