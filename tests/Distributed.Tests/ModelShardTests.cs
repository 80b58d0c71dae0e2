using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>A shard by itself: one stage that is the whole model.</summary>
public sealed class ModelShardTests : IDisposable
{
    private readonly ClusterOfTinyModel _model = new("t5");

    public void Dispose() => _model.Dispose();

    [Fact]
    public async Task BeforeItIsLoaded_ItIsColdAndServesNothing()
    {
        await using var shard = Shard();
        Assert.Equal(ShardState.Cold, (await shard.StatusAsync()).State);
        Assert.Equal(MendError.ShardLost, (await Assert.ThrowsAsync<MendException>(() => Ask(shard, 0))).Error);
        Assert.Equal(ShardState.Ready, (await shard.LoadAsync()).State);
        Assert.Equal(ShardState.Ready, (await shard.LoadAsync()).State);
        Assert.NotEmpty(await Ask(shard, 0));
    }

    /// <summary>One file a stage, and only the shard's own is there.</summary>
    [Theory]
    [InlineData("gptj")]
    [InlineData("gpt_neo")]
    public async Task AShard_LoadsThePlannedLayersAndReadsNoOtherStagesFile(string family)
    {
        const int stages = 3;
        using var model = new ClusterOfTinyModel(family);
        using var folder = new TemporaryFolder();
        var plan = StagePlan.Read(model.Model, model.Editor, new() { Stages = stages });
        var files = ModelImport.Run(model.Model, stages, folder["staged"]);
        for (var stage = 0; stage < stages; stage++)
        {
            var own = folder[$"stage{stage}"];
            Directory.CreateDirectory(own);
            foreach (var name in new[] { "config.json", "model.safetensors.index.json", files[stage].File })
                File.Copy(Path.Combine(folder["staged"], name), Path.Combine(own, name));
            if (stage == stages - 1 && family == "gpt_neo") // its head is the embedding, which lies in the first stage's file
                File.Copy(Path.Combine(folder["staged"], files[0].File), Path.Combine(own, files[0].File));
            await using var shard = new ModelShard(new(own, model.Editor, stage, stages), TimeProvider.System);
            var status = await shard.LoadAsync();
            Assert.Equal(plan.Ranges[stage], new StageRange(status.FirstLayer, status.EndLayer));
            Assert.Equal(plan.Stages[stage].WeightBytes, status.WeightBytes);
            Assert.Equal(plan.Stages[stage].Editable, status.EditableWeights);
        }
    }

    [Fact]
    public async Task AVersionItHasNot_IsBehindAndAnOldOneIsGone()
    {
        var records = await Records(7);
        await using var shard = Shard();
        await shard.LoadAsync();
        Assert.Equal(MendError.VersionBehind, (await Assert.ThrowsAsync<MendException>(() => Ask(shard, 1))).Error);
        await shard.ApplyAsync([.. records.Take(6)]);
        await shard.ApplyAsync(records);
        Assert.Equal(new ModelVersion(7), (await shard.StatusAsync()).Version);
        Assert.Equal(MendError.VersionGone, (await Assert.ThrowsAsync<MendException>(() => Ask(shard, 1))).Error);
        Assert.NotEqual(await Ask(shard, 7), await Ask(shard, 6)); // reads in flight keep to the version they began with
    }

    [Fact]
    public async Task Records_AreTakenOnceAndWithoutAGap()
    {
        var records = await Records(3);
        await using var shard = Shard();
        await shard.LoadAsync();
        Assert.Equal(MendError.VersionGap, (await Assert.ThrowsAsync<MendException>(() => shard.ApplyAsync([records[1]]))).Error);
        await shard.ApplyAsync([.. records.Take(2)]);
        await shard.ApplyAsync(records);
        await using var straight = Shard();
        await straight.LoadAsync();
        await straight.ApplyAsync(records);
        Assert.Equal(await Ask(straight, 3), await Ask(shard, 3));
    }

    [Fact]
    public async Task ARecordThatCannotBeApplied_ChangesNothing()
    {
        var records = await Records(3);
        await using var shard = Shard();
        await shard.LoadAsync();
        await shard.ApplyAsync([records[0]]);
        var before = await Ask(shard, 1);
        var change = records[1].Changes[0];
        var wide = change with { UTilde = new(DType.Float32, [1, change.UTilde.Shape[1] + 1], new byte[4 * (change.UTilde.Shape[1] + 1)]) };
        await Assert.ThrowsAnyAsync<Exception>(() =>
            shard.ApplyAsync([records[1] with { Changes = [wide, .. records[1].Changes.Skip(1)] }]));
        await Assert.ThrowsAnyAsync<Exception>(() =>
            shard.ApplyAsync([new(records[1].Entry with { Kind = LedgerKind.Revert, Edit = new(77) }, [])]));
        Assert.Equal(new ModelVersion(1), (await shard.StatusAsync()).Version);
        Assert.Equal(before, await Ask(shard, 1));

        await shard.ApplyAsync(records);
        await using var straight = Shard();
        await straight.LoadAsync();
        await straight.ApplyAsync(records);
        Assert.Equal(await Ask(straight, 3), await Ask(shard, 3));
    }

    [Fact]
    public async Task AfterAFailedLoad_ItSaysWhyAndCanBeLoadedAgain()
    {
        using var other = new ClusterOfTinyModel("t5", width: 16);
        var editor = await File.ReadAllBytesAsync(_model.Editor);
        File.Copy(other.Editor, _model.Editor, overwrite: true);
        await using var shard = Shard();
        Assert.Equal(MendError.ModelUnusable, (await Assert.ThrowsAsync<MendException>(() => shard.LoadAsync())).Error);
        var status = await shard.StatusAsync();
        Assert.Equal(ShardState.Faulted, status.State);
        Assert.Contains("the editor was made for", status.Fault, StringComparison.Ordinal);
        Assert.Equal(MendError.ShardLost, (await Assert.ThrowsAsync<MendException>(() => Ask(shard, 0))).Error);

        await File.WriteAllBytesAsync(_model.Editor, editor);
        status = await shard.LoadAsync();
        Assert.Equal((ShardState.Ready, null), (status.State, status.Fault));
        Assert.NotEmpty(await Ask(shard, 0));
    }

    private ModelShard Shard() => new(new(_model.Model, _model.Editor, Stage: 0, Stages: 1), TimeProvider.System);

    /// <summary>What a cluster writes for edits of different facts.</summary>
    private async Task<IReadOnlyList<LedgerRecord>> Records(int count)
    {
        await using (var cluster = await _model.OpenAsync(stages: 1))
            for (var i = 0; i < count; i++)
                await cluster.EditAsync(i % 2 == 0 ? "who is the mayor" : "what is red", "a woman");
        await using var ledger = FileLedger.Open(_model.Ledger, ModelFingerprint.Of(_model.Model));
        return await ledger.ReadAfterAsync(ModelVersion.Base);
    }

    private async Task<IReadOnlyList<double>> Ask(ModelShard shard, long version)
    {
        var text = new ModelText(ModelFamily.FromDirectory(_model.Model), TokenizerFiles.Load(_model.Model));
        var reply = await shard.TryAsync(new(new(-1, new(version), text.Batch([("what is red", "blue"), ("the old town", "south")]),
            Boundary.None)));
        await shard.EndAsync(-1);
        return [.. reply.Scores!.Select(score => score.LogProbability)];
    }
}
