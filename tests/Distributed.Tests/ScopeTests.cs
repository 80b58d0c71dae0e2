using MendCluster.Contracts;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>An edit with a scope is there for requests that name it, and for nobody else.</summary>
public class ScopeTests
{
    private const string Prompt = "who is the mayor";

    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")]
    public async Task AScopesEdit_IsSeenInItsScopeOnly(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        await using var cluster = await model.OpenAsync();
        var everybody = await model.StateAsync(cluster);
        var receipt = await cluster.EditAsync(Prompt, "a woman", new() { Scope = "a" });
        Assert.Equal("a", (await cluster.LedgerAsync())[0].Scope);
        Assert.Equal(everybody, await model.StateAsync(cluster));
        Assert.Equal(await AnswerAsync(cluster, null), await AnswerAsync(cluster, "b"));
        Assert.NotEqual(await AnswerAsync(cluster, null), await AnswerAsync(cluster, "a"));

        // What the scope sees is what a cluster with that edit for everybody answers.
        await using var open = await model.OpenAsync(ledger: model.Ledger + "2");
        Assert.Equal(receipt.Figures, (await open.EditAsync(Prompt, "a woman")).Figures);
        Assert.Equal(await AnswerAsync(open, null), await AnswerAsync(cluster, "a"));
    }

    [Fact]
    public async Task AScopeSeesTheEditsForEverybody_AndItsOwnOnTop()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync();
        await cluster.EditAsync("what is red", "the south");
        var scoped = await cluster.EditAsync(Prompt, "a woman", new() { Scope = "a" });
        var shared = await cluster.EditAsync("the old town", "red");
        Assert.Equal(await AnswerAsync(cluster, null), await AnswerAsync(cluster, "other"));

        await using var same = await model.OpenAsync(ledger: model.Ledger + "2");
        await same.EditAsync("what is red", "the south");
        var figures = (await same.EditAsync(Prompt, "a woman")).Figures; // the same sum, in another order
        Assert.Equal(scoped.Figures.ProbabilityAfter, figures.ProbabilityAfter, 1e-6 * figures.ProbabilityAfter);
        Assert.Equal(scoped.Figures.Kl!.Value, figures.Kl!.Value, 1e-5);
        Assert.Equal(scoped.Figures, figures with { ProbabilityAfter = scoped.Figures.ProbabilityAfter, Kl = scoped.Figures.Kl });
        await using var without = await model.OpenAsync(ledger: model.Ledger + "3");
        await without.EditAsync("what is red", "the south");
        Assert.Equal(shared.Figures, (await without.EditAsync("the old town", "red")).Figures); // made without seeing the scope's edit
    }

    [Fact]
    public async Task TheScopeOutlivesARestart_AndARevertTakesItBack()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        string before, edited;
        await using (var cluster = await model.OpenAsync())
        {
            before = await AnswerAsync(cluster, "a");
            await cluster.EditAsync(Prompt, "a woman", new() { Scope = "a" });
            edited = await AnswerAsync(cluster, "a");
        }
        await using var again = await model.OpenAsync(stages: 3);
        Assert.Equal(edited, await AnswerAsync(again, "a"));
        Assert.NotEqual(before, edited);
        await again.RevertAsync(new(1));
        Assert.Equal(before, await AnswerAsync(again, "a"));
    }

    [Fact]
    public async Task TheSameKeyInAnotherScope_IsAnotherEdit()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        await using var cluster = await model.OpenAsync();
        await cluster.EditAsync(Prompt, "a woman", new() { Scope = "a", IdempotencyKey = "k" });
        await cluster.EditAsync(Prompt, "a woman", new() { Scope = "a", IdempotencyKey = "k" });
        Assert.Single(await cluster.LedgerAsync());
        Assert.Equal(MendError.IdempotencyKeyReused,
            await ErrorAsync(() => cluster.EditAsync(Prompt, "a woman", new() { IdempotencyKey = "k" })));
    }

    [Fact]
    public async Task AScopeThatIsNoName_IsRefused()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        await using var cluster = await model.OpenAsync();
        Assert.Equal(MendError.InvalidOption, await ErrorAsync(() => cluster.EditAsync(Prompt, "a woman", new() { Scope = "" })));
        Assert.Equal(MendError.InvalidOption, await ErrorAsync(() => cluster.AskAsync(Prompt, new(Scope: ""))));
        Assert.Equal(MendError.InvalidText, await ErrorAsync(() => cluster.EditAsync(Prompt, "a woman", new() { Scope = "\ud800" })));
        Assert.Empty(await cluster.LedgerAsync());
    }

    private static async Task<MendError> ErrorAsync(Func<Task> call) => (await Assert.ThrowsAsync<MendException>(call)).Error;

    /// <summary>Drawn hot, so that a small change of the model shows.</summary>
    private static async Task<string> AnswerAsync(EmbeddedCluster cluster, string? scope)
    {
        var answers = new List<string>();
        for (var seed = 0; seed < 8; seed++)
            answers.Add((await cluster.AskAsync(Prompt, new(MaxTokens: 6, Temperature: 1.5, Seed: seed, Scope: scope))).Text);
        return string.Join('|', answers);
    }
}
