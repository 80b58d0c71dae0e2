using MendCluster.Contracts;
using Microsoft.Extensions.DependencyInjection;
using Orleans.Metadata;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// What silos and clients say to each other. It goes up with every change that those before it do not understand, and programs of different
/// versions do not speak: a client refuses to connect, and a silo is asked nothing by a newer one.
/// </summary>
public static class WireProtocol
{
    /// <summary>
    /// Of the interfaces of all grains. 1: records as JSON with their tensors beside it, large ones in pieces; its interfaces named no
    /// version. 2: Orleans' serializer, messages whole.
    /// </summary>
    public const ushort Version = 2;

    /// <param name="client">Connected.</param>
    /// <exception cref="MendException">A silo's coordinator speaks another version.</exception>
    public static void Check(IServiceProvider client)
    {
        var coordinator = client.GetRequiredService<GrainInterfaceTypeResolver>().GetGrainInterfaceType(typeof(IEditCoordinatorGrain));
        foreach (var (silo, manifest) in client.GetRequiredService<IClusterManifestProvider>().Current.Silos)
            if (manifest.Interfaces.TryGetValue(coordinator, out var grain) && VersionOf(grain) is var found && found != Version)
                throw new MendException(MendError.ProtocolMismatch,
                    $"The silo {silo} speaks version {found} of MendCluster's protocol, this program version {Version}.",
                    "Use programs of one release: take the silos' here, or start the silos anew from this one.");
    }

    private static int VersionOf(GrainInterfaceProperties grain)
    {
        var said = grain.Properties.GetValueOrDefault(WellKnownGrainInterfaceProperties.Version);
        return int.TryParse(said, out var version) && version > 0 ? version : 1; // Orleans says 0 where none was named
    }
}
