using MendCluster.Contracts;

namespace MendCluster.Distributed.Training;

/// <summary>A training run in this process: a shard with a compute thread for every stage of every replica, and the trainer.</summary>
public sealed class EmbeddedTrainer : IEditorTrainer, IAsyncDisposable
{
    private readonly ITrainingShard[][] _shards;
    private readonly EditorTrainer _trainer;
    private readonly Engine.Training.RunFolder _run;

    /// <param name="model">A Hugging Face directory.</param>
    /// <param name="device">Of the shards; a list such as <c>cuda:0,cuda:1</c> in turn, replica after replica.</param>
    public EmbeddedTrainer(string model, int replicas, int stages, EditorTrainerOptions options, DType dtype = DType.Float32,
        string device = "cpu")
        : this(model, replicas, stages, options, dtype, (shard, _) => shard, device)
    {
    }

    /// <param name="wrap">Stands before every shard, for its neighbours too; for tests of faults.</param>
    internal EmbeddedTrainer(string model, int replicas, int stages, EditorTrainerOptions options, DType dtype,
        Func<ITrainingShard, ShardPlace, ITrainingShard> wrap,
        string device = "cpu")
    {
        if (replicas < 1)
            throw new MendException(MendError.InvalidOption, $"Replicas is {replicas}.", "At least one is needed.");
        var layers = Engine.Models.ModelFamily.FromDirectory(model).LayerNames.Count;
        if (stages < 1 || stages > layers)
            throw new MendException(MendError.InvalidOption, $"Stages is {stages}.", $"This model has 1 to {layers}.");
        _shards = [.. Enumerable.Range(0, replicas).Select(_ => new ITrainingShard[stages])];
        for (var replica = 0; replica < replicas; replica++)
            for (var stage = 0; stage < stages; stage++)
            {
                var place = new ShardPlace(replica, stage);
                _shards[replica][stage] =
                    wrap(new TrainingShard(new(model, place, dtype, ShardDevices.Of(device, replica * stages + stage)),
                    peer => _shards[peer.Replica][peer.Stage]), place);
            }
        (_trainer, _run) = (new(_shards, options), options.Run);
    }

    public async Task<TrainingResult> TrainAsync(IProgress<TrainingProgress>? progress = null, CancellationToken cancellation = default)
    {
        using var _ = _run.Take();
        return await _trainer.TrainAsync(progress, cancellation).ConfigureAwait(false);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var shard in _shards.SelectMany(replica => replica))
            await shard.DisposeAsync().ConfigureAwait(false);
    }
}
