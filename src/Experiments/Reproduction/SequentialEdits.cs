using System.Runtime.CompilerServices;
using MendCluster.Contracts;
using MendCluster.Engine.Data;

namespace MendCluster.Experiments;

/// <summary>One edit of a sequence.</summary>
/// <param name="Milliseconds">That it took; null when it was refused, or made just before a stop that left no time to note it.</param>
/// <param name="Refused">Why it was not made; null: it was.</param>
public sealed record SequentialEdit(double? Milliseconds, string? Refused = null);

/// <summary>A model after so many edits. Every figure over questions has its 95% interval, and is null without any.</summary>
/// <param name="Edits">That were asked for.</param>
/// <param name="Refused">Those of them that were not made; the figures of success are of the others.</param>
/// <param name="Newest">
/// The last edits' own prompts that are answered with the wanted target; of at most <see cref="SequentialEdits.NewestEdits"/>.
/// </param>
/// <param name="Prompts">The same of all edits so far.</param>
/// <param name="Rephrases">The same of all their rephrases; within an edit questions count alike, between edits edits do.</param>
/// <param name="Retained">Unrelated questions that are answered as the unedited model did, right or wrong.</param>
/// <param name="Drawdown">Fraction of them that were answered right, less the same now.</param>
/// <param name="EditMilliseconds">Median of the newest edits.</param>
/// <param name="AskMilliseconds">Median of the questions asked for these figures.</param>
/// <param name="Bytes">Of the factors of all edits, as the ledger keeps them.</param>
/// <param name="Oldest">As the newest, of the first edits; of at most <see cref="SequentialEdits.OldestEdits"/>.</param>
/// <param name="Consolidations">Made so far.</param>
public sealed record SequentialPoint(
    int Edits, int Refused, Estimate? Newest, Estimate? Prompts, Estimate? Rephrases, Estimate? Retained, Estimate? Drawdown,
    double? EditMilliseconds, double AskMilliseconds, long Bytes, Estimate? Oldest, int Consolidations);

/// <summary>How far a sequence has come: all that it needs, beside the ledger, to go on after a stop.</summary>
/// <param name="Unedited">What the unedited model answers to the unrelated questions.</param>
/// <param name="Edits">In their order.</param>
public sealed record SequentialProgress(
    IReadOnlyDictionary<string, string> Unedited, IReadOnlyList<SequentialEdit> Edits, IReadOnlyList<SequentialPoint> Points);

/// <summary>
/// Edits one after another, each made on what the ones before it left, and what the model answers on the way: the cluster's own path from
/// request to ledger, measured as a user meets it. Answers are generated freely and greedily, and count when their text is the wanted one,
/// but for white space at the ends.
///
/// A question is to be answered by the last edit that is about it: edits that share a question are about the same thing, and all their
/// questions then count for the later target. An unrelated question that became the business of an edit is left out from there on.
///
/// Every edit has an idempotency key, so the ledger says how far a sequence came: one that was stopped goes on with the same ledger and the
/// progress that was given last.
/// </summary>
/// <param name="edits">In the order in which they are made. Their locality is not read; see <see cref="Unrelated"/>.</param>
/// <param name="unrelated">Questions that no edit should change, with their true answers; none twice.</param>
/// <param name="options">Of every edit; without an idempotency key.</param>
/// <param name="ask">How the questions are asked; with temperature 0.</param>
/// <param name="consolidateEvery">Edits, after each of which all that are in force are consolidated; 0: never.</param>
/// <param name="consolidation">How.</param>
public sealed class SequentialEdits(
    IReadOnlyList<EditExample> edits, IReadOnlyList<QaPair> unrelated, EditOptions options, AskOptions ask, TimeProvider time,
    int consolidateEvery = 0, ConsolidateOptions? consolidation = null)
{
    /// <summary>What counts as new, and as old.</summary>
    public const int NewestEdits = 25, OldestEdits = 100;

    private const string Key = "sequence/";

    /// <summary>Locality questions of the edits, each once.</summary>
    /// <param name="most">A random choice of so many.</param>
    public static IReadOnlyList<QaPair> Unrelated(IEnumerable<EditExample> edits, int most, Prng rng) =>
        [.. rng.Shuffle(edits.SelectMany(edit => edit.Locality).DistinctBy(pair => pair.Question)).Take(most)];

    /// <summary>Makes the edits up to the greatest count and measures at every count that was not measured yet.</summary>
    /// <param name="earlier">What an earlier run gave last; null: none.</param>
    /// <returns>The progress after every edit and every measurement, to be kept before the next is asked for.</returns>
    /// <exception cref="InvalidDataException">Ledger and progress are not of one sequence, or a count has gone by.</exception>
    public async IAsyncEnumerable<SequentialProgress> RunAsync(
        IMendCluster cluster, IReadOnlyList<int> counts, SequentialProgress? earlier = null,
        [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        var isNew = earlier is null;
        var progress = earlier ?? new(new Dictionary<string, string>(), [], []);
        List<int> wanted = [.. counts.Distinct().Except(progress.Points.Select(point => point.Edits)).Order()];
        Check(wanted, progress, isNew, await cluster.LedgerAsync(cancellation).ConfigureAwait(false));
        if (isNew)
        {
            var unedited = new Dictionary<string, string>();
            foreach (var (question, _) in unrelated)
                unedited[question] = await AskAsync(cluster, question, cancellation).ConfigureAwait(false);
            yield return progress = progress with { Unedited = unedited };
        }
        foreach (var count in wanted)
        {
            while (progress.Edits.Count < count)
            {
                var edit = await EditAsync(cluster, progress.Edits.Count, cancellation).ConfigureAwait(false);
                if (consolidateEvery > 0 && (progress.Edits.Count + 1) % consolidateEvery == 0)
                    await ConsolidateAsync(cluster, cancellation).ConfigureAwait(false);
                yield return progress = progress with { Edits = [.. progress.Edits, edit] };
            }
            var point = await MeasureAsync(cluster, progress, cancellation).ConfigureAwait(false);
            yield return progress = progress with { Points = [.. progress.Points, point] };
        }
    }

    /// <summary>Takes all edits of a sequence back in a random order; those that an earlier call took back are passed over.</summary>
    /// <returns>Every edit as it was taken back.</returns>
    public static async IAsyncEnumerable<RevertReceipt> RevertAllAsync(
        IMendCluster cluster, Prng rng, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        var ledger = await cluster.LedgerAsync(cancellation).ConfigureAwait(false);
        var reverted = Reverted(ledger);
        foreach (var entry in rng.Shuffle(Own(ledger)).Where(entry => !reverted.Contains(entry.Edit)))
            yield return await cluster.RevertAsync(entry.Edit, cancellation: cancellation).ConfigureAwait(false);
    }

    /// <summary>How many of the unrelated questions the model answers as the unedited one did.</summary>
    public async Task<int> AnsweredAsUneditedAsync(IMendCluster cluster, SequentialProgress progress,
        CancellationToken cancellation = default)
    {
        var same = 0;
        foreach (var (question, _) in unrelated)
            same += await AskAsync(cluster, question, cancellation).ConfigureAwait(false) == progress.Unedited[question] ? 1 : 0;
        return same;
    }

    private void Check(List<int> counts, SequentialProgress progress, bool isNew, IReadOnlyList<LedgerEntry> ledger)
    {
        if (counts.Any(count => count < 1 || count > edits.Count))
            throw new InvalidDataException($"{counts.First(count => count < 1 || count > edits.Count)} edits are asked for; there are {edits.Count}, and at least 1 is needed");
        if (counts.Any(count => count < progress.Edits.Count))
            throw new InvalidDataException($"{counts[0]} edits were never measured, and {progress.Edits.Count} are made already; measure them with a new ledger");
        List<LedgerEntry> own = [.. Own(ledger)];
        var made = progress.Edits.Count(edit => edit.Refused is null);
        if (isNew ? ledger.Count > 0 : own.Count < made || unrelated.Any(pair => !progress.Unedited.ContainsKey(pair.Question)))
            throw new InvalidDataException($"the ledger has {own.Count} edits of the sequence and {ledger.Count} entries, the progress {made} edits and {progress.Unedited.Count} "
                + "answers of the unedited model: they are not of one run; begin anew with an empty ledger and without progress");
        if (counts.Count > 0 && Reverted(ledger).Overlaps(own.Select(entry => entry.Edit)))
            throw new InvalidDataException("edits of the sequence were taken back, so no more can be measured; begin anew with an empty ledger");
    }

    private async Task<SequentialEdit> EditAsync(IMendCluster cluster, int number, CancellationToken cancellation)
    {
        var (prompt, target) = (edits[number].Prompt, edits[number].Target);
        try
        {
            var receipt = await cluster.EditAsync(prompt, target, options with { IdempotencyKey = $"{Key}{number + 1}" }, cancellation)
                .ConfigureAwait(false);
            return new(receipt.Times == EditTimes.Zero ? null : receipt.Times.Total.TotalMilliseconds);
        }
        catch (MendException e) when (e.Error is MendError.DrawdownExceeded or MendError.BudgetExceeded or MendError.EditUnsuccessful
            or MendError.NotFinite)
        {
            return new(null, e.Message);
        }
    }

    /// <summary>What is refused, or was done before a stop, leaves the model as it is.</summary>
    private async Task ConsolidateAsync(IMendCluster cluster, CancellationToken cancellation)
    {
        try
        {
            await cluster.ConsolidateAsync(consolidation, cancellation).ConfigureAwait(false);
        }
        catch (MendException e) when (e.Error is MendError.ConsolidationRefused or MendError.NothingToConsolidate)
        {
            // the point says how many were made
        }
    }

    private async Task<SequentialPoint> MeasureAsync(IMendCluster cluster, SequentialProgress progress, CancellationToken cancellation)
    {
        List<EditExample> made = [.. edits.Take(progress.Edits.Count).Where((_, i) => progress.Edits[i].Refused is null)];
        var targets = Targets(made);
        List<QaPair> untouched = [.. unrelated.Where(pair => !targets.ContainsKey(pair.Question))];
        var (answers, times) = (new Dictionary<string, string>(), new List<double>());
        foreach (var question in made.SelectMany(Questions).Concat(untouched.Select(pair => pair.Question)).Distinct())
        {
            var start = time.GetTimestamp();
            answers[question] = await AskAsync(cluster, question, cancellation).ConfigureAwait(false);
            times.Add(time.GetElapsedTime(start).TotalMilliseconds);
        }
        var ledger = await cluster.LedgerAsync(cancellation).ConfigureAwait(false);
        var size = Own(ledger).Sum(entry => entry.Figures!.Bytes);
        return new(progress.Edits.Count, progress.Edits.Count - made.Count,
            Mean(made.TakeLast(NewestEdits).Select(edit => Succeeds(edit.Prompt))),
            Mean(made.Select(edit => Succeeds(edit.Prompt))),
            Mean(made.Where(edit => edit.Rephrases.Count > 0).Select(edit => edit.Rephrases.Average(Succeeds))),
            Mean(untouched.Select(pair => Share(answers[pair.Question] == progress.Unedited[pair.Question]))),
            Mean(untouched.Select(pair =>
                Share(Is(progress.Unedited[pair.Question], pair.Answer)) - Share(Is(answers[pair.Question], pair.Answer)))),
            Median([.. progress.Edits.TakeLast(NewestEdits).Select(edit => edit.Milliseconds).OfType<double>()]), Median(times) ?? 0, size,
            Mean(made.Take(OldestEdits).Select(edit => Succeeds(edit.Prompt))), ledger.Count(entry => entry.Kind == LedgerKind.Consolidate));

        double Succeeds(string question) => Share(Is(answers[question], targets[question]));
    }

    /// <summary>The target of every question that an edit is about: that of the last edit that shares a question with it.</summary>
    private static Dictionary<string, string> Targets(IEnumerable<EditExample> made)
    {
        var matters = new Dictionary<string, (string Target, IReadOnlyList<string> Questions)>();
        foreach (var edit in made)
        {
            List<string> questions =
                [.. Questions(edit).SelectMany(question => matters.TryGetValue(question, out var matter) ? matter.Questions : [question])
                .Distinct()];
            foreach (var question in questions)
                matters[question] = (edit.Target, questions);
        }
        return matters.ToDictionary(matter => matter.Key, matter => matter.Value.Target);
    }

    private async Task<string> AskAsync(IMendCluster cluster, string question, CancellationToken cancellation) =>
        (await cluster.AskAsync(question, ask, cancellation).ConfigureAwait(false)).Text;

    private static IEnumerable<string> Questions(EditExample edit) => edit.Rephrases.Prepend(edit.Prompt);

    private static IEnumerable<LedgerEntry> Own(IEnumerable<LedgerEntry> ledger) =>
        ledger.Where(entry => entry.IdempotencyKey?.StartsWith(Key, StringComparison.Ordinal) == true);

    private static HashSet<EditId> Reverted(IEnumerable<LedgerEntry> ledger) =>
        [.. ledger.Where(entry => entry.Kind == LedgerKind.Revert).Select(entry => entry.Edit)];

    private static bool Is(string answer, string wanted) => answer.AsSpan().Trim().SequenceEqual(wanted.AsSpan().Trim());

    private static double Share(bool holds) => holds ? 1 : 0;

    private static Estimate? Mean(IEnumerable<double> cases) => cases.ToList() is { Count: > 0 } values
        ? Bootstrap.Of(values, drawn => drawn.Average()) : null;

    private static double? Median(List<double> values)
    {
        if (values.Count == 0)
            return null;
        values.Sort();
        return (values[(values.Count - 1) / 2] + values[values.Count / 2]) / 2;
    }
}
