using System.Net;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Grains;
using MendCluster.Grains.Interfaces;
using MendCluster.Server;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Options;

namespace MendCluster.Silo;

/// <summary>Whether a silo can be started with its settings. Every fault names the key that it is at, and what would do.</summary>
public sealed class SiloSettingsValidator : IValidateOptions<SiloSettings>
{
    private const string Section = "Mend";

    private const int MaxPort = ushort.MaxValue;

    private static readonly TimeSpan MinDeadAfter = TimeSpan.FromSeconds(1);

    /// <summary>Reads the settings and validates them, before anything of the silo is made.</summary>
    /// <exception cref="OptionsValidationException">With a line for each fault.</exception>
    public static SiloSettings Read(IConfiguration configuration) =>
        StrictSettings.Read<SiloSettings>(configuration.GetSection(Section), Faults);

    public ValidateOptionsResult Validate(string? name, SiloSettings options)
    {
        List<string> faults = [.. Faults(options).Select(fault => $"{Section}:{fault}.")];
        return faults.Count > 0 ? ValidateOptionsResult.Fail(faults) : ValidateOptionsResult.Success;
    }

    private static IEnumerable<string> Faults(SiloSettings silo)
    {
        if (string.IsNullOrEmpty(silo.Name))
            yield return "Name is missing; it is one of the names in Mend:Cluster:Replicas";
        if (!IPAddress.TryParse(silo.Address, out _))
            yield return $"Address is '{silo.Address}'; it is an IP address";
        foreach (var (key, port) in new[] { (nameof(silo.SiloPort), silo.SiloPort), (nameof(silo.GatewayPort), silo.GatewayPort) })
            if (port is < 1 or > MaxPort)
                yield return $"{key} is {port}; it is from 1 to {MaxPort}";
        if (silo.GatewayPort == silo.SiloPort)
            yield return $"GatewayPort is {silo.GatewayPort}, and so is Mend:SiloPort; they are two ports";
        if (silo.MembershipFile is null == silo.MembershipPostgreSql is null)
            yield return $"MembershipFile and Mend:MembershipPostgreSql are {(silo.MembershipFile is null ? "missing" : "both given")}";
        if (silo.DeadAfter < MinDeadAfter)
            yield return $"DeadAfter is {silo.DeadAfter}; it is {MinDeadAfter} or more";
        if (silo.Dashboard && silo.Server is null)
            yield return "Dashboard is true, and Mend:Server is missing, which would have it";
        foreach (var fault in silo.Server?.Faults() ?? [])
            yield return $"Server:{fault}";
        foreach (var fault in silo.Tls?.Faults() ?? [])
            yield return $"Tls:{fault}";
        if (silo.Cluster is null)
            yield return "Cluster is missing; it has Model, ModelDirectory, Editor, Ledger and Replicas";
        else
            foreach (var fault in Faults(silo.Cluster))
                yield return $"Cluster:{fault}";
    }

    private static IEnumerable<string> Faults(ClusterSettings cluster)
    {
        foreach (var (key, id) in new[] { (nameof(cluster.ClusterId), cluster.ClusterId), (nameof(cluster.ServiceId), cluster.ServiceId) })
            if (ClusterIdentity.Fault(id) is { } fault)
                yield return $"{key} {fault}";
        if (string.IsNullOrEmpty(cluster.Model) || cluster.Model.Contains('/', StringComparison.Ordinal))
            yield return $"Model is '{cluster.Model}'; it is a name without a slash";
        if (string.IsNullOrEmpty(cluster.ModelDirectory))
            yield return "ModelDirectory is missing; it is a Hugging Face directory";
        if (string.IsNullOrEmpty(cluster.Ledger))
            yield return "Ledger is missing; it is a file, or postgres: and a connection string";
        foreach (var (key, most) in new[] { (nameof(cluster.MaxBatch), cluster.MaxBatch), (nameof(cluster.MaxGroup), cluster.MaxGroup) })
            if (most < 1)
                yield return $"{key} is {most}; it is at least 1";
        foreach (var fault in cluster.Consolidate.Faults(cluster.Probes?.Count ?? 0))
            yield return $"Consolidate:{fault}";
        if (cluster.Factors is not { Kept: > 0 and <= 1 })
            yield return $"Factors:{nameof(FactorStorage.Kept)} is {cluster.Factors?.Kept}; it is a fraction, more than 0 and at most 1";
        if (cluster.Replicas is null or { Count: 0 })
            yield return "Replicas is missing; it has for each replica the names of its stages' silos";
        foreach (var (i, stages) in (cluster.Replicas ?? []).Index())
            if (stages is null or { Count: 0 } || stages.Any(string.IsNullOrEmpty))
                yield return $"Replicas:{i} has a stage without a silo; it has for each stage a silo's name";
        foreach (var (key, list) in (cluster.Devices ?? new Dictionary<string, string>())
            .Select(silo => ($"Devices:{silo.Key}", silo.Value)).Prepend(("Device", cluster.Device)))
            if (!IsDevices(list))
                yield return $"{key} is '{list}'; it is cpu, cuda, cuda:1 or a list such as cuda:0,cuda:1";
        foreach (var silo in (cluster.Devices?.Keys ?? []).Except((cluster.Replicas ?? []).SelectMany(stages => stages ?? [])))
            yield return $"Devices:{silo} is of no silo that Replicas has";
        foreach (var (i, probe) in (cluster.Probes ?? []).Index())
            if (probe.Question.Length == 0 || probe.Answer.Length == 0)
                yield return $"Probes:{i} has an empty Question or Answer";
        foreach (var fault in cluster.Budget?.Faults(cluster.Probes?.Count ?? 0) ?? [])
            yield return $"Budget:{fault}";
    }

    private static bool IsDevices(string list)
    {
        try
        {
            _ = ShardDevices.Of(list, 0);
            return true;
        }
        catch (MendException)
        {
            return false;
        }
    }
}
