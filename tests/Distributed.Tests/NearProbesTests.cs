using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>Beyond the first hundred probes an edit is tried on those that are nearest to it.</summary>
public sealed class NearProbesTests
{
    private const string Prompt = "who is the mayor", Target = "a woman", Near = "who is the mayor of the old town", Far = "what is red";

    private static readonly IReadOnlyList<Probe> Fixed = [.. Enumerable.Repeat(new Probe("the river", "south"), ProbeSet.MaxFixed)];

    [Fact]
    public void TheNearest_ShareTheRarestLetters_AndTheEditsOwnQuestionsAreNone()
    {
        using var model = new ClusterOfTinyModel("t5");
        var text = ModelText.Open(model.Model).Text;
        string[] others = ["the mayor of the south is a woman", Far, "is the town old", Near, Prompt.ToUpperInvariant(), "the old town"];
        var probes = new ProbeSet([.. Fixed, .. others.Select(question => new Probe(question, "blue"))], text);
        Assert.Equal((Fixed.Count + others.Length, Fixed.Count), (probes.Count, probes.Fixed.Count));
        Assert.Equal(others[..4].Append(others[5]), Nearest([Prompt], []));
        Assert.DoesNotContain(Near, Nearest([Prompt], [Near]));

        var many = new ProbeSet([.. Fixed, .. Enumerable.Range(0, 50).Select(i => new Probe($"{(i < 25 ? "who" : "where")} is number {i}", "blue"))], text);
        Assert.Equal(ProbeSet.MaxNearest, many.Nearest(["where is it"], [])!.Probes.Count);
        Assert.All(many.Nearest(["where is it"], [])!.Probes, probe => Assert.StartsWith("where", probe.Question, StringComparison.Ordinal));
        var together = many.Nearest(["where is it", "who is it"], [])!.Probes;
        Assert.Equal([8, 8], together.CountBy(probe => probe.Question.Split(' ')[0]).Select(found => found.Value));
        Assert.Equal(20, many.Nearest([.. Enumerable.Range(0, 20).Select(i => $"where is {i}")], [])!.Probes.Count); // one each
        Assert.Null(new ProbeSet(Fixed, text).Nearest([Prompt], []));

        IEnumerable<string> Nearest(string[] prompts, string[] edited) => probes.Nearest(prompts, edited)!.Probes.Select(probe => probe.Question);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task OnThemAnEditIsJudged_AsOnTheOthers(int stages)
    {
        using var model = new ClusterOfTinyModel(TinyModels.Classifier);
        model.SetAlpha(0.1f); // felt everywhere
        List<Probe> known = [];
        string answer, other, never;
        await using (var unedited = await model.OpenAsync(stages, ledger: model.Ledger + "-before", probes: []))
        {
            answer = (await unedited.AskAsync(Prompt)).Text;
            other = answer == "SUPPORTS" ? "REFUTES" : "SUPPORTS";
            foreach (var question in new[] { Near, "the mayor of the south", "is the town old" })
                known.Add(new(question, (await unedited.AskAsync(question)).Text));
            never = (await unedited.AskAsync(Fixed[0].Question)).Text == "SUPPORTS" ? "REFUTES" : "SUPPORTS";
        }

        List<Probe> probes = [.. Fixed.Select(probe => probe with { Answer = never }), .. known];
        await using var cluster = await model.OpenAsync(stages, probes: probes);
        var options = new EditOptions { Confidence = null };
        var preview = await cluster.PreviewAsync(Prompt, other, options with { MaxTotalDrawdown = 1 });
        Assert.Equal(probes.Count, preview.Figures.Probes);
        var lost = preview.Probes.Where(probe => probe.RightBefore).Select(probe => probe.Question).ToList();
        Assert.NotEmpty(lost);
        Assert.Subset(known.Select(probe => probe.Question).ToHashSet(), lost.ToHashSet());
        Assert.Equal((double)lost.Count / probes.Count, preview.Figures.TotalDrawdown);

        var refused = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync(Prompt, other, options with { MaxTotalDrawdown = 0.001 }));
        Assert.Equal((MendError.BudgetExceeded, 0), (refused.Error, (await cluster.LedgerAsync()).Count));
        var made = await cluster.EditAsync(Prompt, other, options);
        Assert.Equal(preview.Figures.Drawdown, made.Figures.Drawdown);
        foreach (var probe in known)
            Assert.Equal(lost.Contains(probe.Question), (await cluster.AskAsync(probe.Question)).Text != probe.Answer);

        await cluster.RevertAsync(made.Id);
        await cluster.EditAsync(Near, other, options);
        Assert.Equal(probes.Count - 1, (await cluster.EditAsync(Prompt, other, options)).Figures.Probes); // the first one's prompt was to change
    }
}
