using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>A preview says what the edit would do, to the last bit, and does nothing.</summary>
public class PreviewTests
{
    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")]
    public async Task APreview_SaysWhatTheEditDoes_AndChangesNothing(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        await using var cluster = await model.OpenAsync();
        await cluster.EditAsync("the old town", "red");
        var state = await model.StateAsync(cluster);
        var preview = await cluster.PreviewAsync("who is the mayor", "a woman");
        Assert.Equal(state, await model.StateAsync(cluster));
        Assert.Single(await cluster.LedgerAsync());
        Assert.Equal((new ModelVersion(1), (string?)null), (preview.Version, preview.Refused));
        Assert.Equal((await cluster.AskAsync("who is the mayor")).Text, preview.AnswerBefore);

        var receipt = await cluster.EditAsync("who is the mayor", "a woman");
        Assert.Equal(receipt.Figures, preview.Figures);
        Assert.Equal((await cluster.AskAsync("who is the mayor")).Text, preview.AnswerAfter);
        Assert.NotEmpty(preview.Weights);
        Assert.All(preview.Weights, weight => Assert.True(weight.Rank > 0 && weight.Norm > 0));
    }

    [Fact]
    public async Task ARefusal_IsSaidAndNotThrown()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        model.SetAlpha(0);
        await using var cluster = await model.OpenAsync();
        EditOptions options = new() { RequireSuccess = true };
        var preview = await cluster.PreviewAsync("who is the mayor", "a woman", options);
        var refused = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync("who is the mayor", "a woman", options));
        Assert.Equal(refused.Message, preview.Refused);
    }

    [Fact]
    public async Task ProbesThatWouldTurn_AreNamed()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster =
            await model.OpenAsync(wrap: shard => new Turning(shard), probes: [new("what is red", "blue"), new("the old town", "south")]);
        var preview = await cluster.PreviewAsync("who is the mayor", "a woman");
        var probe = Assert.Single(preview.Probes);
        Assert.Equal(new("the old town", "south", true, false, Math.Exp(-0.5), Math.Exp(-2)), probe);
        Assert.Equal(0.5, preview.Figures.Drawdown);
    }

    /// <summary>Every probe is right before, the second one wrong after.</summary>
    private sealed class Turning(IModelShard shard) : ShardDecorator(shard)
    {
        public override async Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default)
        {
            var reply = await base.TryAsync(request, cancellation);
            return request.Probes is null || reply.Scores is not { } scores ? reply : reply with
            {
                Scores = [.. scores.Select((_, i) => i == 1 && request.Candidate is not null ? new ExampleScore(false, -2)
                    : new(true, -0.5))],
            };
        }
    }
}
