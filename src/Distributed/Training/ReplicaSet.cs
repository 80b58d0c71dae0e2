using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using MendCluster.Contracts;
using MendCluster.Distributed.Telemetry;
using Microsoft.Extensions.Logging;

namespace MendCluster.Distributed.Training;

/// <summary>
/// The replicas of a run, and what happens when a shard is lost: any call to it fails, or its neighbour in a ring cannot reach it. Then its
/// whole replica is lost, and what was under way is tried again with the others.
/// </summary>
/// <param name="logger">Is told of every loss.</param>
internal sealed class ReplicaSet(IReadOnlyList<IReadOnlyList<ITrainingShard>> shards, ILogger logger)
{
    /// <summary>What a user does after the end of a run that lost all its replicas.</summary>
    public const string Resume = "Start the run again: it goes on from its last checkpoint.";

    public IReadOnlyList<Replica> All { get; } = [.. shards.Select((stages, index) => new Replica(index, stages, logger))];

    public List<Replica> Live => [.. All.Where(replica => replica.Lost is null)];

    /// <summary>Has something done by the living replicas; when one of them is lost over it, again by those that are left.</summary>
    /// <exception cref="MendException"><see cref="MendError.ShardLost"/>: none is left.</exception>
    public async Task<T> RetryOnLiveReplicasAsync<T>(Func<Attempt, Task<T>> work, CancellationToken cancellation)
    {
        while (true)
        {
            var live = Live;
            if (live.Count == 0)
                throw new MendException(MendError.ShardLost,
                    $"No replica is left. {string.Join(' ', All.Select(replica => replica.Lost!.Message))}", Resume);
            using var attempted = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
            try
            {
                return await work(new(live, attempted)).ConfigureAwait(false);
            }
            catch (ReplicaLostException)
            {
                // It is marked; the others try again.
            }
        }
    }

    /// <summary>Compares what the owners of each group have, which must be the same bits.</summary>
    /// <exception cref="MendException"><see cref="MendError.ReplicasDiffer"/>.</exception>
    public static void CheckEqual(IEnumerable<(ShardPlace Place, string Group, string Value)> entries, string what)
    {
        foreach (var owners in entries.GroupBy(entry => entry.Group))
            if (owners.FirstOrDefault(owner => owner.Value != owners.First().Value) is { Value: not null } other)
                throw new MendException(MendError.ReplicasDiffer,
                    $"The {what} of {owners.Key} is {other.Value} at the shard of {other.Place} and {owners.First().Value} at the shard of {owners.First().Place}.",
                    "One of the two machines computes wrongly. Start the run again without it: it goes on from its last checkpoint.");
    }
}

/// <summary>One try at something, by the replicas that live. The first failure stops all calls of it.</summary>
/// <param name="stop">Ends the attempt.</param>
internal sealed class Attempt(IReadOnlyList<Replica> live, CancellationTokenSource stop)
{
    public IReadOnlyList<Replica> Live => live;

    public CancellationToken Token => stop.Token;

    /// <summary>The edits of a replica: a contiguous part, as even as can be.</summary>
    public IEnumerable<int> EditsOf(Replica replica, int edits)
    {
        var place = live.ToList().IndexOf(replica);
        var (first, end) = (place * edits / live.Count, (place + 1) * edits / live.Count);
        return Enumerable.Range(first, end - first);
    }

    /// <summary>Each edit on its replica, as many at once as the replica has stages.</summary>
    public Task EachEditAsync(int edits, Func<Replica, int, Task> work) => AllAsync(live.Select(async replica =>
    {
        using var places = new SemaphoreSlim(replica.Stages);
        await AllAsync(EditsOf(replica, edits).Select(async edit =>
        {
            await places.WaitAsync(Token).ConfigureAwait(false);
            try
            {
                await work(replica, edit).ConfigureAwait(false);
            }
            finally
            {
                places.Release();
            }
        })).ConfigureAwait(false);
    }));

    /// <summary>Calls every shard of every replica.</summary>
    public Task EachShardAsync(Func<Replica, ITrainingShard, Task> call) => AllAsync(live.SelectMany(replica =>
        Enumerable.Range(0, replica.Stages).Select(stage => replica.CallAsync(stage, shard => call(replica, shard), Token))));

    /// <summary>Calls every shard of every replica, for its answer.</summary>
    public async Task<IReadOnlyList<(ShardPlace Place, T Reply)>> EachShardAsync<T>(Func<Replica, int, ITrainingShard, Task<T>> call)
    {
        List<Task<(ShardPlace, T)>> calls = [.. live.SelectMany(replica => Enumerable.Range(0, replica.Stages).Select(async stage =>
            (replica.PlaceOf(stage), await replica.CallAsync(stage, shard => call(replica, stage, shard), Token).ConfigureAwait(false))))];
        await AllAsync(calls).ConfigureAwait(false);
        return await Task.WhenAll(calls).ConfigureAwait(false);
    }

    /// <summary>Waits for all, also when one fails: nothing of an attempt may still be under way when the next begins.</summary>
    private async Task AllAsync(IEnumerable<Task> tasks)
    {
        var failures = new ConcurrentQueue<Exception>();
        await Task.WhenAll(tasks.Select(async task =>
        {
            try
            {
                await task.ConfigureAwait(false);
            }
            catch (Exception e)
            {
                failures.Enqueue(e);
                await stop.CancelAsync().ConfigureAwait(false);
            }
        })).ConfigureAwait(false);
        // What was stopped because of another's failure is not the cause.
        if ((failures.FirstOrDefault(failure => failure is not OperationCanceledException) ?? failures.FirstOrDefault()) is { } cause)
            ExceptionDispatchInfo.Throw(cause);
    }
}

/// <summary>One copy of the model: a shard for every stage.</summary>
internal sealed class Replica(int index, IReadOnlyList<ITrainingShard> shards, ILogger logger)
{
    public int Index => index;

    public int Stages => shards.Count;

    /// <summary>Why it takes no part; null: it does.</summary>
    public MendException? Lost { get; private set; } = new(MendError.ShardLost, $"Replica {index} has not been opened.", "");

    /// <summary>An attempt to bring it back.</summary>
    public Task<IReadOnlyList<TrainingShardStatus>>? Opening { get; set; }

    /// <summary>Of each stage: the groups whose parameters it has.</summary>
    public IReadOnlyList<IReadOnlyList<string>> Groups { get; private set; } = [];

    /// <summary>The lowest stage with editable weights.</summary>
    public int LowestEditable { get; private set; }

    public ShardPlace PlaceOf(int stage) => new(index, stage);

    /// <summary>Takes down what its shards said when they were opened.</summary>
    public void Opened(IReadOnlyList<TrainingShardStatus> stages)
    {
        Groups = [.. stages.Select(stage => stage.Groups)];
        LowestEditable = stages.ToList().FindIndex(stage => stage.EditableWeights.Count > 0);
    }

    /// <summary>From here on it takes part, or does not.</summary>
    public void Rejoin() => Lost = null;

    public ReplicaLostException Lose(string why, Exception? inner)
    {
        if (Lost is null)
            logger.ReplicaLost(index, why);
        Lost ??= new MendException(MendError.ShardLost, why, "", inner);
        return new(why, inner);
    }

    /// <summary>Calls all its shards.</summary>
    public Task<T[]> EachStageAsync<T>(Func<ITrainingShard, Task<T>> call, CancellationToken cancellation) =>
        Task.WhenAll(shards.Select((_, stage) => CallAsync(stage, call, cancellation)));

    /// <summary>Calls all its shards.</summary>
    public Task EachStageAsync(Func<ITrainingShard, Task> call, CancellationToken cancellation) =>
        Task.WhenAll(shards.Select((_, stage) => CallAsync(stage, call, cancellation)));

    /// <summary>Calls a shard that has nothing to answer.</summary>
    public Task CallAsync(int stage, Func<ITrainingShard, Task> call, CancellationToken cancellation) => CallAsync(stage, async shard =>
    {
        await call(shard).ConfigureAwait(false);
        return true;
    }, cancellation);

    /// <summary>Calls a shard. However it fails, its replica is lost; a refusal that another shard would give too is passed on.</summary>
    public async Task<T> CallAsync<T>(int stage, Func<ITrainingShard, Task<T>> call, CancellationToken cancellation)
    {
        try
        {
            return await call(shards[stage]).ConfigureAwait(false);
        }
        catch (Exception e) when (e is ReplicaLostException or MendException { Error: not MendError.ShardLost }
            || (e is OperationCanceledException && cancellation.IsCancellationRequested))
        {
            throw;
        }
        catch (Exception e)
        {
            throw Lose($"The shard of {PlaceOf(stage)} failed: {e.Message}", e);
        }
    }
}

/// <summary>A replica is lost, and marked so.</summary>
internal sealed class ReplicaLostException(string message, Exception? inner) : Exception(message, inner);
