using MendCluster.Contracts;
using Orleans.Placement;
using Orleans.Runtime.Placement;

namespace MendCluster.Grains;

/// <summary>A grain is on the silo that the cluster's settings name for it, and nowhere else: that is where its weights are.</summary>
[GenerateSerializer, Immutable, SuppressReferenceTracking, Alias("mend.PinnedPlacement")]
public sealed class PinnedPlacement : PlacementStrategy
{
    internal static readonly GrainType Coordinator = GrainType.Create(CoordinatorType);

    internal const string CoordinatorType = "mend.coordinator";
    internal const string ShardType = "mend.shard";
    internal const string TrainingShardType = "mend.trainingshard";
}

[AttributeUsage(AttributeTargets.Class)]
public sealed class PinnedPlacementAttribute() : PlacementAttribute(new PinnedPlacement());

/// <summary>Silos are told apart by their names, which membership has; one that was started again under its name takes its grains over.</summary>
public sealed class PinnedPlacementDirector(ClusterSettings settings, IClusterMembershipService membership) : IPlacementDirector
{
    public Task<SiloAddress> OnAddActivation(PlacementStrategy strategy, PlacementTarget target, IPlacementContext context)
    {
        var grain = target.GrainIdentity;
        List<string> wanted = [.. settings.SilosOf(grain.Type, grain.Key.ToString()!)];
        var members = membership.CurrentSnapshot.Members;
        var silo = context.GetCompatibleSilos(target)
            .Select(address => members.GetValueOrDefault(address))
            .Where(member => member is { Status: SiloStatus.Active } && wanted.Contains(member.Name))
            .OrderBy(member => wanted.IndexOf(member!.Name)).ThenByDescending(member => member!.SiloAddress.Generation)
            .FirstOrDefault();
        return silo is not null ? Task.FromResult(silo.SiloAddress) : throw new MendException(MendError.ShardLost,
            wanted.Count == 0 ? $"The cluster's layout has no place for {grain}." : $"No silo for {grain} is up; it belongs on {string.Join(" or ", wanted)}.",
            "Start that silo, or correct the layout, and send the request again.");
    }
}
