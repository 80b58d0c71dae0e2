using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Training;
using MendCluster.Grains.Interfaces;

namespace MendCluster.Grains;

/// <summary>A cluster that hosts one model. All its silos have the same settings.</summary>
public sealed record ClusterSettings
{
    /// <summary>Tells this cluster from others in the same database, see <see cref="ClusterIdentity"/>.</summary>
    public string ClusterId { get; init; } = ClusterIdentity.Default;

    /// <summary>Orleans' name for what this cluster is a deployment of.</summary>
    public string ServiceId { get; init; } = ClusterIdentity.Default;

    /// <summary>Of the model, in this cluster.</summary>
    public string Model { get; init; } = "model";

    /// <summary>A Hugging Face directory, the same on every silo.</summary>
    public required string ModelDirectory { get; init; }

    /// <summary>The editor's safetensors file. Null: the model can be asked, not edited.</summary>
    public string? Editor { get; init; }

    /// <summary>
    /// The ledger's file, or <c>postgres:</c> and a connection string; within reach of every silo that may be the coordinator's.
    /// </summary>
    public required string Ledger { get; init; }

    /// <summary>Of the weights in memory.</summary>
    public DType DType { get; init; } = DType.Float32;

    /// <summary>
    /// Where silos hold their shards: <c>cpu</c>, <c>cuda</c>, or a list such as <c>cuda:0,cuda:1</c>, which the shards of one silo have in
    /// turn.
    /// </summary>
    /// <value>cpu.</value>
    public string Device { get; init; } = "cpu";

    /// <summary>The same of single silos, by their names, where it differs.</summary>
    public IReadOnlyDictionary<string, string> Devices { get; init; } = new Dictionary<string, string>();

    /// <summary>Answers that a stage computes together at most. 1: each alone, and to the bits that it has alone.</summary>
    /// <value>32.</value>
    public int MaxBatch { get; init; } = ShardOptions.DefaultMaxBatch;

    /// <summary>Edits that wait at once and are made together, at most. 1: each is made alone.</summary>
    /// <value>32.</value>
    public int MaxGroup { get; init; } = EditCoordinator.DefaultMaxGroup;

    /// <summary>When the edits of a scope are consolidated in the background.</summary>
    /// <value>Never.</value>
    public ConsolidationTriggers Consolidate { get; init; } = new();

    /// <summary>Unrelated questions that edits are tried on: the first 100 at every edit, of the others those nearest to it (<see cref="ProbeSet"/>).</summary>
    public IReadOnlyList<Probe> Probes { get; init; } = [];

    /// <summary>What all edits in force together may cost on the probes: an edit may be asked to cost less, none may cost more.</summary>
    /// <value>Null: as much as each edit's <see cref="EditOptions"/> allow.</value>
    public DriftBudget? Budget { get; init; }

    /// <summary>How the updates of edits are kept.</summary>
    public FactorStorage Factors { get; init; } = new();

    /// <summary>
    /// For each replica, for each of its stages, the name of the silo that holds it, which has the GPU for it. A stage is there and nowhere
    /// else.
    /// </summary>
    public required IReadOnlyList<IReadOnlyList<string>> Replicas { get; init; }

    /// <summary>Names of the silos that may run the coordinator, and the trainer, best first. Empty: all that hold stages.</summary>
    public IReadOnlyList<string> Coordinators { get; init; } = [];

    /// <summary>For each replica, the keys of its stages.</summary>
    internal IReadOnlyList<IReadOnlyList<ShardKey>> Keys =>
        [.. Replicas.Select((stages, replica) =>
        (IReadOnlyList<ShardKey>)[.. stages.Select((_, stage) => new ShardKey(Model, replica, stage))])];

    /// <summary>The shards of one silo.</summary>
    public IEnumerable<ShardOptions> ShardsOf(string silo) => KeysOf(silo)
        .Select((key, i) => new ShardOptions(ModelDirectory, Editor, key.Stage, Replicas[key.Replica].Count, DType, key.Replica, Factors,
            DeviceOf(silo, i), MaxBatch));

    /// <summary>The training shards of one silo: a run's replicas and stages are those of the layout.</summary>
    public IEnumerable<TrainingShardOptions> TrainingShardsOf(string silo) => KeysOf(silo)
        .Select((key, i) => new TrainingShardOptions(ModelDirectory, new(key.Replica, key.Stage), DType, DeviceOf(silo, i)));

    /// <summary>Names of the silos that may hold a grain, best first.</summary>
    internal IEnumerable<string> SilosOf(GrainType type, string key)
    {
        if (type == PinnedPlacement.Coordinator || type == PinnedPlacement.Trainer)
            return key == Model ? Coordinators.Count > 0 ? Coordinators : Replicas.SelectMany(stages => stages).Distinct() : [];
        var shard = ShardKey.Parse(key);
        return shard.Model == Model && SiloOf(shard) is { } silo ? [silo] : [];
    }

    private IEnumerable<ShardKey> KeysOf(string silo) => Keys.SelectMany(stages => stages).Where(key => SiloOf(key) == silo);

    private string DeviceOf(string silo, int shard) => ShardDevices.Of(Devices.GetValueOrDefault(silo) ?? Device, shard);

    private string? SiloOf(ShardKey key) => Replicas.ElementAtOrDefault(key.Replica)?.ElementAtOrDefault(key.Stage);
}
