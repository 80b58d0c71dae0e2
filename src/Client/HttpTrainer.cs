using MendCluster.Contracts;

namespace MendCluster.Client;

/// <summary>
/// A run on a server's cluster. It goes on there when this client goes away; whoever sends the same request watches it again.
/// </summary>
internal sealed class HttpTrainer(HttpCluster cluster, TrainingRequest request) : IEditorTrainer
{
    private string Path => $"v1/trainings/{request.Run}";

    public async Task<TrainingResult> TrainAsync(IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        long furthest = 0;
        try
        {
            var ended = await cluster.RetryAsync(_ => SendAsync(), cancellation).ConfigureAwait(false);
            return ended.Result ?? throw new MendException(MendError.InvalidOption, $"The run failed: {ended.Error}",
                "Correct what the message names and send the request again: the run goes on from its last checkpoint.");
        }
        catch (OperationCanceledException) when (cancellation.IsCancellationRequested)
        {
            using var ended = await cluster.SendOnceAsync(HttpMethod.Delete, Path, null, null, null, CancellationToken.None)
                .ConfigureAwait(false);
            var status = await cluster.SendAsync<TrainingStatus>(HttpMethod.Get, Path, null, CancellationToken.None).ConfigureAwait(false);
            return status.Result ?? throw new MendException(MendError.InvalidOption, $"The run failed: {status.Error}",
                "Correct what the message names.");
        }

        async Task<TrainingStatus> SendAsync()
        {
            using var begun = await cluster.SendOnceAsync(HttpMethod.Post, "v1/trainings", request, null, null, cancellation)
                .ConfigureAwait(false);
            using var response = await cluster.SendOnceAsync(HttpMethod.Get, $"{Path}/events", null, null, MendHttp.EventsType,
                cancellation, furthest).ConfigureAwait(false);
            var events = ServerEvents.ReadAsync(response, cancellation).GetAsyncEnumerator(cancellation);
            await using var _ = events.ConfigureAwait(false);
            while (await HttpCluster.KnownAsync(() => events.MoveNextAsync().AsTask(), cancellation).ConfigureAwait(false))
                switch (events.Current.Name)
                {
                    case MendHttp.StepEvent:
                        var step = HttpCluster.Read<TrainingProgress>(events.Current.Data);
                        furthest = step.Iteration;
                        progress?.Report(step);
                        break;
                    case MendHttp.DoneEvent:
                        return HttpCluster.Read<TrainingStatus>(events.Current.Data);
                }
            throw HttpCluster.Lost("the stream of the run ended before the run");
        }
    }
}
