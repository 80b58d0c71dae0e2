using MendCluster.Contracts;
using MendCluster.Engine.Editors;

namespace MendCluster.Distributed.Editing;

/// <summary>What came of the edits of a group.</summary>
/// <param name="Made">To be committed together, in order; with figures of all of them together. May be none.</param>
/// <param name="Refused">Those that are not to be made, and why.</param>
/// <param name="Later">To be made after the others, alone or in other groups.</param>
/// <param name="Times">Of the whole group.</param>
/// <param name="Replica">Has the probes' answers.</param>
/// <param name="Probes">Null where there are none.</param>
internal sealed record GroupOutcome(IReadOnlyList<GroupMember> Made, IReadOnlyList<(PendingEdit Edit, Exception Why)> Refused,
    IReadOnlyList<PendingEdit> Later, EditTimes Times, Pipeline Replica, Pipeline.ProbeTrial? Probes);

/// <summary>An edit of a group, with its candidate.</summary>
/// <param name="Example">Its number in the group's batch.</param>
/// <param name="Before">Of the target before the edit.</param>
/// <param name="Alone">With its own candidate and no other's; null: not tried so.</param>
/// <param name="Strength">That the search chose; null: there was none.</param>
/// <param name="Changes">The candidate, with that strength.</param>
internal sealed record GroupMember(PendingEdit Edit, int Example, ExampleScore Before, ExampleScore? Alone, double? Strength,
    IReadOnlyList<WeightChange> Changes)
{
    public EditFigures? Figures { get; init; }
}

/// <summary>
/// Several edits that were asked for at once, computed and tried together: one pass up and down the stages with an example each, one pass of
/// the editor networks over all rows, one search in which each edit tries its own step, and one trial with all of them in force. Every edit
/// is computed on the version before the group. The trial is on a branch that has their records as the ledger will: what is measured is, to
/// the bit, what the shards will have. An edit that the others keep from its target, or that would take the group over a limit,
/// is left for later, where it is computed on top of them.
/// </summary>
/// <param name="edits">At least two, that go with each other.</param>
/// <param name="inForce">Edits of the version.</param>
/// <param name="refusal">Why an edit with such figures is not to be made.</param>
/// <param name="unsuccessful">The same of an edit that leaves its target at such a probability.</param>
/// <param name="near">Asked besides <paramref name="probes"/>.</param>
/// <param name="number">Gives numbers for passes, each once.</param>
internal sealed class GroupTrial(Pipeline replica, long session, ModelVersion version, IReadOnlyList<PendingEdit> edits,
    IReadOnlyList<EditId> inForce, ProbeSet probes, NearProbes? near, TimeProvider time, Func<EditFigures, PendingEdit, MendException?> refusal,
    Func<double, PendingEdit, MendException?> unsuccessful, Func<long> number)
{
    private readonly List<(PendingEdit, Exception)> _refused = [];
    private readonly List<GroupMember> _later = [];

    /// <returns>Null: the editor goes over its edits in rounds, or round those before, and makes each alone.</returns>
    /// <exception cref="MendException">Something is not finite: each edit is to be made alone; or as of every pass.</exception>
    public async Task<GroupOutcome?> RunAsync(TokenBatch tokens)
    {
        using var clock = new PhaseClock(time, "forward");
        var trip = new StageTrip(session, version, tokens, Boundary.None, edits[0].Options.Scope);
        var before = Finite(await replica.ForwardAsync(trip, again: false, CancellationToken.None).ConfigureAwait(false));
        var forward = clock.Lap("backward");
        var (changes, editor, rounds) = await replica.BackwardAsync(session, CancellationToken.None).ConfigureAwait(false);
        var backward = clock.Lap("try") - editor;
        if (rounds > 1 || changes[0].Any(change => change.Keys is not null))
            return null;
        var searched = await SearchAsync(trip).ConfigureAwait(false);
        List<GroupMember> members = [.. edits.Select((edit, i) => new GroupMember(edit, i, before[i], searched[i].Score, searched[i].Strength,
            [.. changes[i].Select(change => change with { Alpha = change.Alpha * (float)(searched[i].Strength ?? 1) })]))];
        RefuseUnsuccessful(members);
        var tried = await TryAsync(trip, members).ConfigureAwait(false);
        return new(members, _refused, [.. _later.OrderBy(member => member.Example).Select(member => member.Edit)],
            new(forward, backward, editor, clock.Lap(), default, default), replica, tried);
    }

    /// <summary>Each edit's strength, as it finds its own by itself. All tries of the same turn are one pass.</summary>
    private async Task<IReadOnlyList<(double? Strength, ExampleScore? Score)>> SearchAsync(StageTrip trip)
    {
        List<EditScaleSearch?> searches = [.. edits.Select(edit =>
            edit.Options.Confidence is { } confidence ? new EditScaleSearch(confidence) : null)];
        List<Dictionary<double, ExampleScore>> scores = [.. edits.Select(_ => new Dictionary<double, ExampleScore>())];
        while (searches.Exists(search => search?.Next is not null))
        {
            List<double?> each = [.. searches.Select(search => search?.Next)];
            var found = Finite(await replica.TryEachAsync(trip, each, CancellationToken.None).ConfigureAwait(false));
            foreach (var (i, score) in Enumerable.Range(0, edits.Count).Where(i => each[i] is not null).Zip(found))
            {
                scores[i][each[i]!.Value] = score;
                searches[i]!.Report(score.Exact, Math.Exp(score.LogProbability));
            }
        }
        return [.. searches.Select((search, i) => search is null ? ((double?)null, (ExampleScore?)null)
            : (search.Chosen, scores[i][search.Chosen]))];
    }

    /// <summary>Tries the members together; those that do not fit leave, until the rest can be made.</summary>
    private async Task<Pipeline.ProbeTrial?> TryAsync(StageTrip trip, List<GroupMember> members)
    {
        while (true)
        {
            foreach (var member in members.Where(member => member.Edit.Cancellation.IsCancellationRequested).ToList())
                Refuse(members, member, new OperationCanceledException(member.Edit.Cancellation));
            if (members.Count == 0)
                return null;
            await replica.BranchAsync(new(session, version, true, inForce, [.. Records(version, members, time.GetUtcNow())]),
                CancellationToken.None).ConfigureAwait(false);
            var onBranch = trip with { Branch = inForce.Count + members.Count };
            var after = Finite(await replica.TryOnBranchAsync(onBranch, CancellationToken.None).ConfigureAwait(false));
            var tried = probes.Tokens is not { } tokens ? null : await replica.ProbeAsync(onBranch with { Tokens = tokens }, near, null,
                members.Exists(member => member.Edit.Budget is not null), number, CancellationToken.None).ConfigureAwait(false);
            _ = Finite(tried?.After ?? []);
            if (!double.IsFinite((tried?.Kl ?? 0) + (tried?.TotalKl ?? 0)))
                throw NotFinite();
            for (var i = 0; i < members.Count; i++)
                members[i] = members[i] with { Figures = Figures(members[i], after[members[i].Example], tried, members.Count) };

            if (members.Exists(IsUnknown))
            {
                await TryAloneAsync(trip, members).ConfigureAwait(false);
                if (RefuseUnsuccessful(members))
                    continue;
            }
            List<GroupMember> hindered = [.. members.Where(member => !member.Figures!.Success && member.Alone is not { Exact: false })];
            if (members.Count > 1 && hindered.Count > 0 && hindered.Count < members.Count)
            {
                foreach (var member in hindered)
                    member.Edit.Hindered++;
                Leave(members, hindered);
            }
            else if (members.Count > 1 && (hindered.Count > 0 || members.Exists(member => Why(member) is not null)))
                Leave(members, members[((members.Count + 1) / 2)..]);
            else if (members.Find(member => Why(member) is not null) is { } refused)
                Refuse(members, refused, Why(refused)!);
            else if (!members.Exists(member => member.Edit.Cancellation.IsCancellationRequested))
                return tried;
        }
    }

    /// <summary>An edit by the editor's own step that does not reach its target with the others: whether it would without them.</summary>
    private static bool IsUnknown(GroupMember member) => member is { Figures.Success: false, Alone: null };

    private async Task TryAloneAsync(StageTrip trip, List<GroupMember> members)
    {
        var each = new double?[edits.Count];
        foreach (var member in members.Where(IsUnknown))
            each[member.Example] = 1;
        var found = Finite(await replica.TryEachAsync(trip, each, CancellationToken.None).ConfigureAwait(false)).GetEnumerator();
        for (var i = 0; i < members.Count; i++)
            if (IsUnknown(members[i]) && found.MoveNext())
                members[i] = members[i] with { Alone = found.Current };
    }

    /// <returns>Whether there was one that does not reach its target by itself, and has to.</returns>
    private bool RefuseUnsuccessful(List<GroupMember> members)
    {
        var before = members.Count;
        foreach (var member in members.Where(member => member.Alone is { Exact: false }).ToList())
            if (unsuccessful(Math.Exp(member.Alone!.LogProbability), member.Edit) is { } why)
                Refuse(members, member, why);
        return members.Count < before;
    }

    /// <summary>The records of the next versions.</summary>
    public static IEnumerable<LedgerRecord> Records(ModelVersion after, IEnumerable<GroupMember> members, DateTimeOffset now)
    {
        var next = after;
        foreach (var member in members)
        {
            next = next.Next();
            yield return new(new(next, now, LedgerKind.Edit, new(next.Value), member.Edit.Prompt, member.Edit.Target,
                member.Edit.Options.Author, member.Edit.Options.IdempotencyKey, member.Figures, member.Edit.Options.Scope,
                member.Edit.Options.Confidence), member.Changes);
        }
    }

    private EditFigures Figures(GroupMember member, ExampleScore after, Pipeline.ProbeTrial? tried, int together)
    {
        var figures = EditCoordinator.Figures(member.Before, after, member.Strength, member.Changes, tried) with
        {
            Together = together > 1 ? together : null
        };
        return member.Edit.Budget is { } budget ? budget.Spend(figures, tried!.Base!, tried.After, tried.TotalKl!.Value) : figures;
    }

    private MendException? Why(GroupMember member) => refusal(member.Figures!, member.Edit);

    private void Refuse(List<GroupMember> members, GroupMember member, Exception why)
    {
        members.Remove(member);
        _refused.Add((member.Edit, why));
    }

    private void Leave(List<GroupMember> members, List<GroupMember> leaving)
    {
        leaving.ForEach(member => members.Remove(member));
        _later.AddRange(leaving);
    }

    private static IReadOnlyList<ExampleScore> Finite(IReadOnlyList<ExampleScore> scores) =>
        scores.All(score => double.IsFinite(score.LogProbability)) ? scores : throw NotFinite();

    private static MendException NotFinite() => new(MendError.NotFinite, "The loss of an edit, or what the model says with it, is NaN or infinite.",
        "The edit was not made. With 16-bit weights try float32.");
}
