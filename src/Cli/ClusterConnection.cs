using MendCluster.Client.Orleans;
using MendCluster.Contracts;

namespace MendCluster.Cli;

/// <summary>The way to a cluster of silos.</summary>
internal static class ClusterConnection
{
    public static async Task<IMendCluster> ConnectAsync(string membership, string model, CancellationToken cancellation,
        ClusterTls? tls = null) =>
        await OrleansCluster.ConnectAsync(membership, model, tls: tls, cancellation: cancellation);

    public static async Task<IMendCluster> ConnectToPostgresAsync(
        string connection, string model, string? clusterId, ClusterTls? tls, CancellationToken cancellation) =>
        await OrleansCluster.ConnectToPostgresAsync(connection, model, clusterId, tls, cancellation);

    /// <summary>Of every stage's shard, in order; null where none answers.</summary>
    public static Task<IReadOnlyList<ShardStatus?>> StatusAsync(IMendCluster cluster, CancellationToken cancellation) =>
        ((OrleansCluster)cluster).StatusAsync(cancellation);

    /// <summary>The runs of the cluster's trainer.</summary>
    public static ITrainingJobs TrainingJobs(IMendCluster cluster) => ((OrleansCluster)cluster).TrainingJobs;

    /// <summary>Trains an editor of the cluster's model there.</summary>
    public static IEditorTrainer Trainer(IMendCluster cluster, TrainingJobRequest order) => ((OrleansCluster)cluster).Trainer(order);
}
