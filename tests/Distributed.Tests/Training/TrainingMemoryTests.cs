using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests.Training;

[Collection(nameof(MemoryTests))]
public class TrainingMemoryTests
{
    /// <summary>Steps, validations, checkpoints, a step that was given up and a replica that came back leave no tensor behind.</summary>
    [Theory]
    [InlineData("t5")]
    [InlineData("gpt2")]
    public async Task NoStep_LeavesATensorBehind(string family)
    {
        using var training = new TrainingOfTinyModel(family);
        var counts = new List<long>();
        Dictionary<ShardPlace, MortalTrainingShard> shards = [];
        await training.TrainAsync("run", 2, 2, TrainingOfTinyModel.Options(40) with { Averaging = 0.9 }, onStep: step =>
        {
            switch (step.Iteration / TrainingOfTinyModel.Window % 10)
            {
                case 2:
                    shards[new(1, 1)].Arm(TrainingCall.EvaluateBackward);
                    break;
                case 4:
                    shards[new(1, 1)].ComeBackAsync().GetAwaiter().GetResult();
                    break;
                case 0 when step.Replicas == 2:
                    if (counts.Count == 0)
                    {
                        GC.Collect(); // what other tests left to the collector; nothing is collected from here on
                        GC.WaitForPendingFinalizers();
                    }
                    counts.Add(Tensor.TotalCount);
                    break;
            }
        }, wrap: (shard, place) => shards[place] = new(shard, () => new TrainingShard(new(training.Model, place), peer => shards[peer])));
        Assert.True(counts.Count >= 3, $"{counts.Count} rounds");
        Assert.All(counts, count => Assert.Equal(counts[0], count));
    }

    [Fact]
    public async Task ARunThatIsOver_LeavesNothing()
    {
        using var training = new TrainingOfTinyModel("t5");
        await training.TrainAsync("first", 2, 2, TrainingOfTinyModel.Options(5));
        GC.Collect();
        GC.WaitForPendingFinalizers();
        var before = Tensor.TotalCount;
        await training.TrainAsync("second", 2, 2, TrainingOfTinyModel.Options(5));
        Assert.Equal(before, Tensor.TotalCount);
    }
}
