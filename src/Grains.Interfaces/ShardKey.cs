using MendCluster.Contracts;

namespace MendCluster.Grains.Interfaces;

/// <summary>Names a shard in a cluster: stage of a replica of a model. As text <c>model/replica/stage</c>, the key of its grain.</summary>
public readonly record struct ShardKey(string Model, int Replica, int Stage)
{
    /// <exception cref="MendException">Of another form.</exception>
    public static ShardKey Parse(string key) =>
        key.Split('/') is [{ Length: > 0 } model, var replica, var stage] && int.TryParse(replica, out var r)
        && int.TryParse(stage, out var s)
            ? new(model, r, s)
            : throw new MendException(MendError.InvalidOption, $"'{key}' names no shard.", "A shard is model/replica/stage.");

    public override string ToString() => $"{Model}/{Replica}/{Stage}";
}
