using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Testing;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Tests;

/// <summary>Edits that wait at once are made together, and are edits like any other.</summary>
public class GroupTests
{
    private static readonly (string Prompt, string Target)[] Facts =
    [
        ("who is the mayor", "a woman"), ("what is red", "the south"), ("who is the mayor of the old town", "blue"), ("the river", "is red"),
        ("a", "the mayor"),
    ];

    public static TheoryData<string> Families => [.. TinyModels.Families.Append(TinyModels.Classifier)];

    [Theory]
    [MemberData(nameof(Families))]
    public async Task EditsThatWait_AreMadeTogether_EachAsItWouldBeAlone(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        Probe[] probes = [new("what is red", Target(family, "blue")), new("the old town", Target(family, "south"))];
        List<LedgerRecord> alone = [];
        await using (var one = await model.OpenAsync(2, ledger: model.Ledger + "alone", probes: probes))
        {
            await one.EditAsync(First.Prompt, Target(family, First.Target), OwnStep);
            foreach (var (prompt, target) in Facts)
                await one.RevertAsync((await one.EditAsync(prompt, Target(family, target), OwnStep)).Id);
        }
        await using (var ledger = FileLedger.Open(model.Ledger + "alone", ModelFingerprint.Of(model.Model)))
            alone.AddRange((await ledger.ReadAfterAsync(new(1))).Where(record => record.Entry.Kind == LedgerKind.Edit));

        using var gate = new Gate();
        IReadOnlyList<EditReceipt> made;
        await using (var cluster = await model.OpenAsync(2, gate.Before, probes: probes))
        {
            made = await AtOnceAsync(cluster, gate, [.. Facts.Select(fact => (fact.Prompt, Target(family, fact.Target), OwnStep))]);
            Assert.Equal(Enumerable.Range(2, Facts.Length), made.Select(receipt => (int)receipt.Version.Value));
            Assert.All(made, receipt => Assert.Equal(Facts.Length, receipt.Figures.Together));
            Assert.Single(made.Select(receipt => (receipt.Figures.Drawdown, receipt.Figures.Kl)).Distinct());
            var shards = (await cluster.StatusAsync()).Select(status => (status.Version, status.Checksum)).ToList();
            var state = family == TinyModels.Classifier ? "" : await model.StateAsync(cluster);
            await cluster.DisposeAsync();
            await using var again = await model.OpenAsync(2, probes: probes); // from the ledger
            Assert.Equal(shards, (await again.StatusAsync()).Select(status => (status.Version, status.Checksum)));
            Assert.Equal(state, family == TinyModels.Classifier ? "" : await model.StateAsync(again));
        }
        await using var file = FileLedger.Open(model.Ledger, ModelFingerprint.Of(model.Model));
        var records = (await file.ReadAfterAsync(new(1))).ToList();
        Assert.Equal(Facts.Select(fact => fact.Prompt), records.Select(record => record.Entry.Prompt));
        Assert.Equal(made.Select(receipt => receipt.Figures), records.Select(record => record.Entry.Figures));
        foreach (var (expected, record) in alone.Zip(records))
            foreach (var (a, b) in ByWeight(expected).Zip(ByWeight(record)))
            {
                using var scope = NewDisposeScope();
                Assert.Equal((a.Weight, a.Alpha), (b.Weight, b.Alpha));
                Assert.True((Update(a) - Update(b)).norm().item<float>() <= 1e-3 * Update(a).norm().item<float>(), a.Weight);
            }
    }

    /// <summary>As an edit alone would be searched for, and with what the version before the group has.</summary>
    [Fact]
    public async Task EachEdit_HasItsOwnStrength()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        model.SetAlpha(0.5f);
        List<double?> alone = [];
        await using (var one = await model.OpenAsync(1, ledger: model.Ledger + "alone"))
        {
            await one.EditAsync(First.Prompt, First.Target, OwnStep);
            foreach (var (prompt, target) in Facts)
                alone.Add((await one.PreviewAsync(prompt, target, new() { Confidence = 0.3 })).Figures.Strength);
        }
        using var gate = new Gate();
        await using var cluster = await model.OpenAsync(1, gate.Before);
        var made = await AtOnceAsync(cluster, gate,
            [.. Facts.Select((fact, i) => (fact.Prompt, fact.Target, new EditOptions { Confidence = i == 1 ? null : 0.3 }))]);
        Assert.Contains(made, receipt => receipt.Figures.Together > 1);
        Assert.Null(made[1].Figures.Strength);
        foreach (var (i, receipt) in made.Index().Where(edit => edit.Index != 1 && edit.Item.Figures.Together > 1))
            Assert.Equal(alone[i], receipt.Figures.Strength);
    }

    /// <summary>Each has to be computed on the one before it.</summary>
    [Fact]
    public async Task EditsThatGoRoundThoseBefore_AreMadeOneByOne()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        EditorKindTests.Write(model, "malmen", editLr: 0.01, sequential: true);
        string expected;
        await using (var one = await model.OpenAsync(2, ledger: model.Ledger + "alone"))
        {
            foreach (var (prompt, target) in Facts.Prepend(First))
                await one.EditAsync(prompt, target, OwnStep);
            expected = await model.StateAsync(one);
        }
        using var gate = new Gate();
        await using var cluster = await model.OpenAsync(2, gate.Before);
        var made = await AtOnceAsync(cluster, gate, [.. Facts.Select(fact => (fact.Prompt, fact.Target, OwnStep))]);
        Assert.All(made, receipt => Assert.Null(receipt.Figures.Together));
        Assert.Equal(expected, await model.StateAsync(cluster));
    }

    [Fact]
    public async Task ContradictoryEdits_AreNotInOneGroup_AndTheLaterOneHolds()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        using var gate = new Gate();
        await using var cluster = await model.OpenAsync(1, gate.Before);
        var made = await AtOnceAsync(cluster, gate, [("what is red", "blue", OwnStep), ("the old town", "south", OwnStep),
            ("What is red", "the south", OwnStep), ("who is the mayor", "a woman", OwnStep)]);
        Assert.Equal([2, 3, 4, 5], made.Select(receipt => receipt.Version.Value));
        Assert.All(made, receipt => Assert.Equal(2, receipt.Figures.Together));
        Assert.NotEqual(made[0].Figures.Kl, made[2].Figures.Kl);
    }

    [Fact]
    public async Task OtherScopes_HaveOtherGroups()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        using var gate = new Gate();
        await using var cluster = await model.OpenAsync(1, gate.Before);
        var made = await AtOnceAsync(cluster, gate, [("what is red", "blue", OwnStep), ("the old town", "south", OwnStep with { Scope = "a" }),
            ("who is the mayor", "a woman", OwnStep with { Scope = "a" })]);
        Assert.Equal([null, 2, 2], made.Select(receipt => receipt.Figures.Together));
    }

    [Fact]
    public async Task AKeyThatWaitsTwice_IsMadeOnce()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        using var gate = new Gate();
        await using var cluster = await model.OpenAsync(1, gate.Before);
        var keyed = OwnStep with { IdempotencyKey = "k" };
        var made = await AtOnceAsync(cluster, gate, [("what is red", "blue", keyed), ("the old town", "south", OwnStep),
            ("what is red", "blue", keyed)]);
        Assert.Equal(made[0].Id, made[2].Id);
        Assert.Equal(3, (await cluster.LedgerAsync()).Count);
    }

    [Fact]
    public async Task OneThatIsCancelledWhileItWaits_IsNotMade()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        using var gate = new Gate();
        using var source = new CancellationTokenSource();
        await using var cluster = await model.OpenAsync(1, gate.Before);
        var first = cluster.EditAsync(First.Prompt, First.Target, OwnStep);
        await gate.Reached;
        var cancelled = cluster.EditAsync(Facts[0].Prompt, Facts[0].Target, OwnStep, source.Token);
        var others = Facts[1..3].Select(fact => cluster.EditAsync(fact.Prompt, fact.Target, OwnStep)).ToList();
        await source.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => cancelled);
        gate.Open();
        Assert.All(await Task.WhenAll(others), receipt => Assert.Equal(2, receipt.Figures.Together));
        await first;
        Assert.Equal(3, (await cluster.LedgerAsync()).Count);
    }

    [Fact]
    public async Task MaxGroupOne_MakesEachAlone()
    {
        using var model = new ClusterOfTinyModel("gpt2");
        using var gate = new Gate();
        await using var cluster = await model.OpenAsync(1, gate.Before, maxGroup: 1);
        Assert.All(await AtOnceAsync(cluster, gate, [.. Facts.Select(fact => (fact.Prompt, fact.Target, OwnStep))]),
            receipt => Assert.Null(receipt.Figures.Together));
        Assert.Equal(MendError.InvalidOption, (await Assert.ThrowsAsync<MendException>(() =>
            model.OpenAsync(1, ledger: model.Ledger + "2", maxGroup: 0))).Error);
    }

    /// <summary>Those that cannot be made with the others, by what a scripted stage says of them.</summary>
    /// <param name="edits">
    /// Letters, each an edit. !: others keep it from its target. X: it does not reach it by itself either. $: the probes lose too much where
    /// it is with others; $$: by itself too.
    /// </param>
    /// <param name="expected">The version that made each, or why it was refused. The edit before them has version 1.</param>
    [Theory]
    [InlineData("a b c d", "2 3 4 5")]
    [InlineData("a b! c d", "2 5 3 4")]
    [InlineData("a! b! c d", "4 5 2 3")]
    [InlineData("a! b! c! d!", "2 3 4 5")] // halved until each is alone
    [InlineData("a bX c d", "2 EditUnsuccessful 3 4")]
    [InlineData("aX bX", "EditUnsuccessful EditUnsuccessful")]
    [InlineData("a b$ c d", "2 3 4 5")]
    [InlineData("a b$$ c d", "2 DrawdownExceeded 3 4")]
    public async Task WhatDoesNotFit_IsMadeLaterOrRefused(string edits, string expected)
    {
        using var model = new ClusterOfTinyModel("gpt2");
        var text = ModelText.Open(model.Model).Text;
        var script = edits.Split(' ').Select(edit => (Prompt: "the " + edit[0], Marks: edit[1..])).ToList();
        using var gate = new Gate();
        await using var shard = gate.Before(new ScriptedShard(text, script));
        await using var ledger = FileLedger.Open(model.Ledger, ModelFingerprint.Of(model.Model));
        using var coordinator = new EditCoordinator([[shard]], ledger, text, new([new("q", "a"), new("q", "b"), new("q", "c"), new("q", "d")], text),
            TimeProvider.System);
        var options = new EditOptions { RequireSuccess = true, MaxDrawdown = 0.5, Confidence = 0.5 };
        var first = coordinator.EditAsync(First.Prompt, First.Target);
        await gate.Reached;
        var asked = script.Select(edit => coordinator.EditAsync(edit.Prompt, "red", options)).ToList();
        gate.Open();
        await first;
        var ends = new List<string>();
        foreach (var edit in asked)
            try
            {
                ends.Add($"{(await edit).Version.Value}");
            }
            catch (MendException e)
            {
                ends.Add($"{e.Error}");
            }
        Assert.Equal(expected, string.Join(' ', ends));
        var entries = await coordinator.LedgerAsync();
        Assert.Equal(Enumerable.Range(1, entries.Count), entries.Select(entry => (int)entry.Version.Value));
        Assert.All(entries, entry => Assert.True(entry.Figures is { Success: true, Drawdown: <= 0.5 }));
    }

    private static (string Prompt, string Target) First { get; } = ("is", "red");

    private const string Label = "SUPPORTS"; // of the tiny classifier

    private static EditOptions OwnStep { get; } = new() { Confidence = null };

    private static string Target(string family, string target) => family == TinyModels.Classifier ? Label : target;

    private static IEnumerable<WeightChange> ByWeight(LedgerRecord record) =>
        record.Changes.OrderBy(change => change.Weight, StringComparer.Ordinal);

    private static Tensor Update(WeightChange change) =>
        WireTensorCodec.Decode(change.DeltaTilde).t().mm(WireTensorCodec.Decode(change.UTilde));

    /// <summary>The receipts of edits that all waited while another was made.</summary>
    private static async Task<IReadOnlyList<EditReceipt>> AtOnceAsync(EmbeddedCluster cluster, Gate gate,
        IReadOnlyList<(string Prompt, string Target, EditOptions Options)> edits)
    {
        var first = cluster.EditAsync(First.Prompt, edits[0].Target is Label ? Label : First.Target, OwnStep);
        await gate.Reached;
        var asked = edits.Select(edit => cluster.EditAsync(edit.Prompt, edit.Target, edit.Options)).ToList();
        gate.Open();
        await first;
        return await Task.WhenAll(asked);
    }

    /// <summary>Holds up the first edit until it is opened.</summary>
    private sealed class Gate : IDisposable
    {
        private readonly TaskCompletionSource _reached = new(TaskCreationOptions.RunContinuationsAsynchronously);
        private readonly TaskCompletionSource _open = new(TaskCreationOptions.RunContinuationsAsynchronously);

        public Task Reached => _reached.Task;

        public void Open() => _open.TrySetResult();

        public IModelShard Before(IModelShard shard) => new Held(shard, this);

        public void Dispose() => Open();

        private sealed class Held(IModelShard shard, Gate gate) : ShardDecorator(shard)
        {
            public override async Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default)
            {
                gate._reached.TrySetResult();
                await gate._open.Task;
                return await Shard.ForwardAsync(request, cancellation);
            }
        }
    }

    /// <summary>A whole model that says of each edit what the script does.</summary>
    private sealed class ScriptedShard(ModelText text, IReadOnlyList<(string Prompt, string Marks)> script) : IModelShard
    {
        private readonly Dictionary<string, string> _marks = script.ToDictionary(edit => Key(text.Batch([(edit.Prompt, "red")]), 0),
            edit => edit.Marks);
        private List<string> _edits = [];
        private List<string>? _branch;

        public Task<ShardStatus> StatusAsync(CancellationToken cancellation = default) =>
            Task.FromResult(new ShardStatus(ShardState.Ready, new(1000), 0, 1, ["w"], 0, null));

        public Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default)
        {
            _edits = [.. Enumerable.Range(0, (int)request.Trip.Tokens.InputIds.Shape[0]).Select(row =>
                _marks.GetValueOrDefault(Key(request.Trip.Tokens, row), ""))];
            _branch = null;
            return Task.FromResult(new ForwardReply(Result, [.. _edits.Select(_ => new ExampleScore(false, -5))]));
        }

        public Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default)
        {
            WireTensor factor = new(DType.Float32, [1, 1], new byte[4]);
            return Task.FromResult(new BackwardReply(Boundary.None,
                [.. _edits.Select(_ => (IReadOnlyList<WeightChange>)[new("w", factor, factor, 1)])], default));
        }

        public Task BeginFitAsync(BeginFitRequest request, CancellationToken cancellation = default) => throw new NotSupportedException();

        public Task StepFitAsync(StepFitRequest request, CancellationToken cancellation = default) => throw new NotSupportedException();

        public Task<FitReply> TakeFitAsync(long session, CancellationToken cancellation = default) => throw new NotSupportedException();

        public Task BranchAsync(BranchRequest request, CancellationToken cancellation = default)
        {
            _branch = [.. request.Added.Select(record => script.First(edit => edit.Prompt == record.Entry.Prompt).Marks)];
            return Task.CompletedTask;
        }

        public Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default)
        {
            if (request.Probes is { } probes)
            {
                var together = _branch ?? _edits;
                var lost = probes.Before is null ? 0 : together.Contains("$$") ? 3 : !together.Contains("$") ? 0 : together.Count > 1 ? 3 : 1;
                return Task.FromResult(new TrialReply(Result, [.. Enumerable.Range(0, 4).Select(probe => new ExampleScore(probe >= lost, -1))],
                    probes.Before is null ? null : 0.1));
            }
            var hindered = request.Trip.Branch is not null && _branch!.Count > 1;
            return Task.FromResult(new TrialReply(Result, [.. _edits.Where((_, i) => request.Each is null || request.Each[i] is not null)
                .Select(marks => new ExampleScore(marks != "X" && !(marks == "!" && hindered), marks == "X" ? -5 : -0.1))]));
        }

        public Task<ShardStatus> LoadAsync(CancellationToken cancellation = default) => StatusAsync(cancellation);

        public Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default) => Task.CompletedTask;

        public Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default) =>
            throw new NotSupportedException();

        public Task EndAsync(long session, CancellationToken cancellation = default) => Task.CompletedTask;

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;

        private static StageResult Result { get; } = new(Boundary.None, 1);

        private static string Key(TokenBatch tokens, int row)
        {
            using var scope = NewDisposeScope();
            var (ids, mask) = (WireTensorCodec.Decode(tokens.InputIds)[row], WireTensorCodec.Decode(tokens.AttentionMask)[row]);
            return string.Join(' ', ids.data<long>().ToArray().Where((_, i) => mask[i].item<long>() == 1));
        }
    }
}
