using MendCluster.Contracts;

namespace MendCluster.Bench;

/// <summary>Stands in where Microsoft.Orleans cannot be had: the figures on silos are left out.</summary>
internal static class SiloConnection
{
    public static Task<IMendCluster?> ConnectAsync(string membership) => Task.FromResult<IMendCluster?>(null);
}
