using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Data;
using MendCluster.Grains;
using MendCluster.Testing;

namespace MendCluster.Orleans.Tests;

/// <summary>Training over silos is training in one process at a distance.</summary>
public class TrainingTests
{
    private static readonly string[] Words = ["red", "blue", "the south", "a woman", "the old town"];

    [Fact]
    public async Task TwoSilosWithAReplicaEach_TrainWhatOneProcessDoes_ToTheLastBit()
    {
        await using var cluster = await TinyCluster.StartAsync("t5", silos: 2, stages: 2, replicas: 2);
        using var folder = new TemporaryFolder();
        await using (var embedded = new EmbeddedTrainer(cluster.Model, 2, 2, Options(cluster, folder["embedded"])))
            await embedded.TrainAsync();
        await Trainer(cluster, folder["cluster"]).TrainAsync();
        Assert.Equal(File.ReadAllBytes(folder["embedded/checkpoint.safetensors"]),
            File.ReadAllBytes(folder["cluster/checkpoint.safetensors"]));
        Assert.True(cluster.Calls["PutAsync"] > 0);
    }

    [Fact]
    public async Task ASiloThatGoesInTheMiddle_IsDoneWithout()
    {
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 2, stages: 1, replicas: 2);
        using var folder = new TemporaryFolder();
        var replicas = new List<int>();
        var stopped = Task.CompletedTask;
        var result = await Trainer(cluster, folder["run"]).TrainAsync(new Steps(step =>
        {
            replicas.Add(step.Replicas);
            if (step.Iteration == 10)
                stopped = cluster.StopSiloAsync(1);
        }));
        await stopped;
        Assert.Equal("max_iters", result.Stopped);
        Assert.Equal((2, 1), (replicas[0], replicas[^1]));
    }

    private static EditorTrainer Trainer(TinyCluster cluster, string run)
    {
        var shards = GrainTrainingShard.In(cluster.Grains, cluster.Settings.Model);
        return new([.. cluster.Settings.Replicas.Select((stages, replica) =>
            (IReadOnlyList<ITrainingShard>)[.. stages.Select((_, stage) => shards(new(replica, stage)))])],
            Options(cluster, run));
    }

    private static EditorTrainerOptions Options(TinyCluster cluster, string run)
    {
        var edits = Enumerable.Range(0, 20)
            .Select(i => new EditExample($"{Words[i % 5]} {Words[i / 5]}", Words[(i + 1) % 5], [$"{Words[i % 5]} {Words[i / 5]} {Words[i % 5]}"],
                [new(Words[(i + 3) % 5], "blue")])).ToList();
        return EditorTrainerOptions.Of(cluster.Model, EditorData.Of(cluster.Model, edits,
            new()
            {
                Mend = new() { Rank = 4, EditLr = 0.1 },
                Lr = 5e-5,
                LrLr = 1e-3,
                AccumulateBs = 5,
                ValInterval = 20,
                ValSteps = 2,
                MaxIters = 40,
                Averaging = 0.9
            }), run);
    }

    private sealed class Steps(Action<TrainingProgress> taken) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value) => taken(value);
    }
}
