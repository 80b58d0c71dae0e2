using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>
/// A routed edit is seen by the questions that match it, and is there for no other. The routers here compare states as they are, so a
/// question matches in the same words alone.
/// </summary>
public sealed class RoutingTests
{
    private const string Prompt = "who is the mayor";

    private static readonly (string Prompt, string Target)[] Facts = [(Prompt, "a woman"), ("what is red", "the south"), ("the old town", "red")];

    public static TheoryData<string> Families => [.. TinyModel.Families];

    [Theory]
    [MemberData(nameof(Families))]
    public async Task EachOfManyEdits_AnswersAsItDoesAlone_AndNothingElseChanges(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        await using var cluster = await model.OpenAsync(router: model.WriteRouter());
        var unedited = await AnswersAsync(cluster, "is the town old", "the north");
        var before = await AnswersAsync(cluster, [.. Facts.Select(fact => fact.Prompt)]);
        var receipts = new List<EditReceipt>();
        foreach (var (prompt, target) in Facts)
            receipts.Add(await cluster.EditAsync(prompt, target));
        Assert.Equal(unedited, await AnswersAsync(cluster, "is the town old", "the north"));

        foreach (var (i, (prompt, target)) in Facts.Index())
        {
            await using var alone = await model.OpenAsync(ledger: $"{model.Ledger}-{i}", probes: []);
            var receipt = await alone.EditAsync(prompt, target);
            Assert.Equal((receipt.Figures.ProbabilityAfter, receipt.Figures.Strength),
                (receipts[i].Figures.ProbabilityAfter, receipts[i].Figures.Strength));
            Assert.Equal(await AnswersAsync(alone, prompt), await AnswersAsync(cluster, prompt));
        }
        if (family != "bart") // whose answers are one token over and over, edited or not
            Assert.NotEqual(before, await AnswersAsync(cluster, [.. Facts.Select(fact => fact.Prompt)]));
    }

    [Fact]
    public async Task OneStageOrFour_OneReplicaOrTwo_GiveTheSameAnswers()
    {
        using var model = new ClusterOfTinyModel("t5");
        var router = model.WriteRouter();
        List<string> expected = [];
        foreach (var (stages, replicas) in new[] { (1, 1), (2, 2), (4, 1) })
        {
            await using var cluster = await model.OpenAsync(stages, replicas: replicas, ledger: $"{model.Ledger}-{stages}", router: router);
            foreach (var (prompt, target) in Facts)
                await cluster.EditAsync(prompt, target);
            var answers = await AnswersAsync(cluster, [.. Facts.Select(fact => fact.Prompt), "the north", .. Facts.Select(fact => fact.Prompt)]);
            if (expected.Count == 0)
                expected = answers;
            Assert.Equal(expected, answers);
        }
    }

    [Fact]
    public async Task AStream_TellsTheEditedAnswerAlone()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        await using var cluster = await model.OpenAsync(router: model.WriteRouter());
        await cluster.EditAsync(Prompt, "a woman");
        var parts = await cluster.AskStreamAsync(Prompt).ToListAsync();
        Assert.DoesNotContain(parts, part => part.Restarts);
        Assert.Equal((await cluster.AskAsync(Prompt)).Text, string.Concat(parts.Select(part => part.Text)));
    }

    [Fact]
    public async Task OfTwoEditsOfOnePrompt_TheNewerIsSeen_AndTheOlderWhenThatIsTakenBack()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync(router: model.WriteRouter());
        var unedited = await AnswersAsync(cluster, Prompt);
        var first = await cluster.EditAsync(Prompt, "a woman");
        var older = await AnswersAsync(cluster, Prompt);
        var second = await cluster.EditAsync(Prompt, "the south");
        var newer = await AnswersAsync(cluster, Prompt);
        Assert.NotEqual(older, newer);
        Assert.Equal(first.Figures.ProbabilityBefore, (await cluster.PreviewAsync(Prompt, "a woman")).Figures.ProbabilityBefore); // on the unedited model

        Assert.Equal(0, (await cluster.RevertAsync(second.Id, RevertMode.Recompute)).Recomputed);
        Assert.Equal(older, await AnswersAsync(cluster, Prompt));
        await cluster.RevertAsync(first.Id);
        Assert.Equal(unedited, await AnswersAsync(cluster, Prompt));
    }

    [Fact]
    public async Task AScopesEdit_IsSeenInItsScope_AndBeforeOneForEverybody()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync(router: model.WriteRouter());
        var unedited = await AnswersAsync(cluster, Prompt);
        await cluster.EditAsync(Prompt, "a woman", new() { Scope = "a" });
        var scoped = (await cluster.AskAsync(Prompt, new(Scope: "a"))).Text;
        Assert.Equal(unedited, await AnswersAsync(cluster, Prompt));
        Assert.NotEqual(unedited[0], scoped);
        await cluster.EditAsync(Prompt, "the south");
        Assert.Equal(scoped, (await cluster.AskAsync(Prompt, new(Scope: "a"))).Text);
        Assert.Equal(await AnswersAsync(cluster, Prompt), [(await cluster.AskAsync(Prompt, new(Scope: "b"))).Text]);
        Assert.NotEqual(unedited, await AnswersAsync(cluster, Prompt));
    }

    [Fact]
    public async Task TheLedgerHasTheKeys_AndIsReadWithItsRouterAlone()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var router = model.WriteRouter();
        List<string> answers;
        string checksum;
        await using (var cluster = await model.OpenAsync(router: router))
        {
            await cluster.EditAsync(Prompt, "a woman");
            answers = await AnswersAsync(cluster, Prompt, "the north");
            checksum = (await cluster.StatusAsync())[1].Checksum;
            Assert.True((await cluster.LedgerAsync())[0].Route!.Keys >= 1);
        }
        await using (var again = await model.OpenAsync(router: router))
        {
            Assert.Equal(answers, await AnswersAsync(again, Prompt, "the north"));
            Assert.Equal(checksum, (await again.StatusAsync())[1].Checksum);
        }
        await RefusedAsync(MendError.LedgerUnusable, () => model.OpenAsync(), "router");
        await RefusedAsync(MendError.LedgerUnusable, () => model.OpenAsync(router: model.WriteRouter(seed: 2)), "router");

        await using (var plain = await model.OpenAsync(ledger: model.Ledger + "2"))
        {
            await plain.EditAsync(Prompt, "a woman");
            Assert.NotEqual(checksum, (await plain.StatusAsync())[1].Checksum);
        }
        await RefusedAsync(MendError.LedgerUnusable, () => model.OpenAsync(ledger: model.Ledger + "2", router: model.WriteRouter()), "router");
    }

    [Fact]
    public async Task WhatItWouldNotDo_IsRefused()
    {
        using var model = new ClusterOfTinyModel("t5");
        var router = model.WriteRouter();
        await RefusedAsync(MendError.InvalidOption, () => model.OpenAsync(router: router, consolidate: new(Every: 5)), "router");
        await using var cluster = await model.OpenAsync(router: router);
        await cluster.EditAsync(Prompt, "a woman");
        await RefusedAsync(MendError.ConsolidationRefused, () => cluster.ConsolidateAsync(), "routes");

        using var classifier = new ClusterOfTinyModel("bert");
        await RefusedAsync(MendError.InvalidOption, () => classifier.OpenAsync(router: classifier.WriteRouter(), probes: []), "classifier");
        await RefusedAsync(MendError.ModelUnusable, () => model.OpenAsync(ledger: model.Ledger + "2", router: model.Editor), "router");
    }

    /// <summary>A probe that asks what the edit asks would see it; the others are not asked.</summary>
    [Fact]
    public async Task DrawdownAndBudget_AreOfTheProbesThatMatch()
    {
        using var model = new ClusterOfTinyModel("t5");
        EditorKindTests.Write(model, "malmen", rounds: 9, editLr: 0.01);
        Probe[] probes = [new(Prompt, "red"), new("what is red", "a woman"), new("the old town", "south"), new("the north", "blue")];
        await using var routed = await model.OpenAsync(wrap: shard => new RightUnlessEdited(shard), router: model.WriteRouter(), probes: probes);
        EditOptions Within(double drawdown) => new() { MaxTotalDrawdown = drawdown, Confidence = 0 };
        var other = (await routed.EditAsync("is the town old", "a", Within(0.5))).Figures;
        Assert.Equal((0.0, 0.0, 0.0, 0.0, 1.0), (other.Drawdown, other.Kl, other.TotalDrawdown, other.TotalKl, other.BudgetLeft));

        await RefusedAsync(MendError.DrawdownExceeded, () => routed.EditAsync(Prompt, "a", new() { MaxDrawdown = 0.2 }), "25");
        var figures = (await routed.EditAsync(Prompt, "a", Within(0.5))).Figures;
        Assert.Equal((4, 0.25, 0.25, 0.5), (figures.Probes, figures.Drawdown, figures.TotalDrawdown, figures.BudgetLeft));
        Assert.True(figures.Kl > 0);
        Assert.Equal(figures.Kl!.Value, figures.TotalKl!.Value, 1e-6);

        // the next spends what the first has left
        var next = (await routed.EditAsync("what is red", "a", Within(0.6))).Figures;
        Assert.Equal((0.25, 0.5), (next.Drawdown, next.TotalDrawdown));
        Assert.True(next.TotalKl > figures.TotalKl);
        await RefusedAsync(MendError.BudgetExceeded, () => routed.EditAsync("the old town", "a", Within(0.6)), "75");

        var preview = await routed.PreviewAsync("the old town", "a", new() { Paraphrases = ["the old town", "the north"], Confidence = 0 });
        Assert.Equal("the old town", Assert.Single(preview.Probes).Question);
        Assert.Equal([preview.AnswerAfter, (await routed.AskAsync("the north")).Text], preview.Paraphrases.Select(paraphrase => paraphrase.AnswerAfter));
        Assert.NotEqual(preview.AnswerBefore, preview.AnswerAfter);
    }

    private static async Task RefusedAsync(MendError error, Func<Task> act, string says)
    {
        var refused = await Assert.ThrowsAsync<MendException>(act);
        Assert.Equal(error, refused.Error);
        Assert.Contains(says, refused.Message, StringComparison.Ordinal);
    }

    private static async Task<List<string>> AnswersAsync(EmbeddedCluster cluster, params IReadOnlyList<string> questions) =>
        [.. (await Task.WhenAll(questions.Select(question => cluster.AskAsync(question)))).Select(answer => answer.Text)];

    /// <summary>Every probe is right on the unedited model, and wrong with an edit.</summary>
    private sealed class RightUnlessEdited(IModelShard shard) : ShardDecorator(shard)
    {
        public override async Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default)
        {
            var reply = await base.TryAsync(request, cancellation);
            return request.Probes is null || reply.Scores is not { } scores ? reply : reply with
            {
                Scores = [.. scores.Select(_ => new ExampleScore(request is { Candidate: null, Trip.Route: null }, -1))],
            };
        }
    }
}
