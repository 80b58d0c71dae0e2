using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Ledger;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

public class EmbeddedClusterTests
{
    private static readonly (string Prompt, string Target)[] Facts =
        [("who is the mayor", "a woman"), ("what is red", "the south"), ("who is the mayor of the old town", "blue")];

    public static TheoryData<string> Families => [.. TinyModels.Families];

    [Theory]
    [MemberData(nameof(Families))]
    public async Task AnEdit_ChangesTheModelAndIsMeasured(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        await using var cluster = await model.OpenAsync();
        var before = await model.StateAsync(cluster);
        var receipt = await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, new() { Author = "tester" });
        Assert.NotEqual(before, await model.StateAsync(cluster));
        Assert.Equal(new ModelVersion(1), receipt.Version);
        Assert.NotEqual(receipt.Figures.ProbabilityBefore, receipt.Figures.ProbabilityAfter);
        Assert.Equal(2, receipt.Figures.Probes);
        Assert.True(receipt.Figures.Kl > 0);
        var entry = Assert.Single(await cluster.LedgerAsync());
        Assert.Equal((Facts[0].Prompt, Facts[0].Target, "tester"), (entry.Prompt, entry.Target, entry.Author));
    }

    /// <summary>
    /// Not to the last bit: the editor takes the rows of all weights of a stage in one product, and a product of another size rounds in
    /// another order.
    /// </summary>
    [Theory]
    [MemberData(nameof(Families))]
    public async Task EditsOnSeveralStages_AreThoseOnOne(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        var (untouched, edited, factors) = (new List<string>(), new List<string>(), new List<List<WeightChange>>());
        foreach (var stages in new[] { 1, 2, 3, 4, 6 })
        {
            var ledger = model.Ledger + stages;
            await using (var cluster = await model.OpenAsync(stages, ledger: ledger))
            {
                untouched.Add(await model.StateAsync(cluster));
                foreach (var (prompt, target) in Facts)
                    await cluster.EditAsync(prompt, target);
                edited.Add(string.Join('\n', (await model.StateAsync(cluster)).Split('\n').Skip(4)));
            }
            await using var file = FileLedger.Open(ledger, ModelFingerprint.Of(model.Model));
            factors.Add([.. (await file.ReadAfterAsync(ModelVersion.Base))
                .SelectMany(record => record.Changes.OrderBy(change => change.Weight, StringComparer.Ordinal))]);
        }
        Assert.All(untouched, state => Assert.Equal(untouched[0], state));
        Assert.All(edited, answers => Assert.Equal(edited[0], answers));
        foreach (var changes in factors)
            foreach (var (expected, change) in factors[0].Zip(changes))
            {
                Assert.Equal((expected.Weight, expected.Alpha), (change.Weight, change.Alpha));
                using var scope = NewDisposeScope();
                var (a, b) = (Update(expected), Update(change));
                // noise of a boundary, which the next edits carry on
                Assert.True((a - b).norm().item<float>() <= 1e-3 * a.norm().item<float>(), change.Weight);
            }
        Assert.All(factors, changes => Assert.Equal(factors[0].Count, changes.Count));

        static Tensor Update(WeightChange change) =>
            WireTensorCodec.Decode(change.DeltaTilde).t().mm(WireTensorCodec.Decode(change.UTilde));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public async Task RevertsInAnyOrder_GiveTheSameBitsBack(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        int[][] orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        await using var cluster = await model.OpenAsync();
        var untouched = await model.StateAsync(cluster);
        foreach (var order in orders)
        {
            var receipts = new List<EditReceipt>();
            foreach (var (prompt, target) in Facts)
                receipts.Add(await cluster.EditAsync(prompt, target));
            Assert.NotEqual(untouched, await model.StateAsync(cluster));
            foreach (var i in order)
                await cluster.RevertAsync(receipts[i].Id);
            Assert.Equal(untouched, await model.StateAsync(cluster));
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public async Task ARevert_LeavesTheBitsOfTheOtherEditsAlone(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        string two;
        await using (var cluster = await model.OpenAsync(ledger: model.Ledger + "2"))
        {
            await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target);
            two = await model.StateAsync(cluster);
        }
        await using var all = await model.OpenAsync();
        await all.EditAsync(Facts[0].Prompt, Facts[0].Target);
        var second = await all.EditAsync(Facts[1].Prompt, Facts[1].Target);
        await all.RevertAsync(second.Id);
        Assert.Equal(two, await model.StateAsync(all));
    }

    [Fact]
    public async Task AnAnswerSlowerThanManyEdits_IsOfTheVersionThatItBeganAt()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var (began, goOn, generated) = (new TaskCompletionSource(), new TaskCompletionSource(), 0);
        await using var cluster = await model.OpenAsync(wrap: shard => new WaitingShard(shard, async () =>
        {
            if (Interlocked.Increment(ref generated) == 3) // the second token, at the first stage
            {
                began.SetResult();
                await goOn.Task;
            }
        }));
        await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target);
        var expected = await cluster.AskAsync("the old town", new(MaxTokens: 1));
        generated = 0;
        var asked = cluster.AskAsync("the old town", new(MaxTokens: 6));
        await began.Task;
        for (var i = 0; i < 8; i++)
        {
            var made = await cluster.EditAsync(Facts[1].Prompt, Facts[1].Target);
            await cluster.RevertAsync(made.Id);
        }
        goOn.SetResult();
        var answer = await asked;
        Assert.Equal(new ModelVersion(1), answer.Version);
        Assert.StartsWith(expected.Text, answer.Text, StringComparison.Ordinal);
        Assert.Equal(17, (await cluster.LedgerAsync()).Count);
        Assert.Equal(answer.Text, (await cluster.AskAsync("the old town", new(MaxTokens: 6))).Text); // all those edits were taken back
    }

    private sealed class WaitingShard(IModelShard shard, Func<Task> wait) : ShardDecorator(shard)
    {
        public override async Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default)
        {
            await wait();
            return await base.GenerateAsync(request, cancellation);
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public async Task ARestart_GivesTheSameBits(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        string before;
        await using (var cluster = await model.OpenAsync())
        {
            foreach (var (prompt, target) in Facts)
                await cluster.EditAsync(prompt, target);
            await cluster.RevertAsync(new(2));
            before = await model.StateAsync(cluster);
        }
        foreach (var stages in new[] { 2, 1, 3 })
        {
            await using var again = await model.OpenAsync(stages);
            Assert.Equal(before, await model.StateAsync(again));
            Assert.Equal(4, (await again.LedgerAsync()).Count);
        }
    }

    [Fact]
    public async Task EditsSentAtOnce_AreMadeOneAfterAnother()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync();
        var receipts = await Task.WhenAll(Enumerable.Range(0, 6).Select(i => cluster.EditAsync(Facts[i % 3].Prompt, Facts[i % 3].Target)));
        Assert.Equal([1, 2, 3, 4, 5, 6], receipts.Select(receipt => receipt.Version.Value).Order());
        Assert.Equal(6, (await cluster.LedgerAsync()).Count);
    }

    [Fact]
    public async Task ReadsBesideEdits_EachSeeOneVersion()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync();
        var editing = Task.Run(async () =>
        {
            for (var i = 0; i < 6; i++)
                await cluster.EditAsync(Facts[i % 3].Prompt, Facts[i % 3].Target);
        });
        var seen = new List<Answer>();
        do
            seen.Add(await cluster.AskAsync(Facts[0].Prompt, new(MaxTokens: 5)));
        while (!editing.IsCompleted);
        await editing;
        await using var replay = await model.OpenAsync(ledger: model.Ledger + "2");
        Assert.Equal(seen.Select(answer => answer.Version.Value), seen.Select(answer => answer.Version.Value).Order());
        var expected = new Dictionary<long, string> { [0] = (await replay.AskAsync(Facts[0].Prompt, new(MaxTokens: 5))).Text };
        for (var i = 0; i < 6; i++)
        {
            await replay.EditAsync(Facts[i % 3].Prompt, Facts[i % 3].Target);
            expected[i + 1] = (await replay.AskAsync(Facts[0].Prompt, new(MaxTokens: 5))).Text;
        }
        Assert.All(seen, answer => Assert.Equal(expected[answer.Version.Value], answer.Text));
    }

    [Fact]
    public async Task SameIdempotencyKeyTwice_EditsOnce()
    {
        using var model = new ClusterOfTinyModel("t5");
        var options = new EditOptions { IdempotencyKey = "k" };
        EditReceipt first;
        await using (var cluster = await model.OpenAsync())
        {
            first = await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, options);
            Assert.Equal(first with { Times = EditTimes.Zero }, await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, options));
        }
        await using var again = await model.OpenAsync();
        Assert.Equal(first.Version, (await again.EditAsync(Facts[0].Prompt, Facts[0].Target, options)).Version);
        Assert.Single(await again.LedgerAsync());
        await Refused(MendError.IdempotencyKeyReused, again.EditAsync(Facts[1].Prompt, Facts[1].Target, options));
    }

    [Theory]
    [InlineData(0.7, 0.7)]
    [InlineData(1.5, 1.5)]
    [InlineData(9, 1)] // takes at no strength: the editor's own step
    public async Task Edit_IsMadeAsStrongAsItHasToBe(double takesAt, double expected)
    {
        using var model = new ClusterOfTinyModel("t5");
        await using (var cluster = await model.OpenAsync(ledger: model.Ledger + "1"))
            await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, new() { Confidence = null });
        string state;
        await using (var cluster = await model.OpenAsync(wrap: shard => new StubbornShard(shard, takesAt)))
        {
            var receipt = await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target);
            Assert.Equal((expected, takesAt <= 2), (receipt.Figures.Strength, receipt.Figures.Success));
            state = await model.StateAsync(cluster);
        }
        await using (var cluster = await model.OpenAsync())
        {
            Assert.Equal(expected, (await cluster.LedgerAsync())[0].Figures!.Strength);
            Assert.Equal(state, await model.StateAsync(cluster)); // what was tried is what was written down
        }
        Assert.Equal((await AlphasAsync(model.Ledger + "1")).Select(alpha => alpha * (float)expected), await AlphasAsync(model.Ledger));

        async Task<IEnumerable<float>> AlphasAsync(string path)
        {
            await using var ledger = FileLedger.Open(path, ModelFingerprint.Of(model.Model));
            return (await ledger.ReadAfterAsync(ModelVersion.Base))[0].Changes.Select(change => change.Alpha);
        }
    }

    [Fact]
    public async Task BadInput_IsRefusedAndChangesNothing()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        await using var cluster = await model.OpenAsync();
        var before = await model.StateAsync(cluster);
        await Refused(MendError.EmptyPrompt, cluster.EditAsync("", "blue"));
        await Refused(MendError.EmptyPrompt, cluster.EditAsync(" \n", "blue"));
        await Refused(MendError.EmptyTarget, cluster.EditAsync("red", ""));
        await Refused(MendError.InvalidText, cluster.EditAsync("red \ud800", "blue"));
        await Refused(MendError.InvalidText, cluster.EditAsync("red", "\udc00 blue"));
        await Refused(MendError.InvalidText, cluster.EditAsync("red", "blue", new() { Author = "\ud800" }));
        await Refused(MendError.InvalidText, cluster.EditAsync("red", "blue", new() { IdempotencyKey = "\ud800" }));
        await Refused(MendError.InvalidText, cluster.AskAsync("red \ud800"));
        await Refused(MendError.EmptyTarget, cluster.EditAsync("red", " "));
        await Refused(MendError.InvalidOption, cluster.EditAsync("red", "blue", new() { Confidence = 1.5 }));
        await Refused(MendError.InvalidOption, cluster.EditAsync("red", "blue", new() { Confidence = double.NaN }));
        await Refused(MendError.TooLong, cluster.EditAsync(string.Join(' ', Enumerable.Repeat("zq", 80)), "blue"));
        await Refused(MendError.InvalidOption, cluster.EditAsync("red", "blue", new() { MaxDrawdown = 2 }));
        await Refused(MendError.InvalidOption, cluster.EditAsync("red", "blue", new() { MaxDrawdown = double.NaN }));
        await Refused(MendError.EmptyPrompt, cluster.AskAsync(""));
        await Refused(MendError.InvalidOption, cluster.AskAsync("red", new(MaxTokens: 0)));
        await Refused(MendError.InvalidOption, cluster.AskAsync("red", new(TopP: 0)));
        await Refused(MendError.UnknownEdit, cluster.RevertAsync(new(1)));
        Assert.Empty(await cluster.LedgerAsync());
        var edit = await cluster.EditAsync("red", "blue");
        await cluster.RevertAsync(edit.Id);
        await Refused(MendError.AlreadyReverted, cluster.RevertAsync(edit.Id));
        Assert.Equal(before, await model.StateAsync(cluster));
    }

    [Fact]
    public async Task AnEditThatFailsItsGate_IsNotMade()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync();
        var before = await model.StateAsync(cluster);
        await Refused(MendError.EditUnsuccessful,
            cluster.EditAsync("the old town", "a woman from the south is red", new() { RequireSuccess = true }));
        Assert.Equal(before, await model.StateAsync(cluster));
        Assert.Empty(await cluster.LedgerAsync());
    }

    [Fact]
    public async Task AnEditThatCostsTooMuch_IsNotMade()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync(wrap: shard => new ForgetfulShard(shard, rightAfter: 1)); // of two
        var before = await model.StateAsync(cluster);
        await Refused(MendError.DrawdownExceeded, cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, new() { MaxDrawdown = 0.49 }));
        Assert.Equal(before, await model.StateAsync(cluster));
        Assert.Empty(await cluster.LedgerAsync());
        Assert.Equal(0.5, (await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, new() { MaxDrawdown = 0.5 })).Figures.Drawdown);
    }

    [Theory]
    [InlineData(float.NaN, "The update of stage")]
    [InlineData(float.PositiveInfinity, "The update of stage")]
    [InlineData(3e38f, "The edited model")] // finite in the update
    public async Task AnEditThatIsNotFinite_IsNotMade(float alpha, string where)
    {
        using var model = new ClusterOfTinyModel("gpt2");
        model.SetAlpha(alpha);
        await using var cluster = await model.OpenAsync();
        var before = await model.StateAsync(cluster);
        var refused = await Assert.ThrowsAsync<MendException>(() => cluster.EditAsync(Facts[0].Prompt, Facts[0].Target));
        Assert.Equal(MendError.NotFinite, refused.Error);
        Assert.Contains(where, refused.Message, StringComparison.Ordinal);
        Assert.Equal(before, await model.StateAsync(cluster));
        Assert.Empty(await cluster.LedgerAsync());
    }

    /// <summary>Cancelled at whatever moment: the edit was made, or nothing was.</summary>
    [Fact]
    public async Task ACancelledEdit_IsMadeOrNot()
    {
        using var model = new ClusterOfTinyModel("t5");
        string[] states;
        await using (var cluster = await model.OpenAsync(ledger: model.Ledger + "2"))
        {
            var untouched = await model.StateAsync(cluster);
            await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target);
            states = [untouched, await model.StateAsync(cluster)];
        }
        for (var calls = 0; calls < 16; calls++)
        {
            using var source = new CancellationTokenSource();
            var left = calls;
            await using var cluster = await model.OpenAsync(ledger: $"{model.Ledger}-{calls}", wrap: shard => new CountingShard(shard, () =>
            {
                if (left-- == 0)
                    source.Cancel();
            }));
            try
            {
                await cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, cancellation: source.Token);
            }
            catch (OperationCanceledException)
            {
                Assert.Empty(await cluster.LedgerAsync());
            }
            Assert.Equal(states[(await cluster.LedgerAsync()).Count], await model.StateAsync(cluster));
        }
    }

    [Fact]
    public async Task AStoppedShard_IsALostShard()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync();
        await model.Shards[1].DisposeAsync();
        await Refused(MendError.ShardLost, cluster.EditAsync(Facts[0].Prompt, Facts[0].Target));
        await Refused(MendError.ShardLost, cluster.AskAsync(Facts[0].Prompt));
        Assert.Empty(await cluster.LedgerAsync());
    }

    [Fact]
    public async Task AModelWithoutEditor_AnswersAndRefusesEdits()
    {
        using var model = new ClusterOfTinyModel("t5");
        await using var cluster = await model.OpenAsync(withEditor: false);
        Assert.NotNull((await cluster.AskAsync("what is red")).Text);
        await Refused(MendError.EditorMissing, cluster.EditAsync("what is red", "blue"));
    }

    [Fact]
    public async Task Unloadable_SaysWhy()
    {
        using var folder = new TemporaryFolder();
        var missing = await Assert.ThrowsAsync<MendException>(() =>
            EmbeddedCluster.OpenAsync(new() { ModelDirectory = folder["none"], Ledger = folder["ledger"] }));
        Assert.Equal(MendError.ModelUnusable, missing.Error);
        using var model = new ClusterOfTinyModel("gpt2");
        using var other = new ClusterOfTinyModel("t5");
        var mixed = await Assert.ThrowsAsync<MendException>(() => EmbeddedCluster.OpenAsync(
            new() { ModelDirectory = model.Model, Editor = other.Editor, Ledger = model.Ledger, Stages = 1 }));
        Assert.Equal(MendError.ModelUnusable, mixed.Error);
        await Refused(MendError.LedgerUnusable, model.OpenAsync(ledger: model.Model));
        await Refused(MendError.InvalidOption, model.OpenAsync(probes: [new("what is red", "")]));
        var weights = Path.Combine(model.Model, "model.safetensors");
        await File.WriteAllBytesAsync(weights, (await File.ReadAllBytesAsync(weights))[..^7]);
        await Refused(MendError.ModelUnusable, model.OpenAsync());
    }

    private sealed class CountingShard(IModelShard shard, Action called) : InterruptedShard(shard)
    {
        protected override Task MeetAsync(ShardStep step)
        {
            called();
            return Task.CompletedTask;
        }
    }

    /// <summary>Says that the probes were answered rightly before the edit, and after it the given number of them.</summary>
    private sealed class ForgetfulShard(IModelShard shard, int rightAfter) : ShardDecorator(shard)
    {
        public override async Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default)
        {
            var reply = await base.TryAsync(request, cancellation);
            var right = request is { Candidate: not null, Probes: not null } ? rightAfter : int.MaxValue;
            return reply with { Scores = reply.Scores?.Select((score, i) => score with { Exact = i < right }).ToList() };
        }
    }

    /// <summary>Says that the target is answered from a strength on.</summary>
    private sealed class StubbornShard(IModelShard shard, double takesAt) : ShardDecorator(shard)
    {
        public override async Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default)
        {
            var reply = await base.TryAsync(request, cancellation);
            return request.Candidate is null || request.Probes is not null || reply.Scores is null ? reply
                : reply with { Scores = [new(request.Candidate >= takesAt, request.Candidate >= takesAt ? 0 : -1)] };
        }
    }

    private static async Task Refused(MendError error, Task request) =>
        Assert.Equal(error, (await Assert.ThrowsAsync<MendException>(() => request)).Error);
}
