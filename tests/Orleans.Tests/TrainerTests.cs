using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Data;
using MendCluster.Engine.Training;
using MendCluster.Grains.Interfaces;
using MendCluster.Testing;

namespace MendCluster.Orleans.Tests;

/// <summary>A run that a cluster is asked for is the run of one process, whoever watches, goes, stops it or is lost.</summary>
public sealed class TrainerTests : IDisposable
{
    private static readonly string[] Words = ["red", "blue", "the south", "a woman", "the old town"];

    internal static readonly EditorTrainingOptions Training = new()
    {
        Mend = new() { Rank = 4, EditLr = 0.1 },
        Lr = 5e-5,
        LrLr = 1e-3,
        AccumulateBs = 5,
        ValInterval = 20,
        ValSteps = 2,
        MaxIters = 60,
        Averaging = 0.9,
    };

    private readonly TemporaryFolder _folder = new();

    public TrainerTests() => File.WriteAllLines(Data, Questions);

    internal static IEnumerable<string> Questions =>
        Enumerable.Range(0, 30).Select(i => $"what is {Words[i % 5]} {i}?\t{Words[(i + 1) % 5]}");

    private string Data => _folder["edits.tsv"];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task TwoSilosWithAReplicaEach_MakeTheEditorOfOneProcess_AndEveryStepIsSeen()
    {
        await using var cluster = await StartAsync();
        var expected = await EmbeddedAsync(cluster);
        List<TrainingProgress> steps = [];
        var result = await cluster.Client.Trainer(Order()).TrainAsync(new Steps(steps.Add));
        Assert.Equal(expected, result);
        Assert.Equal(Enumerable.Range(1, 12).Select(step => 5L * step), steps.Select(step => step.Iteration));
        Assert.All(steps, step => Assert.Equal(2, step.Replicas));
        AssertSameRuns();
    }

    [Fact]
    public async Task ARunGoesOnWithoutItsClient_AndIsWatchedAgainByTheSameOrder()
    {
        await using var cluster = await StartAsync();
        var trainer = Trainer(cluster);
        await trainer.StartAsync(Order());
        await foreach (var step in trainer.WatchAsync(Order().Run, 0))
            if (step.Iteration == 10)
                break;
        List<long> seen = [];
        var result = await cluster.Client.Trainer(Order()).TrainAsync(new Steps(step => seen.Add(step.Iteration)));
        Assert.Equal("max_iters", result.Stopped);
        Assert.Equal(Enumerable.Range(1, 12).Select(step => 5L * step), seen); // from its start on: it was joined, not begun again
        Assert.Equal(seen.Where(iteration => iteration > 30),
            await trainer.WatchAsync(Order().Run, 30).Select(step => step.Iteration).ToListAsync());
    }

    [Fact]
    public async Task ACancelledRun_StopsAtACheckpoint_AndTheSameOrderGoesOn()
    {
        await using var cluster = await StartAsync();
        await EmbeddedAsync(cluster);
        using var cancelled = new CancellationTokenSource();
        var result = await cluster.Client.Trainer(Order()).TrainAsync(new Steps(step =>
        {
            if (step.Iteration == 30)
                _ = Task.Run(cancelled.Cancel); // while the client waits for the next step
        }), cancelled.Token);
        Assert.Equal("cancelled", result.Stopped);
        using (var checkpoint = EditorCheckpoint.Open(_folder["cluster/checkpoint.safetensors"]))
            Assert.InRange(checkpoint.Iteration, 20, 40);
        Assert.Equal("max_iters", (await cluster.Client.Trainer(Order()).TrainAsync()).Stopped);
        AssertSameRuns();
    }

    [Fact]
    public async Task WhileARunIsUnderWay_AnotherIsRefused_AndNamesIt()
    {
        await using var cluster = await StartAsync();
        var trainer = Trainer(cluster);
        await trainer.StartAsync(Order());
        var e = await Assert.ThrowsAsync<MendException>(() => cluster.Client.Trainer(Order() with { Run = _folder["other"] }).TrainAsync());
        Assert.Equal(MendError.TrainerBusy, e.Error);
        Assert.Contains(Order().Run, e.Message, StringComparison.Ordinal);
        Assert.False(Directory.Exists(_folder["other"]));
        // nobody ends another's run
        Assert.Equal(MendError.CoordinatorLost,
            (await Assert.ThrowsAsync<MendException>(() => trainer.CancelAsync(_folder["other"]))).Error);
        Assert.Equal("cancelled", (await trainer.CancelAsync(Order().Run)).Stopped);
        Assert.Equal("max_iters", (await cluster.Client.Trainer(Order() with { Run = _folder["other"] }).TrainAsync()).Stopped);
    }

    [Fact]
    public async Task AFolderThatAnotherTrainerHas_IsRefused()
    {
        await using var cluster = await StartAsync();
        Directory.CreateDirectory(Order().Run);
        using (new FileStream(Path.Combine(Order().Run, "run.lock"), FileMode.Create, FileAccess.ReadWrite, FileShare.None))
            Assert.Equal(MendError.TrainerBusy, await ErrorAsync(cluster, Order()));
        Assert.Equal("max_iters", (await cluster.Client.Trainer(Order()).TrainAsync()).Stopped);
    }

    [Fact]
    public async Task AnOrderThatCannotBeCarriedOut_IsRefused_AndLeavesNothing()
    {
        await using var cluster = await StartAsync();
        TrainingJobRequest[] orders =
        [
            Order() with { Data = _folder["none.jsonl"] },
            Order() with { Data = _folder.Write("empty.jsonl", "") },
            Order() with { Data = _folder.Write("edits.doc", "") },
            Order() with { Data = "edits.tsv" },
            Order() with { Run = "cluster" },
            Order(Training with { Mend = Training.Mend with { Rank = 0 } }),
            Order(Training with { ValInterval = 7 }),
            Order(Training with { Algorithm = EditorAlgorithm.Malmen }),
            Order(Training with { Mend = Training.Mend with { Reference = true } }),
        ];
        foreach (var order in orders)
            Assert.Equal((order, MendError.InvalidOption), (order, await ErrorAsync(cluster, order)));
        Assert.Equal(MendError.FileUnusable, await ErrorAsync(cluster, Order() with { Run = Path.Combine(Data, "run") }));
        Assert.Equal(MendError.ModelUnusable, await ErrorAsync(cluster, Order(Training with { Editable = ["no.such.weight"] })));
        Assert.Equal(["edits.doc", "edits.tsv", "empty.jsonl"],
            Directory.EnumerateFileSystemEntries(_folder.Path).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Assert.Equal("max_iters", (await cluster.Client.Trainer(Order()).TrainAsync()).Stopped);
    }

    [Fact]
    public async Task TheTrainersSiloStopped_TheOrderSentAgain_GoesOnFromTheCheckpoint_ToTheSameBits()
    {
        await using var cluster = await StartAsync(silos: 3, 2, 0); // the first has the trainer and no stage
        await EmbeddedAsync(cluster);
        var stopped = Task.CompletedTask;
        List<long> seen = [];
        var result = await cluster.Client.Trainer(Order()).TrainAsync(new Steps(step =>
        {
            seen.Add(step.Iteration);
            if (step.Iteration == 30)
                stopped = cluster.StopSiloAsync(2);
        }));
        await stopped;
        Assert.Equal("max_iters", result.Stopped);
        Assert.Equal(2, cluster.Calls["StartAsync"]);
        Assert.Equal(seen.Distinct().Order(), seen); // no step is told twice, though some were taken twice
        AssertSameRuns();
    }

    private Task<TinyCluster> StartAsync(int silos = 2, params int[] coordinators) =>
        TinyCluster.StartAsync("gpt2", silos, stages: 1, replicas: 2, coordinators: coordinators);

    private static IEditorTrainerGrain Trainer(TinyCluster cluster) => cluster.Grains.GetGrain<IEditorTrainerGrain>(cluster.Settings.Model);

    private TrainingJobRequest Order(EditorTrainingOptions? training = null) => new(training ?? Training, Data, _folder["cluster"]);

    private Task<TrainingResult> EmbeddedAsync(TinyCluster cluster) =>
        EmbeddedAsync(cluster.Model, replicas: 2, stages: 1, Data, _folder["embedded"]);

    internal static async Task<TrainingResult> EmbeddedAsync(string model, int replicas, int stages, string data, string run)
    {
        var edits = EditorData.Of(model, QuestionAnswering.ReadEdits(data, (ulong)Training.Seed), Training);
        await using var embedded = new EmbeddedTrainer(model, replicas, stages, EditorTrainerOptions.Of(model, edits, run));
        return await embedded.TrainAsync();
    }

    private void AssertSameRuns() => AssertSameRuns(_folder["embedded"], _folder["cluster"]);

    internal static void AssertSameRuns(string expected, string run)
    {
        foreach (var file in new[] { "editor.safetensors", "checkpoint.safetensors", "config.json" })
            Assert.Equal(File.ReadAllBytes(Path.Combine(expected, file)), File.ReadAllBytes(Path.Combine(run, file)));
    }

    private static async Task<MendError> ErrorAsync(TinyCluster cluster, TrainingJobRequest order) =>
        (await Assert.ThrowsAsync<MendException>(() => cluster.Client.Trainer(order).TrainAsync())).Error;

    internal sealed class Steps(Action<TrainingProgress> taken) : IProgress<TrainingProgress>
    {
        public void Report(TrainingProgress value) => taken(value);
    }
}
