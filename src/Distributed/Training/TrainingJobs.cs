using System.Runtime.CompilerServices;
using MendCluster.Contracts;
using MendCluster.Engine.Data;
using MendCluster.Engine.Editors;
using MendCluster.Engine.Files;
using MendCluster.Engine.Training;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;

namespace MendCluster.Distributed.Training;

/// <summary>
/// The runs of a model, one at a time. A run goes on by itself, whoever watches it and whoever goes away; it ends when it is over, fails,
/// or is cancelled. The last one is remembered until the next begins.
/// </summary>
/// <param name="model">A Hugging Face directory.</param>
/// <param name="replicas">Of each replica a shard for every stage, in order.</param>
/// <param name="logger">Null: nothing is logged.</param>
public sealed class TrainingJobs(string model, IReadOnlyList<IReadOnlyList<ITrainingShard>> replicas, ILogger? logger = null)
    : ITrainingJobs, IAsyncDisposable
{
    private readonly Lock _lock = new();
    private Ordered? _last;

    public async Task StartAsync(TrainingJobRequest order, CancellationToken cancellation = default)
    {
        Ordered run;
        lock (_lock)
        {
            if (_last is not { IsUnderWay: true })
                // reading the data may take long
                _last = new(order, Task.Run(() => TrainingJob.Start(order, model, replicas, logger ?? NullLogger.Instance)));
            run = _last;
        }
        if (run.Order != order)
            throw new MendException(MendError.TrainerBusy, $"The run in {run.Order.Run} is under way, and its order is another.",
                "Wait until it is over, or cancel it.");
        await run.Start.WaitAsync(cancellation).ConfigureAwait(false);
    }

    public async IAsyncEnumerable<TrainingProgress> WatchAsync(string run, long after,
        [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        var watched = await RunAsync(run).ConfigureAwait(false);
        for (var i = 0; await watched.StepAsync(i, cancellation).ConfigureAwait(false) is { } step; i++)
            if (step.Iteration > after)
                yield return step;
    }

    public async Task<TrainingStatus?> FindAsync(string run, CancellationToken cancellation = default)
    {
        Ordered? last;
        lock (_lock)
            last = _last;
        if (last?.Order.Run != run)
            return null;
        if (!last.Start.IsCompletedSuccessfully)
            return new(run, last.Start.IsCompleted ? TrainingState.Failed : TrainingState.Running,
                Error: last.Start.Exception?.InnerException?.Message);
        return (await last.Start.ConfigureAwait(false)).Status(run);
    }

    public async Task<TrainingResult> ResultAsync(string run, CancellationToken cancellation = default) =>
        await (await RunAsync(run).ConfigureAwait(false)).Outcome.WaitAsync(cancellation).ConfigureAwait(false);

    public async Task<TrainingResult> CancelAsync(string run, CancellationToken cancellation = default)
    {
        var ended = await RunAsync(run).ConfigureAwait(false);
        await ended.CancelAsync().ConfigureAwait(false);
        return await ended.Outcome.WaitAsync(cancellation).ConfigureAwait(false);
    }

    /// <summary>Ends the run that is under way, because this process ends: whoever waits for it is told to send the order again.</summary>
    public async ValueTask DisposeAsync()
    {
        Ordered? last;
        lock (_lock)
            last = _last;
        if (last is null)
            return;
        await Task.WhenAny(last.Start).ConfigureAwait(false);
        if (last.Start.IsCompletedSuccessfully)
            await (await last.Start.ConfigureAwait(false)).DisposeAsync().ConfigureAwait(false);
    }

    private async Task<TrainingJob> RunAsync(string folder)
    {
        Ordered? last;
        lock (_lock)
            last = _last;
        return last?.Order.Run == folder ? await last.Start.ConfigureAwait(false)
            : throw TrainingJob.Lost($"The trainer has no run in {folder}; it may have been started anew.");
    }

    private sealed record Ordered(TrainingJobRequest Order, Task<TrainingJob> Start)
    {
        public bool IsUnderWay => !Start.IsCompleted || (Start.IsCompletedSuccessfully && !Start.Result.Outcome.IsCompleted);
    }
}

/// <summary>A run that goes on by itself.</summary>
internal sealed class TrainingJob : IProgress<TrainingProgress>, IAsyncDisposable
{
    private readonly CancellationTokenSource _cancelled = new();
    private readonly Lock _lock = new();
    private readonly List<TrainingProgress> _steps = []; // of a run as long as the paper's, a few MB
    private TaskCompletionSource _next = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _interrupted;

    private TrainingJob(EditorTrainer trainer, OwnFolder folder) => Outcome = Task.Run(() => RunAsync(trainer, folder));

    public Task<TrainingResult> Outcome { get; }

    /// <summary>Reads what the run needs, takes its folder, and begins.</summary>
    /// <exception cref="MendException">The order cannot be carried out.</exception>
    public static TrainingJob Start(TrainingJobRequest order, string model, IReadOnlyList<IReadOnlyList<ITrainingShard>> replicas,
        ILogger logger)
    {
        foreach (var path in new[] { order.Data, order.Run })
            if (!Path.IsPathFullyQualified(path))
                throw new MendException(MendError.InvalidOption, $"'{path}' is no whole path.",
                    "Name it from the root on: the trainer has a current folder of its own.");
        EditorTrainerOptions options;
        try
        {
            options = EditorTrainerOptions.Of(model, ReadData(order, model), order.Run) with
            {
                BFloat16OnWire = order.BFloat16OnWire,
                Logger = logger
            };
        }
        catch (MendException e) when (e.Error == MendError.ModelUnusable)
        {
            throw e.Because(e.Error, "No editor can be trained for the model", "Correct its files, or the settings that name its weights.");
        }
        return new(new(replicas, options), options.Run.Take());
    }

    private static EditorData ReadData(TrainingJobRequest order, string model)
    {
        try
        {
            var training = order.Options.Validated();
            return EditorData.Of(model, QuestionAnswering.ReadEdits(order.Data, (ulong)training.Seed), training);
        }
        catch (Exception e) when (e is MendException { Error: MendError.InvalidOption } or InvalidDataException or IOException
            or UnauthorizedAccessException or ArgumentException)
        {
            throw e.Because(MendError.InvalidOption, $"Settings or data ({order.Data}) cannot be used",
                "Correct them; the trainer's silo must be able to read the data.");
        }
    }

    public static MendException Lost(string why) =>
        new(MendError.CoordinatorLost, why, "Send the order again: the run goes on from its last checkpoint.");

    /// <returns>Null when the run is over and there are no more.</returns>
    public async Task<TrainingProgress?> StepAsync(int index, CancellationToken cancellation)
    {
        while (true)
        {
            var over = Outcome.IsCompleted; // before the look at the steps: the last one comes before the end
            Task next;
            lock (_lock)
            {
                if (index < _steps.Count)
                    return _steps[index];
                next = _next.Task;
            }
            if (over)
                return null;
            await Task.WhenAny(next, Outcome).WaitAsync(cancellation).ConfigureAwait(false);
        }
    }

    public TrainingStatus Status(string run)
    {
        var outcome = Outcome;
        TrainingProgress? last;
        lock (_lock)
            last = _steps is [.., var newest] ? newest : null;
        return !outcome.IsCompleted ? new(run, TrainingState.Running, last)
            : outcome.IsCompletedSuccessfully ? new(run, TrainingState.Ended, last, outcome.Result)
            : new(run, TrainingState.Failed, last, Error: outcome.Exception?.InnerException?.Message);
    }

    public Task CancelAsync() => _cancelled.CancelAsync();

    /// <summary>Ends the run because this process ends.</summary>
    public async ValueTask DisposeAsync()
    {
        Volatile.Write(ref _interrupted, true);
        await _cancelled.CancelAsync().ConfigureAwait(false);
        await Task.WhenAny(Outcome).ConfigureAwait(false);
        _cancelled.Dispose();
    }

    void IProgress<TrainingProgress>.Report(TrainingProgress value)
    {
        TaskCompletionSource waiting;
        lock (_lock)
        {
            _steps.Add(value);
            (waiting, _next) = (_next, new(TaskCreationOptions.RunContinuationsAsynchronously));
        }
        waiting.SetResult();
    }

    private async Task<TrainingResult> RunAsync(EditorTrainer trainer, OwnFolder folder)
    {
        using var _ = folder;
        try
        {
            var result = await trainer.TrainAsync(this, _cancelled.Token).ConfigureAwait(false);
            return result.Stopped == "cancelled" && Volatile.Read(ref _interrupted) ? throw Lost("The trainer's silo ends.") : result;
        }
        catch (Exception e) when (e is MendException { Error: MendError.InvalidOption } or IOException or UnauthorizedAccessException)
        {
            throw e.Because(MendError.InvalidOption, "The run cannot go on",
                "Correct what the message names and send the order again: the run goes on from its last checkpoint.");
        }
    }
}
