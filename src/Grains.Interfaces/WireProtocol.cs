using MendCluster.Contracts;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Metadata;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// What silos and clients say to each other. It goes up with every change that those before it do not understand, and programs of different
/// versions do not speak: a client refuses to connect, a silo is asked nothing by a newer one, and it answers nothing to an older one,
/// which does not ask first: every call says its version.
/// </summary>
public static class WireProtocol
{
    /// <summary>Under this name it travels with every call. Orleans itself lets those pass that name no version.</summary>
    private const string Name = "mend.protocol";

    /// <summary>
    /// Of the interfaces of all grains. 1: records as JSON with their tensors beside it, large ones in pieces; its interfaces named no
    /// version. 2: Orleans' serializer, messages whole. 3: a request and a reply for each call of a shard, in place of one for all;
    /// answers piece by piece, the ledger by pages, reverts with their author. 4: edits in rounds, and what all of them cost together; a
    /// trial begins where an earlier pass left off, and probes are asked apart from the prompt. 5: several edits in one pass.
    /// 6: consolidations. 7: what these replay. 8: their passes from the fitted layer up. 9: edits
    /// that are routed. 10: edits with the keys that later ones go round.
    /// </summary>
    public const ushort Version = 10;

    /// <param name="client">Connected.</param>
    /// <exception cref="MendException">A silo's coordinator speaks another version.</exception>
    public static void Check(IServiceProvider client)
    {
        var coordinator = client.GetRequiredService<GrainInterfaceTypeResolver>().GetGrainInterfaceType(typeof(IEditCoordinatorGrain));
        foreach (var (silo, manifest) in client.GetRequiredService<IClusterManifestProvider>().Current.Silos)
            if (manifest.Interfaces.TryGetValue(coordinator, out var grain) && VersionOf(grain) is var found && found != Version)
                throw Mismatch($"The silo {silo} speaks version {found} of MendCluster's protocol, this program version {Version}.",
                    "take the silos' here, or start the silos anew from this one");
    }

    /// <summary>Says the version with every call of this program.</summary>
    public sealed class Said : IOutgoingGrainCallFilter
    {
        public Task Invoke(IOutgoingGrainCallContext context)
        {
            RequestContext.Set(Name, (int)Version);
            return context.Invoke();
        }
    }

    /// <summary>Refuses calls to our grains that say another, or none.</summary>
    public sealed class Required : IIncomingGrainCallFilter
    {
        public Task Invoke(IIncomingGrainCallContext context)
        {
            var said = RequestContext.Get(Name) as int? ?? 1;
            return said == Version || context.InterfaceMethod.DeclaringType?.Assembly != typeof(WireProtocol).Assembly
                ? context.Invoke()
                : throw Mismatch($"The silo speaks version {Version} of MendCluster's protocol, the program that asks it version {said}.",
                    "take the silos' there");
        }
    }

    private static MendException Mismatch(string message, string hint) =>
        new(MendError.ProtocolMismatch, message, $"Use programs of one release: {hint}.");

    private static int VersionOf(GrainInterfaceProperties grain)
    {
        var said = grain.Properties.GetValueOrDefault(WellKnownGrainInterfaceProperties.Version);
        return int.TryParse(said, out var version) && version > 0 ? version : 1; // Orleans says 0 where none was named
    }
}
