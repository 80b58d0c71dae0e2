using MendCluster.Contracts;

namespace MendCluster.Cli;

/// <summary>Stands in for the way to a cluster of silos where Microsoft.Orleans cannot be had.</summary>
internal static class ClusterConnection
{
    public static Task<IMendCluster> ConnectAsync(string membership, string model, CancellationToken cancellation) => throw LocalCluster.NotBuilt();

    public static Task<IMendCluster> ConnectToPostgresAsync(string connection, string model, CancellationToken cancellation) => throw LocalCluster.NotBuilt();

    public static Task<IReadOnlyList<ShardStatus?>> StatusAsync(IMendCluster cluster, CancellationToken cancellation) => throw LocalCluster.NotBuilt();

    public static IEditorTrainer Trainer(IMendCluster cluster, TrainingOrder order) => throw LocalCluster.NotBuilt();
}
