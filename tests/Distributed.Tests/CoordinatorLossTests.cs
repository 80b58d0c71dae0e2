using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests;

/// <summary>
/// The coordinator dies at a step of an edit, with what it left on the shards. Its successor is asked for the same edit, with the same key:
/// it is made once, and the model is that of a run in which nothing happened.
/// </summary>
public class CoordinatorLossTests
{
    private const int Stages = 2;

    /// <summary>
    /// Where it dies; stage -1 is the ledger. Before the step reaches the shard, or after it was done and before the answer.
    /// </summary>
    public static TheoryData<ShardStep, int, bool> Deaths
    {
        get
        {
            var data = new TheoryData<ShardStep, int, bool>();
            foreach (var step in Enum.GetValues<ShardStep>().Where(step => step != ShardStep.Generate))
                for (var stage = 0; stage < Stages; stage++)
                    foreach (var after in new[] { false, true })
                        data.Add(step, stage, after);
            data.Add(default, -1, false);
            data.Add(default, -1, true);
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(Deaths))]
    public async Task ItsSuccessorMakesTheEditOnce(ShardStep step, int stage, bool after)
    {
        using var model = new ClusterOfTinyModel("t5");
        var (text, fingerprint) = ModelText.Open(model.Model);
        var death = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        List<IModelShard> shards =
            [.. Enumerable.Range(0, Stages).Select(i => new ModelShard(new(model.Model, model.Editor, i, Stages), TimeProvider.System))];
        foreach (var shard in shards)
            await shard.LoadAsync();
        Probe[] probes = [new("what is red", "blue")];
        var probeSet = new ProbeSet(probes, text);
        EditOptions options = new() { IdempotencyKey = "k" };

        var ledger = FileLedger.Open(model.Ledger, fingerprint);
        var first = new EditCoordinator([[.. shards.Select((shard, i) => i == stage ? new DeadlyShard(shard, step, after, death) : shard)]],
            stage < 0 ? new DeadlyLedger(ledger, after, death) : ledger, text, probeSet, TimeProvider.System);
        _ = first.EditAsync("what is red", "south", options); // never ends
        await death.Task;
        await ledger.DisposeAsync();

        await using var reopened = FileLedger.Open(model.Ledger, fingerprint);
        using var second = new EditCoordinator([shards], reopened, text, probeSet, TimeProvider.System);
        var receipt = await second.EditAsync("what is red", "south", options);
        Assert.Equal([(receipt.Id, receipt.Figures)], reopened.Entries.Select(entry => (entry.Edit, entry.Figures!)));
        await second.EditAsync("the old town", "red");
        var state = await ModelState.OfAsync(model.Model, shards, second);
        foreach (var shard in shards)
            await shard.DisposeAsync();

        await using var undisturbed = await model.OpenAsync(Stages, ledger: model.Ledger + "2", probes: probes);
        Assert.Equal(receipt.Figures, (await undisturbed.EditAsync("what is red", "south")).Figures);
        await undisturbed.EditAsync("the old town", "red");
        Assert.Equal(await model.StateAsync(undisturbed), state);
    }

    /// <summary>A call to it, at the step, is the last thing that the coordinator does.</summary>
    private sealed class DeadlyShard(IModelShard shard, ShardStep deadly, bool after, TaskCompletionSource death) : ShardDecorator(shard)
    {
        public override Task<GenerateReply> GenerateAsync(GenerateRequest request, CancellationToken cancellation = default) =>
            CallAsync(ShardStep.Generate, () => base.GenerateAsync(request, cancellation));

        public override Task<ForwardReply> ForwardAsync(ForwardRequest request, CancellationToken cancellation = default) =>
            CallAsync(ShardStep.Forward, () => base.ForwardAsync(request, cancellation));

        public override Task<TrialReply> TryAsync(TrialRequest request, CancellationToken cancellation = default) =>
            CallAsync(request.Candidate is null ? ShardStep.TryBefore : ShardStep.TryAfter, () => base.TryAsync(request, cancellation));

        public override Task<BackwardReply> BackwardAsync(BackwardRequest request, CancellationToken cancellation = default) =>
            CallAsync(ShardStep.Backward, () => base.BackwardAsync(request, cancellation));

        public override Task ApplyAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default) =>
            CallAsync(ShardStep.Apply, async () =>
        {
            await base.ApplyAsync(records, cancellation);
            return true;
        });

        public override Task EndAsync(long session, CancellationToken cancellation = default) => CallAsync(ShardStep.End, async () =>
        {
            await base.EndAsync(session, cancellation);
            return true;
        });

        private async Task<T> CallAsync<T>(ShardStep step, Func<Task<T>> call)
        {
            if (step == deadly && !after)
                await DieAsync(death);
            var result = await call();
            if (step == deadly)
                await DieAsync(death);
            return result;
        }
    }

    private sealed class DeadlyLedger(IEditLedger ledger, bool after, TaskCompletionSource death) : IEditLedger
    {
        public IReadOnlyList<LedgerEntry> Entries => ledger.Entries;

        public async Task AppendAsync(IReadOnlyList<LedgerRecord> records, CancellationToken cancellation = default)
        {
            if (after)
                await ledger.AppendAsync(records, cancellation);
            await DieAsync(death);
        }

        public Task<IReadOnlyList<LedgerRecord>> ReadAfterAsync(ModelVersion version, CancellationToken cancellation = default) =>
            ledger.ReadAfterAsync(version, cancellation);

        public ValueTask DisposeAsync() => ledger.DisposeAsync();
    }

    private static Task DieAsync(TaskCompletionSource death)
    {
        death.TrySetResult();
        return new TaskCompletionSource().Task;
    }
}
