namespace MendCluster.Engine.Models;

/// <summary>A model's configuration or input cannot be used: where, which key or argument, why and what would do.</summary>
public sealed class ModelException(string where, string what, string reason)
    : Exception($"{where}: {what}: {reason}")
{
    public string Where { get; } = where;

    public string What { get; } = what;
}
