using MendCluster.Contracts;

namespace MendCluster.Server;

/// <summary>What a server is a way to. It listens before the cluster is there, and says meanwhile what it waits for.</summary>
/// <param name="model">Its name.</param>
public sealed class ServedCluster(string model)
{
    private volatile Opening _state = new("starts", null, null, null);
    private volatile bool _isStopping;

    public string Model => model;

    /// <summary>What it waits for; null: nothing.</summary>
    public string? Waiting => _state.Cluster is null ? _state.Waiting : null;

    /// <summary>Why the cluster will not come.</summary>
    public string? Fault => _state.Fault;

    /// <summary>Null until it is there.</summary>
    public IMendCluster? Cluster => _state.Cluster;

    public ITrainingJobs? Trainings => _state.Trainings;

    /// <summary>The stages that this process holds itself. Its health is theirs; without any, that of the whole cluster.</summary>
    public Func<CancellationToken, Task<IReadOnlyList<ShardReport>>>? Own { get; init; }

    public bool IsStopping => _isStopping;

    public void Waits(string what) => _state = new(what, null, null, null);

    public void Failed(string why) => _state = new(_state.Waiting, why, null, null);

    /// <param name="trainings">Null: this cluster trains no editors.</param>
    public void Opened(IMendCluster cluster, ITrainingJobs? trainings = null) => _state = new(null, null, cluster, trainings);

    internal void Stops() => _isStopping = true;

    /// <exception cref="MendException">It is not there yet.</exception>
    public IMendCluster Required() => _state is { Cluster: { } cluster } ? cluster
        : throw new MendException(MendError.Unavailable, _state.Fault is { } fault ? $"The model cannot be served: {fault}"
        : $"The server is not ready: it {_state.Waiting}.",
            "Send the request again when it is ready.");

    private sealed record Opening(string? Waiting, string? Fault, IMendCluster? Cluster, ITrainingJobs? Trainings);
}
