using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// One update in the place of those of many edits of a scope: it is fitted to their prompts and to rewordings of these, on the model with
/// the edits of other scopes, while answers and edits go on. It takes steps of Adam on what is not yet answered as it should be, and
/// shrinks between them, for what a fact does not need costs other answers. So facts that many edits made one by one have pushed out of
/// each other's way come back, with a smaller update. It changes the highest editable layer alone, below which everything is computed once.
///
/// Each step also holds it to what the model says of some questions without the edits (KL divergence), where there are any to replay, and
/// goes round what the layer reacts to in them: then it begins with what is consolidated already, so that its cost is that of what is new.
/// Without replay what that cost other answers would stay, and it begins from the model without the edits.
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

    /// <summary>
    /// As <see cref="StepFitRequest"/> has them. The rate falls as the square root of what is missing of all examples: what steps take from
    /// other answers is mostly their noise.
    /// </summary>
    private const double Rate = 0.04, MinRate = 0.004, Decay = 0.0002;

    /// <summary>Questions of a search that are replayed, and batches of them that are seen before the first step; at most.</summary>
    private const int MaxReplayed = 4096, MaxSeenFirst = 100;

    /// <summary>Of the time, for those batches.</summary>
    private const double MaxTimeToSee = 0.1;

    /// <summary>
    /// Of all examples. As long as more than much is missing, the next steps are of that alone: steps of few would make the model lose others.
    /// It ends where a pass over all finds no more than little, which is answered with less confidence.
    /// </summary>
    private const double MuchMissing = 0.3, LittleMissing = 0.01;

    /// <summary>Of the divergence on what is replayed, beside the loss of as many edits.</summary>
    private const double ReplayWeight = 10;

    private readonly Random _random = new((int)version.Value); // each search replays others
    private readonly IReadOnlyList<TokenRow> _examples = [.. Said(facts, text), .. Reworded(facts, replay, text)];
    private IReadOnlyList<TokenRow> _replay = replay.Without(
        facts.SelectMany(fact => replay.Rewordings(fact.Prompt!).Prepend(fact.Prompt!)));
    private readonly Queue<TokenRow> _nextReplayed = new();
    private double _rate = MinRate; // nothing is known yet
    private readonly Dictionary<TokenRow, int> _known = new(ReferenceEqualityComparer.Instance); // numbers of those that were passed

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

    internal static TokenRow? RowIfItFits(string prompt, string target, ModelText text)
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
        _replay = [.. Shuffled(_replay).Take(MaxReplayed)];
        for (var seen = 0; seen < Math.Min(MaxSeenFirst, (_replay.Count + Batch - 1) / Batch) && Elapsed() < MaxTimeToSee * options.MaxTime; seen++)
            await PacedAsync(() => KnowAsync(NextReplayed(), isReference: true, cancellation), cancellation).ConfigureAwait(false);
        for (var (open, isFirst) = (_examples, true); ; isFirst = false)
        {
            var (missing, passed) = (new List<Missing>(), 0);
            foreach (var batch in Shuffled(open).Chunk(Batch))
            {
                missing.AddRange(await PacedAsync(() => LearnAsync(batch, cancellation), cancellation).ConfigureAwait(false));
                passed += batch.Length;
                if (isFirst)
                    _rate = RateWith(missing.Count, passed);
                if (Elapsed() >= options.MaxTime)
                    return await TakeAsync().ConfigureAwait(false);
            }
            if (open == _examples && missing.Count <= LittleMissing * _examples.Count && missing.All(example => example.IsAnswered))
                return await TakeAsync().ConfigureAwait(false);
            _rate = RateWith(missing.Count, _examples.Count);
            open = missing.Count > MuchMissing * _examples.Count ? [.. missing.Select(example => example.Row)] : _examples;
        }

        TimeSpan Elapsed() => time.GetElapsedTime(began);
        Task<IReadOnlyList<WeightChange>> TakeAsync() => replica.TakeFitAsync(session, cancellation);
    }

    private static double RateWith(int missing, int examples) => Math.Max(MinRate, Rate * Math.Sqrt((double)missing / examples));

    /// <summary>Work, and after it a pause that leaves others their share of the time.</summary>
    private async Task<T> PacedAsync<T>(Func<Task<T>> work, CancellationToken cancellation)
    {
        var start = time.GetTimestamp();
        var done = await work().ConfigureAwait(false);
        await Task.Delay(time.GetElapsedTime(start) * (1 / options.Share - 1), time, cancellation).ConfigureAwait(false);
        return done;
    }

    /// <returns>Those of the batch that were not there.</returns>
    private async Task<IReadOnlyList<Missing>> LearnAsync(IReadOnlyList<TokenRow> batch, CancellationToken cancellation)
    {
        var scores = await ForwardAsync(batch, null, cancellation).ConfigureAwait(false);
        List<Missing> missing = [.. batch.Zip(scores, (row, score) => (row, score))
            .Where(example => !example.score.Exact || Math.Exp(example.score.LogProbability) < Confidence)
            .Select(example => new Missing(example.row, example.score.Exact))];
        if (missing.Count > 0)
        {
            await replica.BackwardFitAsync(session, cancellation).ConfigureAwait(false);
            if (_replay.Count > 0)
            {
                await ForwardAsync(NextReplayed(), ReplayWeight, cancellation).ConfigureAwait(false);
                await replica.BackwardFitAsync(session, cancellation).ConfigureAwait(false); // adds to the gradient of the edits
            }
            await replica.StepFitAsync(new(session, ++Steps, _rate, Decay), cancellation).ConfigureAwait(false);
        }
        return missing;
    }

    /// <param name="replay">Weight of what is replayed; null: the batch is of edits.</param>
    private async Task<IReadOnlyList<ExampleScore>> ForwardAsync(IReadOnlyList<TokenRow> batch, double? replay, CancellationToken cancellation)
    {
        var (trip, numbers) = await KnowAsync(batch, isReference: replay is not null, cancellation).ConfigureAwait(false);
        return await replica.ForwardFitAsync(trip, numbers, replay, cancellation).ConfigureAwait(false);
    }

    /// <summary>Sees to it that the layer's stage has what lies below it, and what the batch is to be held against.</summary>
    /// <returns>The batch as a trip, and its numbers.</returns>
    private async Task<(StageTrip Trip, IReadOnlyList<int> Numbers)> KnowAsync(IReadOnlyList<TokenRow> batch, bool isReference,
        CancellationToken cancellation)
    {
        var trip = new StageTrip(session, version, text.Batch(batch), Boundary.None, options.Scope, others.Count);
        var areKnown = batch.All(_known.ContainsKey);
        List<int> numbers = [.. batch.Select(row => _known.TryGetValue(row, out var number) ? number : _known[row] = _known.Count)];
        if (!areKnown || isReference)
            await replica.TryFitAsync(trip, numbers, areKnown, isReference, cancellation).ConfigureAwait(false);
        return (trip, numbers);
    }

    /// <summary>All in turn, each time in another order.</summary>
    private List<TokenRow> NextReplayed()
    {
        if (_nextReplayed.Count == 0)
            foreach (var row in Shuffled(_replay))
                _nextReplayed.Enqueue(row);
        return [.. Enumerable.Range(0, Math.Min(Batch, _nextReplayed.Count)).Select(_ => _nextReplayed.Dequeue())];
    }

    private TokenRow[] Shuffled(IReadOnlyList<TokenRow> rows)
    {
        var shuffled = rows.ToArray();
        _random.Shuffle(shuffled);
        return shuffled;
    }

    /// <param name="IsAnswered">As it should be, with less confidence than is wanted.</param>
    private sealed record Missing(TokenRow Row, bool IsAnswered);
}
