using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>What an edit or the one before it has found out is not computed again, and comes to the same as if it were.</summary>
public class NothingTwiceTests
{
    private const int Stages = 6; // a layer each: the first is the embedding

    public static TheoryData<string> Families => [.. TinyModels.Families];

    [Fact]
    public async Task TriesBeginAtTheLowestEditableStage_AndTheUneditedModelIsAskedTheProbesOnce()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        List<CountingShard> shards = [];
        await using var cluster = await model.OpenAsync(Stages, shard =>
        {
            shards.Add(new(shard));
            return shards[^1];
        });
        var lowest = (await cluster.StatusAsync()).Select(status => status.EditableWeights.Count > 0).ToList().IndexOf(true);
        Assert.True(lowest > 0, "no stage is below the editable weights");

        await cluster.EditAsync("who is the mayor", "a woman");
        Assert.All(shards[..lowest], shard => Assert.Equal((1, 0), shard.TakeTries()));
        Assert.All(shards[lowest..], shard => Assert.Equal(1, shard.TakeTries().Before));
        await cluster.EditAsync("what is red", "the south"); // its baseline is the trial of the edit before
        await cluster.PreviewAsync("the old town", "red");
        await cluster.EditAsync("the old town", "red");      // at the version of the preview
        Assert.All(shards[..lowest], shard => Assert.Equal((0, 0), shard.TakeTries()));
        Assert.All(shards[lowest..], shard => Assert.Equal(0, shard.TakeTries().Before));

        await cluster.EditAsync("who is the mayor", "red", new() { Scope = "a" });
        Assert.All(shards, shard => Assert.Equal(1, shard.TakeTries().Before)); // the scope sees a model of its own
        await cluster.RevertAsync(new(1));
        await cluster.EditAsync("who is the mayor", "red");
        Assert.All(shards, shard => Assert.Equal(1, shard.TakeTries().Before)); // nobody was asked yet at this version
    }

    /// <summary>What a budget holds edits against stays known while the shards live, also over edits without one.</summary>
    [Fact]
    public async Task TheBaseModel_IsAskedTheProbesOnce()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        CountingShard? shard = null;
        await using var cluster = await model.OpenAsync(1, inner => shard = new(inner));
        var limits = new EditOptions { MaxTotalDrawdown = 1, MaxTotalKl = 1e6 };
        await cluster.PreviewAsync("what is red", "the south");
        Assert.Equal(1, shard!.TakeTries().Before);
        var first = (await cluster.PreviewAsync("what is red", "the south", limits)).Figures;
        Assert.Equal(2, shard.TakeTries().Before); // the base model, and the unedited one anew beside it
        await cluster.EditAsync("who is the mayor", "a woman");
        var second = (await cluster.PreviewAsync("what is red", "the south", limits)).Figures;
        Assert.Equal(0, shard.TakeTries().Before);
        Assert.Equal(first.Kl, first.TotalKl);
        Assert.NotEqual(second.Kl, second.TotalKl);
    }

    /// <summary>With the trial of the edit before as its baseline, and without any on a cluster that was just opened.</summary>
    [Theory]
    [MemberData(nameof(Families))]
    public async Task AnEditAfterAnEdit_HasTheFiguresOfOneThatFoundNothing(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        await using var cluster = await model.OpenAsync();
        await cluster.EditAsync("who is the mayor", "a woman");
        await cluster.EditAsync("the old town", "red", new() { Confidence = 0.2 });
        var expected = (await cluster.EditAsync("what is red", "the south")).Figures;
        var ledger = model.Ledger + "2";
        await using (var twice = await model.OpenAsync(ledger: ledger))
        {
            await twice.EditAsync("who is the mayor", "a woman");
            await twice.EditAsync("the old town", "red", new() { Confidence = 0.2 });
        }
        await using var opened = await model.OpenAsync(ledger: ledger);
        Assert.Equal(expected, (await opened.EditAsync("what is red", "the south")).Figures);
    }

    /// <summary>What it kept of the probes is gone, and no edit needs to be sent again for that.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public async Task AShardRestartedBetweenTwoEdits_FailsNone(int stage)
    {
        using var model = new ClusterOfTinyModel("t5");
        List<RestartingShard> shards = [];
        await using var cluster = await model.OpenAsync(2, shard =>
        {
            var options = new ShardOptions(model.Model, model.Editor, shards.Count, 2);
            shards.Add(new(shard, () => new ModelShard(options, TimeProvider.System)));
            return shards[^1];
        });
        await cluster.EditAsync("who is the mayor", "a woman");
        shards[stage].Arm(ShardStep.Forward);
        var receipt = await cluster.EditAsync("what is red", "the south");
        Assert.False(shards[stage].IsArmed, "the fault was never met");

        await using var undisturbed = await model.OpenAsync(ledger: model.Ledger + "2");
        await undisturbed.EditAsync("who is the mayor", "a woman");
        Assert.Equal(receipt.Figures, (await undisturbed.EditAsync("what is red", "the south")).Figures);
    }

    [Fact]
    public async Task NoProbe_IsTokenisedTwice()
    {
        using var model = new ClusterOfTinyModel("t5");
        var tokenizer = new CountingTokenizer(TokenizerFiles.Load(model.Model));
        var text = new ModelText(ModelFamily.FromDirectory(model.Model), tokenizer);
        await using var shard = new ModelShard(new(model.Model, model.Editor, 0, 1), TimeProvider.System);
        await shard.LoadAsync();
        await using var ledger = FileLedger.Open(model.Ledger, ModelText.FingerprintOf(model.Model));
        using var coordinator = new EditCoordinator([[shard]], ledger, text, new([new("the old town", "south")], text),
            TimeProvider.System);
        await coordinator.EditAsync("who is the mayor", "a woman");
        await coordinator.EditAsync("what is red", "a woman");
        Assert.Equal(1, tokenizer.Read["the old town"]);
    }

    private sealed class CountingShard(IModelShard shard) : ShardDecorator(shard)
    {
        private (int Before, int With) _tries;

        /// <summary>Tries without and with a candidate since it was last asked.</summary>
        public (int Before, int With) TakeTries()
        {
            var tries = _tries;
            _tries = default;
            return tries;
        }

        public override Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default)
        {
            if (request.Candidate is null)
                _tries.Before++;
            else
                _tries.With++;
            return base.TryAsync(request, cancellation);
        }
    }

    private sealed class CountingTokenizer(ITokenizer tokenizer) : ITokenizer
    {
        /// <summary>How often a text was read.</summary>
        public Dictionary<string, int> Read { get; } = [];

        public int VocabularySize => tokenizer.VocabularySize;

        public IReadOnlyList<int> Encode(string text, bool addSpecialTokens = true)
        {
            Read[text] = Read.GetValueOrDefault(text) + 1;
            return tokenizer.Encode(text, addSpecialTokens);
        }

        public string Decode(IEnumerable<int> ids, bool skipSpecialTokens = true) => tokenizer.Decode(ids, skipSpecialTokens);

        public int? IdOf(string token) => tokenizer.IdOf(token);

        public string? TokenOf(int id) => tokenizer.TokenOf(id);
    }
}
