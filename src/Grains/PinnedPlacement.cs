using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;
using Orleans.Placement;
using Orleans.Runtime.Placement;

namespace MendCluster.Grains;

/// <summary>A grain is on the silo that the cluster's settings name for it, and nowhere else: that is where its weights are.</summary>
[GenerateSerializer, Immutable, SuppressReferenceTracking, Alias("mend.PinnedPlacement")]
public sealed class PinnedPlacement : PlacementStrategy
{
    internal static readonly GrainType Coordinator = GrainType.Create(CoordinatorType);
    internal static readonly GrainType Trainer = GrainType.Create(TrainerType);

    internal const string CoordinatorType = "mend.coordinator";
    internal const string TrainerType = "mend.trainer";
    internal const string ShardType = "mend.shard";
    internal const string TrainingShardType = "mend.trainingshard";
}

[AttributeUsage(AttributeTargets.Class)]
public sealed class PinnedPlacementAttribute() : PlacementAttribute(new PinnedPlacement());

/// <summary>
/// Silos are told apart by their names, which membership has; one that was started again under its name takes its grains over.
/// </summary>
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
        if (silo is not null)
            return Task.FromResult(silo.SiloAddress);
        var names = string.Join(" or ", wanted);
        throw new MendException(MendError.ShardLost, wanted.Count == 0 ? $"The cluster's layout has no place for {grain}."
            : members.Values.Any(member => member.Status == SiloStatus.Active && wanted.Contains(member.Name))
                ? $"{grain} belongs on {names}, which is up and not known to speak version {WireProtocol.Version} of the protocol."
                : $"No silo for {grain} is up; it belongs on {names}.",
            "Start that silo, of the same release as this one, or correct the layout, and send the request again.");
    }
}
