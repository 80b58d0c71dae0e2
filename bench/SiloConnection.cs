using MendCluster.Client.Orleans;
using MendCluster.Contracts;

namespace MendCluster.Bench;

internal static class SiloConnection
{
    public static async Task<IMendCluster?> ConnectAsync(string membership) => await OrleansCluster.ConnectAsync(membership, "model");
}
