using MendCluster.Contracts;

namespace MendCluster.Distributed.Training;

/// <summary>The runs of a model in this process. Weights are read when a run begins, beside those that are served.</summary>
public sealed class EmbeddedTrainingJobs : ITrainingJobs, IAsyncDisposable
{
    private readonly IReadOnlyList<IReadOnlyList<TrainingShard>> _shards;
    private readonly TrainingJobs _runs;

    private EmbeddedTrainingJobs(string model, IReadOnlyList<IReadOnlyList<TrainingShard>> shards) =>
        (_shards, _runs) = (shards, new(model, shards));

    /// <param name="model">A Hugging Face directory.</param>
    /// <param name="device">Of the shards; a list such as <c>cuda:0,cuda:1</c> in turn, replica after replica.</param>
    public static EmbeddedTrainingJobs Create(string model, int replicas, int stages, DType dtype = DType.Float32, string device = "cpu")
    {
        List<List<TrainingShard>> shards = [];
        for (var replica = 0; replica < replicas; replica++)
        {
            var first = replica;
            shards.Add([.. Enumerable.Range(0, stages).Select(stage =>
                new TrainingShard(new(model, new(first, stage), dtype, ShardDevices.Of(device, first * stages + stage)),
                peer => shards[peer.Replica][peer.Stage]))]);
        }
        return new(model, shards);
    }

    public Task StartAsync(TrainingJobRequest order, CancellationToken cancellation = default) => _runs.StartAsync(order, cancellation);

    public IAsyncEnumerable<TrainingProgress> WatchAsync(string run, long after, CancellationToken cancellation = default) =>
        _runs.WatchAsync(run, after, cancellation);

    public Task<TrainingStatus?> FindAsync(string run, CancellationToken cancellation = default) => _runs.FindAsync(run, cancellation);

    public Task<TrainingResult> ResultAsync(string run, CancellationToken cancellation = default) => _runs.ResultAsync(run, cancellation);

    public Task<TrainingResult> CancelAsync(string run, CancellationToken cancellation = default) => _runs.CancelAsync(run, cancellation);

    public async ValueTask DisposeAsync()
    {
        await _runs.DisposeAsync().ConfigureAwait(false);
        foreach (var shard in _shards.SelectMany(replica => replica))
            await shard.DisposeAsync().ConfigureAwait(false);
    }
}
