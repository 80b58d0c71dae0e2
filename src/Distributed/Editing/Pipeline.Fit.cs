using MendCluster.Contracts;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// One update that is fitted to many edits. It changes weights of the highest editable layer alone, so a pass begins there: what lies below is
/// computed once of each example, and kept by the layer's stage.
/// </summary>
internal sealed partial class Pipeline
{
    /// <summary>On the fitted layer's stage: <see cref="IModelShard.BeginFitAsync"/>.</summary>
    public Task BeginFitAsync(BeginFitRequest request, CancellationToken cancellation) =>
        OnFitStageAsync(shard => DoneAsync(shard.BeginFitAsync(request, cancellation)), cancellation);

    /// <summary>
    /// A pass over examples without the update. It says what lies below the fitted layer of those that are not known there, and on what the
    /// next forward half is to be held against.
    /// </summary>
    /// <param name="trip">On the branch that the fit is for.</param>
    /// <param name="examples">Of each example its number.</param>
    /// <param name="areKnown">Passes with these numbers have been made in the session.</param>
    /// <param name="isReference">Whether the next forward half is of the same examples, and replays them.</param>
    public async Task TryFitAsync(StageTrip trip, IReadOnlyList<int> examples, bool areKnown, bool isReference,
        CancellationToken cancellation)
    {
        var fitted = await FitStageAsync(cancellation).ConfigureAwait(false);
        await UpAsync(trip, (shard, own, stage) => shard.TryAsync(new(own, Resumes: areKnown && stage == fitted, IsReference: isReference,
            Examples: stage == fitted ? examples : null), cancellation), reply => reply.Result, areKnown ? fitted : 0).ConfigureAwait(false);
    }

    /// <summary>The forward half of a pass with the update, of examples that are known.</summary>
    /// <param name="replay">The loss is so many times the divergence from the reference; null: that of the labels.</param>
    public async Task<IReadOnlyList<ExampleScore>> ForwardFitAsync(StageTrip trip, IReadOnlyList<int> examples, double? replay,
        CancellationToken cancellation)
    {
        var fitted = await FitStageAsync(cancellation).ConfigureAwait(false);
        var replies = await UpAsync(trip, (shard, own, stage) => shard.ForwardAsync(new(own, NeedsInputGradient: stage > fitted,
            Again: stage == fitted, replay, stage == fitted ? examples : null), cancellation), reply => reply.Result, fitted).ConfigureAwait(false);
        return replies[^1].Scores!;
    }

    /// <summary>The backward half, whose gradient the update's stage gathers.</summary>
    public async Task BackwardFitAsync(long session, CancellationToken cancellation)
    {
        var fitted = await FitStageAsync(cancellation).ConfigureAwait(false);
        var above = Boundary.None;
        for (var i = stages.Count - 1; i >= fitted; i--)
        {
            var request = new BackwardRequest(session, above);
            above = (await CallAsync(i, shard => shard.BackwardAsync(request, cancellation)).ConfigureAwait(false)).Below;
        }
    }

    /// <summary>On the fitted layer's stage: <see cref="IModelShard.StepFitAsync"/>.</summary>
    public Task StepFitAsync(StepFitRequest request, CancellationToken cancellation) =>
        OnFitStageAsync(shard => DoneAsync(shard.StepFitAsync(request, cancellation)), cancellation);

    /// <summary>From the fitted layer's stage: <see cref="IModelShard.TakeFitAsync"/>.</summary>
    public async Task<IReadOnlyList<WeightChange>> TakeFitAsync(long session, CancellationToken cancellation)
    {
        var fitted = await FitStageAsync(cancellation).ConfigureAwait(false);
        var reply = await OnFitStageAsync(shard => shard.TakeFitAsync(session, cancellation), cancellation).ConfigureAwait(false);
        foreach (var change in reply.Changes)
            stageOf[change.Weight] = fitted;
        return reply.Changes;
    }

    private async Task<T> OnFitStageAsync<T>(Func<IModelShard, Task<T>> call, CancellationToken cancellation) =>
        await CallAsync(await FitStageAsync(cancellation).ConfigureAwait(false), shard => CaughtUpAsync(shard, () => call(shard)))
            .ConfigureAwait(false);

    /// <summary>That of the highest editable layer.</summary>
    private async Task<int> FitStageAsync(CancellationToken cancellation)
    {
        var stage = (await EditableStagesAsync(cancellation).ConfigureAwait(false)).ToList().LastIndexOf(true);
        return stage >= 0 ? stage : throw NoEditor();
    }

    private static async Task<bool> DoneAsync(Task call)
    {
        await call.ConfigureAwait(false);
        return true;
    }
}
