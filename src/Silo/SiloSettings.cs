using MendCluster.Contracts;
using MendCluster.Grains;
using MendCluster.Server;

namespace MendCluster.Silo;

/// <summary>
/// One silo process. Read from the file that <c>--settings</c> names, then from variables such as <c>Mend__Name</c>, then from the command
/// line.
/// </summary>
public sealed record SiloSettings
{
    /// <summary>Decides which stages are here: see <see cref="ClusterSettings.Replicas"/>.</summary>
    public string Name { get; init; } = "";

    /// <summary>Where other silos and clients reach this one.</summary>
    /// <value>127.0.0.1.</value>
    public string Address { get; init; } = "127.0.0.1";

    /// <summary>Silos speak to each other here.</summary>
    /// <value>11111.</value>
    public int SiloPort { get; init; } = 11111;

    /// <summary>Clients speak to the silo here.</summary>
    /// <value>30000.</value>
    public int GatewayPort { get; init; } = 30000;

    /// <summary>Membership of a cluster on one machine: a file.</summary>
    public string? MembershipFile { get; init; }

    /// <summary>Membership of a cluster of machines: a connection string. The tables are made by <c>mend cluster migrate</c>.</summary>
    public string? MembershipPostgreSql { get; init; }

    /// <summary>
    /// In a cluster of machines, how long a silo may be silent before the others count it as dead. One that copies a large tensor is slow
    /// to answer.
    /// </summary>
    /// <value>50 seconds.</value>
    public TimeSpan DeadAfter { get; init; } = TimeSpan.FromSeconds(50);

    public ClusterSettings? Cluster { get; init; }

    /// <summary>Null: the silo has no HTTP, and so no health and no metrics either.</summary>
    public ServerSettings? Server { get; init; }

    /// <summary>
    /// Whether Orleans' own dashboard is at /orleans/ of <see cref="Server"/>, for those with the right admin: calls and activations of
    /// grains, silo by silo. Every silo of the cluster needs it then.
    /// </summary>
    /// <value>false.</value>
    public bool Dashboard { get; init; }

    /// <summary>Certificates by which silos and clients know each other. Null: whoever reaches the ports of Orleans is let in.</summary>
    public ClusterTls? Tls { get; init; }
}
