using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Torch;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

/// <summary>Reads a counter of the whole process, so nothing else may run beside it.</summary>
[CollectionDefinition(nameof(MemoryTests), DisableParallelization = true)]
public sealed class OneAtATime;

[Collection(nameof(MemoryTests))]
public class MemoryTests
{
    public static TheoryData<string> Families => [.. TinyModels.Families];

    /// <summary>An edit that was taken back, one that was refused, one that failed midway and an answer leave no tensor behind.</summary>
    [Theory]
    [MemberData(nameof(Families))]
    public async Task NoRequest_LeavesATensorBehind(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        FailingShard? failing = null;
        await using var cluster = await model.OpenAsync(wrap: shard => failing is null ? failing = new(shard) : shard);
        for (var i = 0; i < 3; i++) // until as many versions are kept as ever will be
            await RoundAsync(cluster, failing!);
        GC.Collect(); // what other tests left to the collector; nothing is collected from here on
        GC.WaitForPendingFinalizers();
        var before = Tensor.TotalCount;
        for (var i = 0; i < 3; i++)
            await RoundAsync(cluster, failing!);
        Assert.Equal(before, Tensor.TotalCount);
    }

    [MeteredFact]
    public async Task AnExport_HoldsOneWeightAtATime()
    {
        using var model = new ClusterOfTinyModel("t5", width: 128);
        await using (var cluster = await model.OpenAsync())
            await cluster.EditAsync("what is red", "the south");
        var weights = new FileInfo(Path.Combine(model.Model, "model.safetensors")).Length;
        var meter = AllocationMeter.Install();
        var before = meter.Live;
        meter.Reset();
        var report = await ModelExport.RunAsync(new()
        {
            ModelDirectory = model.Model,
            Ledger = model.Ledger,
            Output = Path.Combine(model.Model, "out"),
            DType = DType.BFloat16
        });
        Assert.True(report.Weights.Count > 4);
        Assert.True(meter.Peak - before < weights / 2, $"{meter.Peak - before} bytes were held; the model has {weights}");
    }

    private static async Task RoundAsync(EmbeddedCluster cluster, FailingShard failing)
    {
        var edit = await cluster.EditAsync("what is red", "the south");
        await cluster.AskAsync("what is red", new(MaxTokens: 4));
        await Assert.ThrowsAsync<MendException>(() =>
            cluster.EditAsync("the old town", "a woman from the south is red", new() { RequireSuccess = true }));
        failing.IsArmed = true;
        await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("the old town", "red"));
        await cluster.RevertAsync(edit.Id);
    }

    private sealed class FailingShard(IModelShard shard) : InterruptedShard(shard)
    {
        public bool IsArmed { get; set; }

        protected override Task MeetAsync(ShardStep step)
        {
            if (!IsArmed || step != ShardStep.TryAfter)
                return Task.CompletedTask;
            IsArmed = false;
            throw new TimeoutException("no answer");
        }
    }
}
