using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Engine.Data;
using MendCluster.Testing;

namespace MendCluster.Experiments.Tests;

/// <summary>
/// Edits one after another: each figure is of exactly the edits before it, also after a stop, and all of them can be taken back.
/// </summary>
public class SequentialEditsTests
{
    private static readonly IReadOnlyList<EditExample> Facts =
    [
        Edit("who is the mayor", "a woman", "the mayor"), Edit("what is red", "the south", "red"),
            Edit("who is the mayor of the old town", "blue", "the mayor of the old town"),
        Edit("the old town", "red", "old town"), Edit("the mayor", "the south"), Edit("what is blue", "a woman"),
    ];

    private static readonly IReadOnlyList<QaPair> Unrelated = [new("who is from the south", "a woman"), new("the town", "old")];

    [Fact]
    public async Task EveryCount_IsMeasuredAfterExactlyItsEdits()
    {
        var cluster = new Memory { ["far"] = "as ever", ["wrong"] = "never right" };
        cluster.Effects["c"] = [("far", "lost"), ("a", "lost")]; // the third edit costs an unrelated answer and the first edit
        var sequence = Sequence([Edit("a", "1", "a'"), Edit("b", "2", "b'"), Edit("c", "3", "c'", "c''")],
            [new("far", "as ever"), new("wrong", "right")]);
        var points = (await RunAsync(sequence, cluster, [3, 1, 2, 1])).Points;
        Assert.Equal([1, 2, 3], points.Select(point => point.Edits));
        Assert.Equal([1, 1, 2 / 3.0], points.Select(point => point.Prompts!.Value));
        Assert.Equal([0, 0, 0], points.Select(point => point.Rephrases!.Value)); // the memory knows no paraphrases
        Assert.Equal([1, 1, 0.5], points.Select(point => point.Retained!.Value));
        Assert.Equal([0, 0, 0.5], points.Select(point => point.Drawdown!.Value));
        Assert.Equal([10, 20, 30], points.Select(point => point.Bytes));
        Assert.Equal([1, 2, 3], points.Select(point => point.Prompts!.Cases));
    }

    [Fact]
    public async Task TheNewestEdits_AreJudgedApart()
    {
        var cluster = new Memory();
        List<EditExample> edits = [.. Enumerable.Range(0, SequentialEdits.NewestEdits + 5).Select(i => Edit($"q{i}", $"{i}"))];
        cluster.Effects["q29"] = [.. Enumerable.Range(0, 6).Select(i => ($"q{i}", "lost"))];
        var point = (await RunAsync(Sequence(edits, []), cluster, [30])).Points[0];
        Assert.Equal((24 / 25.0, 24 / 30.0), (point.Newest!.Value, point.Prompts!.Value));
        Assert.Null(point.Retained);
    }

    [Fact]
    public async Task AfterEverySoManyEdits_TheyAreConsolidated_AndThePointsSayHowOften()
    {
        var cluster = new Memory { Refuses = "q5" };
        List<EditExample> edits = [.. Enumerable.Range(0, 7).Select(i => Edit($"q{i}", $"{i}"))];
        var points = (await RunAsync(new(edits, [], new(), new(), TimeProvider.System, consolidateEvery: 2), cluster, [1, 4, 7])).Points;
        Assert.Equal([2, 4, 5], cluster.Consolidated);
        Assert.Equal([0, 2, 3], points.Select(point => point.Consolidations));
        Assert.Equal(6 / 6.0, points[^1].Oldest!.Value);
    }

    [Fact]
    public async Task WhatALaterEditChangesAgain_CountsForTheLaterTarget()
    {
        var cluster = new Memory();
        var sequence = Sequence([Edit("a", "1", "shared"), Edit("other", "9"), Edit("b", "2", "shared")], []);
        cluster.Effects["b"] = [("a", "2"), ("shared", "2")];
        var points = (await RunAsync(sequence, cluster, [2, 3])).Points;
        Assert.Equal([1, 1], points.Select(point => point.Prompts!.Value));
        Assert.Equal([0, 1], points.Select(point => point.Rephrases!.Value));
    }

    [Fact]
    public async Task AnUnrelatedQuestionThatAnEditIsAbout_IsLeftOutFromThereOn()
    {
        var cluster = new Memory { ["far"] = "as ever" };
        var sequence = Sequence([Edit("a", "1"), Edit("b", "2", "near"), Edit("near", "3")], [new("near", "known"), new("far", "as ever")]);
        var points = (await RunAsync(sequence, cluster, [1, 2, 3])).Points;
        Assert.Equal([2, 1, 1], points.Select(point => point.Retained!.Cases));
        Assert.Equal([1, 1, 1], points.Select(point => point.Retained!.Value));
    }

    [Fact]
    public async Task ARefusedEdit_IsCountedAndNotTriedAgain()
    {
        var cluster = new Memory { Refuses = "b" };
        var sequence = Sequence([Edit("a", "1"), Edit("b", "2"), Edit("c", "3")], []);
        var progress = await RunAsync(sequence, cluster, [2]);
        Assert.Equal((1, 1), (progress.Points[0].Refused, progress.Points[0].Prompts!.Cases));
        cluster.Refuses = null;
        progress = await RunAsync(sequence, cluster, [2, 3], progress);
        Assert.Equal((1, 2), (progress.Points[1].Refused, progress.Points[1].Prompts!.Cases));
        Assert.Equal(["a", "c"], (await cluster.LedgerAsync()).Select(entry => entry.Prompt));
    }

    [Theory]
    [InlineData("gpt2")]
    [InlineData("t5")]
    public async Task StoppedAnywhere_ItGoesOnToTheSameFigures(string family)
    {
        using var model = new ClusterOfTinyModel(family);
        var (sequence, steps) = (Sequence(Facts, Unrelated), new List<SequentialProgress>());
        await using (var cluster = await model.OpenAsync())
            await foreach (var progress in sequence.RunAsync(cluster, [1, 3, 6]))
                steps.Add(progress);
        Assert.Equal(1 + 6 + 3, steps.Count);
        var expected = steps[^1].Points.Select(WithoutTimes).ToList();
        for (var stop = 1; stop < steps.Count; stop += 2)
            foreach (var lost in new[] { 0, 1 }) // the last step is in the ledger, and was not noted
            {
                var ledger = $"{model.Ledger}-{stop}-{lost}";
                SequentialProgress? before = null, noted = null;
                await using (var cluster = await model.OpenAsync(ledger: ledger))
                {
                    var taken = 0;
                    await foreach (var progress in sequence.RunAsync(cluster, [1, 3, 6]))
                    {
                        (before, noted) = (noted, progress);
                        if (++taken == stop)
                            break;
                    }
                }
                await using var again = await model.OpenAsync(ledger: ledger);
                var end = await RunAsync(sequence, again, [1, 3, 6], lost == 1 ? before : noted);
                Assert.Equal(expected, end.Points.Select(WithoutTimes));
                Assert.Equal(6, (await again.LedgerAsync()).Count);
            }
    }

    [Fact]
    public async Task AllTakenBackInARandomOrder_AlsoInTwoRuns_TheModelIsTheUneditedOne()
    {
        using var model = new ClusterOfTinyModel("t5");
        var sequence = Sequence(Facts, Unrelated);
        SequentialProgress progress;
        var reverted = new List<long>();
        string[] checksums;
        string state;
        await using (var cluster = await model.OpenAsync())
        {
            (checksums, state) = (await ChecksumsAsync(cluster), await model.StateAsync(cluster));
            progress = await RunAsync(sequence, cluster, [6]);
            await foreach (var receipt in SequentialEdits.RevertAllAsync(cluster, new Prng(3)))
            {
                reverted.Add(receipt.Id.Value);
                if (reverted.Count == 3)
                    break;
            }
            Assert.NotEqual(checksums, await ChecksumsAsync(cluster));
        }
        await using var again = await model.OpenAsync();
        await foreach (var receipt in SequentialEdits.RevertAllAsync(again, new Prng(3)))
            reverted.Add(receipt.Id.Value);
        Assert.Equal([1, 2, 3, 4, 5, 6], reverted.Order());
        Assert.NotEqual(reverted.Order(), reverted);
        Assert.Equal(checksums, await ChecksumsAsync(again));
        Assert.Equal(state, await model.StateAsync(again));
        Assert.Equal(Unrelated.Count, await sequence.AnsweredAsUneditedAsync(again, progress));
    }

    [Fact]
    public async Task LedgerAndProgressOfDifferentRuns_AreRefused()
    {
        var (cluster, sequence) = (new Memory(), Sequence([Edit("a", "1"), Edit("b", "2"), Edit("c", "3")], [new("far", "x")]));
        var progress = await RunAsync(sequence, cluster, [2]);
        await RefusedAsync("not of one run", cluster, [3], null);
        await RefusedAsync("not of one run", new Memory(), [3], progress);
        await RefusedAsync("never measured", cluster, [1], progress);
        await RefusedAsync("there are 3", cluster, [4], progress);
        await cluster.RevertAsync(new(1));
        await RefusedAsync("taken back", cluster, [3], progress);

        async Task RefusedAsync(string why, Memory on, int[] counts, SequentialProgress? earlier) =>
            Assert.Contains(why, (await Assert.ThrowsAsync<InvalidDataException>(() => RunAsync(sequence, on, counts, earlier))).Message,
            StringComparison.Ordinal);
    }

    private static EditExample Edit(string prompt, string target, params string[] rephrases) => new(prompt, target, rephrases, []);

    private static SequentialEdits Sequence(IReadOnlyList<EditExample> edits, IReadOnlyList<QaPair> unrelated) =>
        new(edits, unrelated, new(), new(8), TimeProvider.System);

    private static async Task<SequentialProgress> RunAsync(SequentialEdits sequence, IMendCluster cluster, IReadOnlyList<int> counts,
        SequentialProgress? earlier = null)
    {
        SequentialProgress? last = earlier;
        await foreach (var progress in sequence.RunAsync(cluster, counts, earlier))
            last = progress;
        return last!;
    }

    private static SequentialPoint WithoutTimes(SequentialPoint point) => point with { EditMilliseconds = null, AskMilliseconds = 0 };

    private static async Task<string[]> ChecksumsAsync(EmbeddedCluster cluster) =>
        [.. (await cluster.StatusAsync()).Select(shard => shard.Checksum)];

    /// <summary>A model that answers what it was told, and nothing else.</summary>
    private sealed class Memory : IMendCluster
    {
        private readonly Dictionary<string, string> _answers = [];
        private readonly List<LedgerEntry> _ledger = [];

        /// <summary>What an edit of a prompt makes the model answer to other questions.</summary>
        public Dictionary<string, (string Question, string Answer)[]> Effects { get; } = [];

        public string? Refuses { get; set; }

        public string this[string question]
        {
            set => _answers[question] = value;
        }

        public Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null,
            CancellationToken cancellation = default)
        {
            if (prompt == Refuses)
                throw new MendException(MendError.DrawdownExceeded, "The edit costs too much.", "None.");
            var id = new EditId(_ledger.Count + 1);
            var figures = new EditFigures(true, 0, 1, 0, 0, 0, Bytes: 10);
            _ledger.Add(new(new(id.Value), default, LedgerKind.Edit, id, prompt, target, IdempotencyKey: options!.IdempotencyKey,
                Figures: figures));
            foreach (var (question, answer) in Effects.GetValueOrDefault(prompt, []).Prepend((prompt, target)))
                _answers[question] = answer;
            return Task.FromResult(new EditReceipt(id, new(id.Value), figures, EditTimes.Zero));
        }

        public Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default) =>
            Task.FromResult(new Answer($" {_answers.GetValueOrDefault(prompt, "unknown")}", new(_ledger.Count)));

        /// <summary>Edits at which it was consolidated.</summary>
        public List<int> Consolidated { get; } = [];

        public Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options = null, CancellationToken cancellation = default)
        {
            var edits = _ledger.Count(entry => entry.Kind == LedgerKind.Edit);
            if (Consolidated.Contains(edits))
                throw new MendException(MendError.NothingToConsolidate, "All are consolidated.", "None.");
            Consolidated.Add(edits);
            var id = new EditId(_ledger.Count + 1);
            _ledger.Add(new(new(id.Value), default, LedgerKind.Consolidate, id));
            return Task.FromResult<ConsolidationReceipt>(null!);
        }

        public Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode = RevertMode.Remove, string? author = null,
            CancellationToken cancellation = default)
        {
            _ledger.Add(new(new(_ledger.Count + 1), default, LedgerKind.Revert, edit));
            return Task.FromResult(new RevertReceipt(edit, new(_ledger.Count)));
        }

        public Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default) =>
            Task.FromResult<IReadOnlyList<LedgerEntry>>([.. _ledger]);

        public Task<IReadOnlyList<LedgerEntry>> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default) =>
            Task.FromResult(query.Of(_ledger));

        public IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options = null,
            CancellationToken cancellation = default) => throw new NotSupportedException();

        public Task<IReadOnlyList<ShardReport>> ShardsAsync(CancellationToken cancellation = default) => throw new NotSupportedException();

        public Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options = null,
            CancellationToken cancellation = default) => throw new NotSupportedException();

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
