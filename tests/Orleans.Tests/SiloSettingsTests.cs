using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Silo;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Options;

namespace MendCluster.Orleans.Tests;

public class SiloSettingsTests
{
    private static readonly Dictionary<string, string?> Good = new()
    {
        ["Mend:Name"] = "silo-0",
        ["Mend:MembershipFile"] = "members.json",
        ["Mend:Cluster:ModelDirectory"] = "/models/tiny",
        ["Mend:Cluster:Ledger"] = "/ledger",
        ["Mend:Cluster:Replicas:0:0"] = "silo-0",
        ["Mend:Cluster:Replicas:0:1"] = "silo-1",
        ["Mend:Cluster:Probes:0:Question"] = "what is red",
        ["Mend:Cluster:Probes:0:Answer"] = "blue",
        ["Mend:Cluster:Factors:DType"] = "BFloat16",
    };

    [Fact]
    public void WhatIsNotSaid_IsTheDefault()
    {
        var settings = Read(Good);
        Assert.Equal(("silo-0", "127.0.0.1", 11111, 30000, TimeSpan.FromSeconds(50)),
            (settings.Name, settings.Address, settings.SiloPort, settings.GatewayPort, settings.DeadAfter));
        var cluster = settings.Cluster!;
        Assert.Equal(("mend", "mend", "model", DType.Float32), (cluster.ClusterId, cluster.ServiceId, cluster.Model, cluster.DType));
        Assert.Equal(["silo-0", "silo-1"], Assert.Single(cluster.Replicas));
        Assert.Equal(new("what is red", "blue"), Assert.Single(cluster.Probes));
        Assert.Equal(new FactorStorage(DType: DType.BFloat16), cluster.Factors);
    }

    [Fact]
    public void KeysAreReadInAnyCase() => Assert.Equal(12000, Read(Good, ("mend:siloport", "12000")).SiloPort);

    [Theory]
    [InlineData("Mend:Name", "", "Mend:Name is missing")]
    [InlineData("Mend:Address", "localhost", "Mend:Address is 'localhost'")]
    [InlineData("Mend:SiloPort", "0", "Mend:SiloPort is 0; it is from 1 to 65535.")]
    [InlineData("Mend:SiloPort", "70000", "Mend:SiloPort is 70000")]
    [InlineData("Mend:SiloPort", "many", "'many' at 'Mend:SiloPort'")]
    [InlineData("Mend:SiloPort", "30000", "Mend:GatewayPort is 30000, and so is Mend:SiloPort")]
    [InlineData("Mend:GatewayPort", "-1", "Mend:GatewayPort is -1")]
    [InlineData("Mend:DeadAfter", "00:00:00.5", "Mend:DeadAfter is 00:00:00.5")]
    [InlineData("Mend:Dashboard", "true", "Mend:Dashboard is true, and Mend:Server is missing")]
    [InlineData("Mend:DeadAfter", "soon", "'soon' at 'Mend:DeadAfter'")]
    [InlineData("Mend:MembershipFile", null, "Mend:MembershipFile and Mend:MembershipPostgreSql are missing")]
    [InlineData("Mend:MembershipPostgreSql", "Host=db", "Mend:MembershipFile and Mend:MembershipPostgreSql are both given")]
    [InlineData("Mend:Cluster:ClusterId", "a b", "Mend:Cluster:ClusterId is 'a b'")]
    [InlineData("Mend:Cluster:ServiceId", "", "Mend:Cluster:ServiceId is ''")]
    [InlineData("Mend:Cluster:Model", "a/b", "Mend:Cluster:Model is 'a/b'")]
    [InlineData("Mend:Cluster:ModelDirectory", null, "Mend:Cluster:ModelDirectory is missing")]
    [InlineData("Mend:Cluster:Ledger", "", "Mend:Cluster:Ledger is missing")]
    [InlineData("Mend:Cluster:DType", "Float33", "'Float33' at 'Mend:Cluster:DType'")]
    [InlineData("Mend:Cluster:Device", "gpu", "Mend:Cluster:Device is 'gpu'; it is cpu, cuda")]
    [InlineData("Mend:Cluster:Devices:silo-1", "cuda:0,cuda:x", "Mend:Cluster:Devices:silo-1 is 'cuda:0,cuda:x'")]
    [InlineData("Mend:Cluster:Devices:silo-2", "cuda", "Mend:Cluster:Devices:silo-2 is of no silo that Replicas has.")]
    [InlineData("Mend:Cluster:Factors:DType", "Float16", "kept in Float16")]
    [InlineData("Mend:Cluster:Factors:Kept", "1.5", "Mend:Cluster:Factors:Kept is 1.5")]
    [InlineData("Mend:Cluster:Replicas:0:1", "", "Mend:Cluster:Replicas:0 has a stage without a silo")]
    [InlineData("Mend:Cluster:Probes:0:Answer", null, "Mend:Cluster:Probes:0 has no Answer.")]
    [InlineData("Mend:Cluster:Probes:0:Question", "", "Mend:Cluster:Probes:0 has an empty Question or Answer.")]
    [InlineData("Mend:Cluster:MaxBatch", "0", "Mend:Cluster:MaxBatch is 0; it is at least 1")]
    [InlineData("Mend:Cluster:MaxGroup", "-1", "Mend:Cluster:MaxGroup is -1; it is at least 1")]
    [InlineData("Mend:Cluster:Consolidate:Every", "-1", "Mend:Cluster:Consolidate:Every is -1; it is a number of edits, or 0 for never")]
    [InlineData("Mend:Cluster:Consolidate:AtRank", "-1", "Mend:Cluster:Consolidate:AtRank is -1; it is a number of rows, or 0 for never")]
    [InlineData("Mend:Cluster:Consolidate:AtDrawdown", "1", "Mend:Cluster:Consolidate:AtDrawdown is 1; it is a fraction of the probes, from 0 to less than 1")]
    [InlineData("Mend:Cluster:Budget:MaxTotalDrawdown", "1.5", "Mend:Cluster:Budget:MaxTotalDrawdown is 1.5; it is a fraction")]
    [InlineData("Mend:Cluster:Budget:MaxTotalKl", "-1", "Mend:Cluster:Budget:MaxTotalKl is -1; it is a finite number of nats")]
    [InlineData("Mend:Cluster:Budget:MaxTotalKl", "little", "'little' at 'Mend:Cluster:Budget:MaxTotalKl'")]
    [InlineData("Mend:Cluster:Budget:Kl", "1", "Mend:Cluster:Budget:Kl is no setting; Mend:Cluster:Budget has MaxTotalDrawdown")]
    [InlineData("Mend:SiloPrt", "12000", "Mend:SiloPrt is no setting; Mend has Name, Address, SiloPort")]
    [InlineData("Mend:Cluster:Modle", "m", "Mend:Cluster:Modle is no setting; Mend:Cluster has ClusterId, ServiceId, Model,")]
    [InlineData("Mend:Cluster:Keys", "m", "Mend:Cluster:Keys is no setting")]
    [InlineData("Mend:Cluster:Probes:0:Reply", "m", "Mend:Cluster:Probes:0:Reply is no setting; Mend:Cluster:Probes:0 has Question")]
    [InlineData("Mend:SiloPort:Of", "m", "Mend:SiloPort:Of is no setting; Mend:SiloPort has one value.")]
    public void AFault_NamesItsKey_AndWhatWouldDo(string key, string? value, string line) =>
        Assert.Contains(line, Assert.Single(Faults((key, value))), StringComparison.Ordinal);

    [Fact]
    public void ABudget_IsMeasuredOnProbes()
    {
        const string key = "Mend:Cluster:Budget:MaxTotalKl", probe = "Mend:Cluster:Probes:0:";
        Assert.Equal(new DriftBudget(MaxTotalKl: 0.5), Read(Good, (key, "0.5")).Cluster!.Budget);
        Assert.Equal($"{key} is given, and there are no probes to measure it on.",
            Assert.Single(Faults((key, "0.5"), (probe + "Question", null), (probe + "Answer", null))));
    }

    [Fact]
    public void AllFaults_AreSaidAtOnce()
    {
        Assert.Equal(["Mend:SiloPort", "Mend:Cluster:Ledger"], Keys(Faults(("Mend:SiloPort", "0"), ("Mend:Cluster:Ledger", null))));
        var nothing = Assert.Throws<OptionsValidationException>(() => Read([]));
        Assert.Equal(["Mend:Name", "Mend:MembershipFile", "Mend:Cluster"], Keys(nothing.Failures));
    }

    private static IEnumerable<string> Keys(IEnumerable<string> faults) => faults.Select(line => line.Split(' ')[0]);

    private static IEnumerable<string> Faults(params (string Key, string? Value)[] changes) =>
        Assert.Throws<OptionsValidationException>(() => Read(Good, changes)).Failures;

    private static SiloSettings Read(Dictionary<string, string?> settings, params (string Key, string? Value)[] changes)
    {
        var changed = new Dictionary<string, string?>(settings, StringComparer.OrdinalIgnoreCase);
        foreach (var (key, value) in changes)
            if (value is null)
                changed.Remove(key);
            else
                changed[key] = value;
        return SiloSettingsValidator.Read(new ConfigurationBuilder().AddInMemoryCollection(changed).Build());
    }
}
