using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// One update in the place of those of many edits of a scope: it is fitted to their prompts and to rewordings of these, on the model with
/// the edits of other scopes, while answers and edits go on. It takes steps of Adam on what is not yet answered as it should be, and
/// shrinks between them, for what a fact does not need costs other answers. So facts that many edits made one by one have pushed out of
/// each other's way come back, with a smaller update. Each step also holds it to what the model says of some questions without the edits
/// (KL divergence), where there are any to replay: then it begins with what is consolidated already, so that its cost is that of what is
/// new. Without replay what that cost other answers would stay, and it begins from the model without the edits.
/// </summary>
/// <param name="facts">In force at the version, all of one scope.</param>
/// <param name="others">Edits of the version that stay as they are.</param>
/// <param name="replay">To be answered as without the edits.</param>
internal sealed class Consolidation(Pipeline replica, long session, ModelVersion version, IReadOnlyList<LedgerEntry> facts,
    IReadOnlyList<EditId> others, ReplaySet replay, ModelText text, ConsolidateOptions options, TimeProvider time)
{
    /// <summary>Examples of a pass.</summary>
    public const int Batch = 16;

    /// <summary>Wanted of each target, geometric mean over its tokens.</summary>
    private const double Confidence = 0.9;

    /// <summary>As <see cref="StepFitRequest"/> has them.</summary>
    private const double Rate = 0.04, Decay = 0.002;

    /// <summary>Of the divergence on what is replayed, beside the loss of as many edits.</summary>
    private const double ReplayWeight = 5;

    private readonly Random _random = new(0);
    private readonly IReadOnlyList<TokenRow> _examples = [.. Said(facts, text), .. Reworded(facts, replay, text)];
    private readonly IReadOnlyList<TokenRow> _replay = replay.Without(
        facts.SelectMany(fact => replay.Rewordings(fact.Prompt!).Prepend(fact.Prompt!)));
    private readonly Queue<TokenRow> _nextReplayed = new();

    public int Steps { get; private set; }

    /// <summary>What the edits say now: where several are of one prompt, the last.</summary>
    public static IReadOnlyList<TokenRow> Said(IEnumerable<LedgerEntry> facts, ModelText text) =>
        [.. Last(facts).Select(fact => text.Row(fact.Prompt, fact.Target))];

    /// <summary>
    /// The same in other words, of which none is a prompt and none too long for the model; claims that a classifier judges have none.
    /// </summary>
    public static IReadOnlyList<TokenRow> Reworded(IEnumerable<LedgerEntry> facts, ReplaySet replay, ModelText text)
    {
        if (text.Family.Labels is not null)
            return [];
        var said = Last(facts);
        var prompts = said.Select(fact => fact.Prompt).ToHashSet();
        return [.. said.SelectMany(fact => replay.Rewordings(fact.Prompt).Where(prompts.Add)
            .Select(wording => RowIfItFits(wording, fact.Target, text))).OfType<TokenRow>()];
    }

    private static List<(string Prompt, string Target)> Last(IEnumerable<LedgerEntry> facts) =>
        [.. facts.GroupBy(fact => fact.Prompt!).Select(fact => (fact.Key, fact.Last().Target!))];

    private static TokenRow? RowIfItFits(string prompt, string target, ModelText text)
    {
        try
        {
            return text.Row(prompt, target);
        }
        catch (MendException e) when (e.Error == MendError.TooLong)
        {
            return null;
        }
    }

    /// <returns>What is to be tried.</returns>
    public async Task<IReadOnlyList<WeightChange>> RunAsync(CancellationToken cancellation)
    {
        var began = time.GetTimestamp();
        await replica.BranchAsync(new(session, version, true, others, []), cancellation).ConfigureAwait(false);
        await replica.BeginFitAsync(new(session, version, [.. facts.Select(fact => fact.Edit)], options.MaxRank, Resumes: _replay.Count > 0),
            cancellation)
            .ConfigureAwait(false);
        var (open, isAll) = (_examples, true); // all, then what is missing until nothing is, then all once more
        while (open.Count > 0)
        {
            var missing = new List<TokenRow>();
            foreach (var batch in Shuffled(open).Chunk(Batch))
            {
                var start = time.GetTimestamp();
                missing.AddRange(await LearnAsync(batch, cancellation).ConfigureAwait(false));
                if (time.GetElapsedTime(began) >= options.MaxTime)
                    return await TakeAsync().ConfigureAwait(false);
                await Task.Delay(time.GetElapsedTime(start) * (1 / options.Share - 1), time, cancellation).ConfigureAwait(false);
            }
            (open, isAll) = missing.Count == 0 && !isAll ? (_examples, true) : (missing, false);
        }
        return await TakeAsync().ConfigureAwait(false);

        Task<IReadOnlyList<WeightChange>> TakeAsync() => replica.TakeFitAsync(session, cancellation);
    }

    /// <returns>Those of the batch that were not there.</returns>
    private async Task<IReadOnlyList<TokenRow>> LearnAsync(IReadOnlyList<TokenRow> batch, CancellationToken cancellation)
    {
        var scores = await replica.ForwardAsync(Trip(batch), again: true, cancellation).ConfigureAwait(false);
        List<TokenRow> missing = [.. batch.Zip(scores).Where(example => !example.Second.Exact
            || Math.Exp(example.Second.LogProbability) < Confidence).Select(example => example.First)];
        if (missing.Count > 0)
        {
            await replica.BackwardAsync(session, cancellation).ConfigureAwait(false);
            if (_replay.Count > 0)
                await ReplayAsync(NextReplayed(), cancellation).ConfigureAwait(false);
            await replica.StepFitAsync(new(session, ++Steps, Rate, Decay), cancellation).ConfigureAwait(false);
        }
        return missing;
    }

    /// <summary>Adds its gradient to that of the edits.</summary>
    private async Task ReplayAsync(IReadOnlyList<TokenRow> batch, CancellationToken cancellation)
    {
        await replica.ForwardReplayAsync(Trip(batch), ReplayWeight, cancellation).ConfigureAwait(false);
        await replica.BackwardAsync(session, cancellation).ConfigureAwait(false);
    }

    /// <summary>All in turn, each time in another order.</summary>
    private List<TokenRow> NextReplayed()
    {
        if (_nextReplayed.Count == 0)
            foreach (var row in Shuffled(_replay))
                _nextReplayed.Enqueue(row);
        return [.. Enumerable.Range(0, Math.Min(Batch, _nextReplayed.Count)).Select(_ => _nextReplayed.Dequeue())];
    }

    private StageTrip Trip(IReadOnlyList<TokenRow> rows) =>
        new(session, version, text.Batch(rows), Boundary.None, options.Scope, others.Count);

    private TokenRow[] Shuffled(IReadOnlyList<TokenRow> rows)
    {
        var shuffled = rows.ToArray();
        _random.Shuffle(shuffled);
        return shuffled;
    }
}
