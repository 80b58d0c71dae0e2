using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>What a consolidation leaves as it is.</summary>
public class ReplayTests
{
    private static readonly ConsolidateOptions AtOnce = new() { Share = 1, MaxTime = TimeSpan.FromSeconds(1) };

    /// <summary>What steps for an edit have changed, steps of replay take back.</summary>
    [Theory]
    [InlineData("gpt2", 1)]
    [InlineData("gptj", 2)]
    [InlineData("t5", 2)]
    [InlineData("bart", 3)]
    public async Task ItIsTheWayBackToTheReference(string family, int stages)
    {
        const long Session = 1;
        using var model = new ClusterOfTinyModel(family);
        model.SetAlpha(0.01f);
        await using var cluster = await model.OpenAsync(stages);
        var edit = await cluster.EditAsync("who is the mayor", "a woman");
        await using var fit = await FitOfTinyModel.OpenAsync(model);
        await fit.BeginAsync(Session, edit.Version, [edit.Id]);
        var (said, kept) = (Trip(("who is the mayor", "a woman")), Trip(("what is red", "blue"), ("the old town", "the south")));
        await fit.Passes.TryFitAsync(said, [0], areKnown: false, isReference: false, default);
        await fit.Passes.TryFitAsync(kept, [1, 2], areKnown: false, isReference: false, default);
        var reference = await fit.Passes.ScoreAsync(kept, default);
        var steps = 0;

        for (var i = 0; i < 5; i++)
        {
            await fit.Passes.ForwardFitAsync(said, [0], null, default);
            await StepAsync();
        }
        var far = await DistanceAsync();
        for (var i = 0; i < 200; i++) // Adam remembers how large the gradients of the edit were
        {
            await fit.Passes.TryFitAsync(kept, [1, 2], areKnown: true, isReference: true, default);
            await fit.Passes.ForwardFitAsync(kept, [1, 2], 5, default);
            await StepAsync();
        }
        Assert.InRange(await DistanceAsync(), 0, far / 2);

        async Task StepAsync()
        {
            await fit.Passes.BackwardFitAsync(Session, default);
            await fit.Passes.StepFitAsync(new(Session, ++steps, 0.04, 0), default);
        }
        async Task<double> DistanceAsync() => (await fit.Passes.ForwardFitAsync(kept, [1, 2], null, default)).Zip(reference)
            .Sum(score => Math.Abs(score.First.LogProbability - score.Second.LogProbability));
        StageTrip Trip(params (string Prompt, string Target)[] rows) => fit.Trip(Session, edit.Version, rows);
    }

    /// <summary>What an earlier consolidation has is where the next begins, if it resumes; otherwise it begins as nothing.</summary>
    [Theory]
    [InlineData("gpt2", 1)]
    [InlineData("t5", 2)]
    public async Task WithEditsOnTop_ASearchBeginsWithWhatIsConsolidated_IfItResumes(string family, int stages)
    {
        using var model = new ClusterOfTinyModel(family);
        model.SetAlpha(0.1f);
        await using var cluster = await model.OpenAsync(stages);
        await cluster.EditAsync("who is the mayor", "a woman");
        await cluster.EditAsync("what is red", "the south");
        await cluster.ConsolidateAsync(AtOnce);
        var last = await cluster.EditAsync("the old town", "blue");
        await using var fit = await FitOfTinyModel.OpenAsync(model);
        await fit.Passes.BranchAsync(new(1, last.Version, true, [new(1), new(2)], []), default);
        var unedited = await fit.Passes.ScoreAsync(Trip(1), default);
        var consolidated = await fit.Passes.ScoreAsync(Trip(1) with { Branch = 2 }, default);

        AssertAlike(unedited, await BegunAsync(2, resumes: false));
        AssertAlike(consolidated, await BegunAsync(3, resumes: true));

        async Task<IReadOnlyList<ExampleScore>> BegunAsync(long session, bool resumes)
        {
            await fit.BeginAsync(session, last.Version, [new(1), new(2), last.Id], 1000, resumes);
            await fit.Passes.TryFitAsync(Trip(session), [0, 1], areKnown: false, isReference: false, default);
            return await fit.Passes.ForwardFitAsync(Trip(session), [0, 1], null, default);
        }
        StageTrip Trip(long session) => fit.Trip(session, last.Version, ("who is the mayor", "a woman"), ("what is red", "the south"));
        void AssertAlike(IReadOnlyList<ExampleScore> expected, IReadOnlyList<ExampleScore> actual)
        {
            Assert.NotEqual(unedited[0].LogProbability, consolidated[0].LogProbability, 1e-2);
            Assert.All(expected.Zip(actual), score => Assert.Equal(score.First.LogProbability, score.Second.LogProbability, 1e-3));
        }
    }

    [Fact]
    public void WhatItAsksInSeveralWordings_TeachesHowAPromptIsAskedOtherwise()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var (text, _) = ModelText.Open(model.Model);
        var replay = new ReplaySet([.. new[] { "Alba", "Brod", "Cava", "Dorn" }.SelectMany(town => new Probe[]
            { new($"Who leads {town}?", $"the mayor of {town}"), new($"{town} is led by whom?", $"the mayor of {town}") })], [], text);
        Assert.Equal("Erl is led by whom?", replay.Rewordings("Who leads Erl?").First());
        Assert.Equal(3, replay.Rewordings("Who leads Erl?").Distinct().Count()); // two by rules
        Assert.Equal(2, ReplaySet.None.Rewordings("Who leads Erl?").Count());
        Assert.Equal(7, replay.Without(replay.Rewordings("Who leads Alba?")).Count);
    }

    [Fact]
    public void AQuestionThatAnEditAsks_IsNotReplayed()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var (text, _) = ModelText.Open(model.Model);
        var replay = new ReplaySet([new("what is red", "blue"), new("Who is the mayor", "a woman")], [], text);
        Assert.Equal("what is red", Assert.Single(replay.Without(["who is the mayor"])).Prompt);
        Assert.Empty(ReplaySet.None.Without([]));
    }

    [Fact]
    public async Task TheFileBesideTheModel_IsReplayed_UnlessOtherQuestionsAreGiven()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        model.SetAlpha(0.1f);
        var replayed = new List<int>();
        await using (var cluster = await model.OpenAsync(2, Listen))
            await EditAndConsolidateAsync(cluster);
        Assert.Empty(replayed);

        File.WriteAllLines(Path.Combine(model.Model, ReplaySet.FileName), ["the mayor\tred", "who is the mayor\ta woman", "a woman\tblue"]);
        await using (var cluster = await model.OpenAsync(2, Listen, model.Ledger + "2"))
            await EditAndConsolidateAsync(cluster);
        Assert.NotEmpty(replayed);
        Assert.All(replayed, rows => Assert.Equal(2, rows)); // the third is the edit's

        replayed.Clear();
        await using (var cluster = await model.OpenAsync(2, Listen, model.Ledger + "3", replay: []))
            await EditAndConsolidateAsync(cluster);
        Assert.Empty(replayed);

        IModelShard Listen(IModelShard shard) => new Listener(shard, replayed.Add);

        static async Task EditAndConsolidateAsync(EmbeddedCluster cluster)
        {
            await cluster.EditAsync("who is the mayor", "the south");
            await cluster.EditAsync("what is red", "the south");
            await cluster.ConsolidateAsync(AtOnce);
        }
    }

    [Fact]
    public async Task WhatCannotBeReplayed_IsRefusedWhenTheModelIsOpened()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var both = await Assert.ThrowsAsync<MendException>(() => model.OpenAsync(replay: [new("What is red", "the south")]));
        Assert.Equal((MendError.InvalidOption, true), (both.Error, both.Message.Contains("\"What is red\"", StringComparison.Ordinal)));
        var empty = await Assert.ThrowsAsync<MendException>(() => model.OpenAsync(replay: [new("the mayor", "")]));
        Assert.Equal((MendError.InvalidOption, true), (empty.Error, empty.Message.Contains("question to replay \"the mayor\"", StringComparison.Ordinal)));
        File.WriteAllText(Path.Combine(model.Model, ReplaySet.FileName), "the mayor\tred\nno tab\n");
        Assert.Contains("line 2", (await Assert.ThrowsAsync<InvalidDataException>(() => model.OpenAsync())).Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task WhatIsReplayed_IsSeenBeforeTheFirstStep()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        model.SetAlpha(0.1f);
        var passes = new List<string>();
        await using var cluster = await model.OpenAsync(1, shard => new Order(shard, passes), replay: [new("the mayor", "red"), new("a woman", "blue")]);
        await cluster.EditAsync("who is the mayor", "the south");
        passes.Clear();
        await cluster.ConsolidateAsync(AtOnce);
        Assert.Equal(["seen", "edits", "seen", "replayed", "step"], passes.Where(pass => pass != "other").Take(5));
    }

    private sealed class Order(IModelShard shard, List<string> passes) : ShardDecorator(shard)
    {
        public override Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default)
        {
            passes.Add(request.IsReference ? "seen" : "other");
            return base.TryAsync(request, cancellation);
        }

        public override Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default)
        {
            passes.Add(request.Replay is null ? "edits" : "replayed");
            return base.ForwardAsync(request, cancellation);
        }

        public override Task StepFitAsync(StepFitRequest request, CancellationToken cancellation = default)
        {
            passes.Add("step");
            return base.StepFitAsync(request, cancellation);
        }
    }

    private sealed class Listener(IModelShard shard, Action<int> replayed) : ShardDecorator(shard)
    {
        public override Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default)
        {
            if (request.Replay is not null)
                replayed((int)request.Trip.Tokens.InputIds.Shape[0]);
            return base.ForwardAsync(request, cancellation);
        }
    }
}
