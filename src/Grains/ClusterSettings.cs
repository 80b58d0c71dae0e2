using MendCluster.Distributed;
using MendCluster.Grains.Interfaces;

namespace MendCluster.Grains;

/// <summary>A cluster that hosts one model. All its silos have the same settings.</summary>
public sealed record ClusterSettings
{
    /// <summary>Of the model, in this cluster.</summary>
    public string Model { get; init; } = "model";

    /// <summary>A Hugging Face directory, the same on every silo.</summary>
    public required string ModelDirectory { get; init; }

    /// <summary>The editor's safetensors file. Null: the model can be asked, not edited.</summary>
    public string? Editor { get; init; }

    /// <summary>The ledger's file, or <c>postgres:</c> and a connection string; within reach of every silo that may be the coordinator's.</summary>
    public required string Ledger { get; init; }

    /// <summary>Of the weights in memory.</summary>
    public WeightType DType { get; init; } = WeightType.Float32;

    /// <summary>Unrelated questions that every edit is tried on.</summary>
    public IReadOnlyList<Probe> Probes { get; init; } = [];

    /// <summary>For each stage the name of the silo that holds it, which has the GPU for it. A stage is there and nowhere else.</summary>
    public required IReadOnlyList<string> Stages { get; init; }

    /// <summary>Names of the silos that may run the coordinator, best first. Empty: all that hold stages.</summary>
    public IReadOnlyList<string> Coordinators { get; init; } = [];

    /// <summary>The shards of one silo.</summary>
    public IEnumerable<ShardOptions> ShardsOf(string silo) => Stages.Index().Where(stage => stage.Item == silo)
        .Select(stage => new ShardOptions(ModelDirectory, Editor, stage.Index, Stages.Count, DType));

    public ShardKey Key(int stage) => new(Model, 0, stage);

    /// <summary>Names of the silos that may hold a grain, best first.</summary>
    internal IEnumerable<string> SilosOf(GrainType type, string key)
    {
        if (type == PinnedPlacement.Coordinator)
            return key == Model ? Coordinators.Count > 0 ? Coordinators : Stages.Distinct() : [];
        var shard = ShardKey.Parse(key);
        return shard.Model == Model && shard.Replica == 0 && shard.Stage >= 0 && shard.Stage < Stages.Count ? [Stages[shard.Stage]] : [];
    }
}
