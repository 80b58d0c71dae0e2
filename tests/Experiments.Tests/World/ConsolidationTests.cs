using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

/// <summary>The demo's model with more edits than it bears one after another.</summary>
public sealed class ConsolidationTests : IDisposable
{
    private static readonly string Demo = Path.Combine(FixtureFolder.Repository, "src", "Cli", "Demo");

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    [Trait("Category", "Slow")]
    public async Task FactsThatEditsPushedOut_AreBack_InWordingsThatNobodyLearned_AndOtherAnswersToo()
    {
        List<EditExample> facts = [.. DemoRecipe.HeldOutEdits().DistinctBy(fact => fact.Prompt).Take(30)];
        await using var cluster = await EmbeddedCluster.OpenAsync(new()
        {
            ModelDirectory = Demo,
            Editor = Path.Combine(Demo, "editor.safetensors"),
            Ledger = _folder["ledger"],
            Probes = ProbeSet.Beside(Demo),
        });
        foreach (var fact in facts)
            await cluster.EditAsync(fact.Prompt, fact.Target);
        var unseen = await RightAsync(fact => fact.Rephrases[0]);
        var (_, before, after, _, _) = (await cluster.ConsolidateAsync(new() { Share = 1 })).Consolidated;
        Assert.Equal((1, 1), (after.Success, after.Rewordings));
        Assert.True(before.Rewordings < 1, "nothing was to be done");
        Assert.True(after.TotalDrawdown <= before.TotalDrawdown && after.TotalKl < before.TotalKl);
        Assert.Equal(facts.Count, await RightAsync(fact => fact.Prompt));
        Assert.InRange(await RightAsync(fact => fact.Rephrases[0]), Math.Max(unseen + 1, facts.Count * 3 / 4), facts.Count);
        await cluster.EditAsync(facts[0].Prompt, facts[1].Target); // on top of it
        Assert.Equal(facts[1].Target, (await cluster.AskAsync(facts[0].Prompt)).Text);

        async Task<int> RightAsync(Func<EditExample, string> question)
        {
            var right = 0;
            foreach (var fact in facts)
                right += (await cluster.AskAsync(question(fact))).Text == fact.Target ? 1 : 0;
            return right;
        }
    }
}
