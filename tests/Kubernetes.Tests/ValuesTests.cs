using System.Text.Json.Nodes;

namespace MendCluster.Kubernetes.Tests;

/// <summary>No value is ignored, and none that the chart does not know passes for one.</summary>
public class ValuesTests
{
    /// <summary>For each value of values.yaml another one, and what else has to be said for it to matter.</summary>
    private static readonly Dictionary<string, (string Value, string? With)> Others = new()
    {
        ["nameOverride"] = ("\"other\"", null),
        ["fullnameOverride"] = ("\"other\"", null),
        ["clusterId"] = ("\"other\"", null),
        ["image.repository"] = ("\"other\"", null),
        ["image.tag"] = ("\"other\"", null),
        ["image.digest"] = ($"\"sha256:{new string('a', 64)}\"", null),
        ["image.pullPolicy"] = ("\"Always\"", null),
        ["image.pullSecrets"] = ("[\"other\"]", null),
        ["model.name"] = ("\"other\"", null),
        ["model.directory"] = ("\"other\"", null),
        ["model.editor"] = ("\"other\"", null),
        ["model.stages"] = ("3", null),
        ["model.replicas"] = ("3", null),
        ["model.dtype"] = ("\"Float16\"", null),
        ["model.maxBatch"] = ("8", null),
        ["model.maxGroup"] = ("8", null),
        ["model.consolidate.every"] = ("25", null),
        ["model.consolidate.atRank"] = ("500", null),
        ["model.consolidate.atDrawdown"] = ("0.05", Probes),
        ["model.probes"] = ("[{\"question\":\"q\",\"answer\":\"a\"}]", null),
        ["model.drawdownBudget"] = ("0.1", Probes),
        ["model.klBudget"] = ("0.1", Probes),
        ["model.factors.kept"] = ("0.5", null),
        ["model.factors.dtype"] = ("\"BFloat16\"", null),
        ["modelStore.existingClaim"] = ("\"other\"", null),
        ["modelStore.hostPath"] = ("\"/other\"", "modelStore.existingClaim=\"\",modelStore.hostPath=\"/models\""),
        ["modelStore.download.from"] = ("\"https://other\"", Download),
        ["modelStore.download.tokenSecret.name"] = ("\"other\"", Download),
        ["modelStore.download.tokenSecret.key"] = ("\"other\"", $"{Download},modelStore.download.tokenSecret.name=\"hub\""),
        ["modelStore.perPod.size"] = ("\"1Gi\"", Download),
        ["modelStore.perPod.storageClass"] = ("\"other\"", $"{Download},modelStore.perPod.size=\"1Gi\""),
        ["silo.gpu.resource"] = ("\"amd.com/gpu\"", null),
        ["silo.gpu.count"] = ("2", null),
        ["silo.runtimeClassName"] = ("\"other\"", null),
        ["silo.threads"] = ("3", null),
        ["silo.resources.requests.cpu"] = ("\"3\"", null),
        ["silo.resources.requests.memory"] = ("\"3Gi\"", null),
        ["silo.resources.limits.memory"] = ("\"3Gi\"", null),
        ["silo.nodeSelector"] = ("{\"a\":\"b\"}", null),
        ["silo.tolerations"] = ("[{\"operator\":\"Exists\"}]", null),
        ["silo.affinity"] = ("{\"podAffinity\":{}}", null),
        ["silo.topologySpreadConstraints"] = ("[{\"maxSkew\":1}]", null),
        ["silo.priorityClassName"] = ("\"other\"", null),
        ["silo.podAnnotations"] = ("{\"a\":\"b\"}", null),
        ["silo.extraEnv"] = ("[{\"name\":\"A\",\"value\":\"b\"}]", null),
        ["silo.extraVolumes"] = ("[{\"name\":\"a\",\"emptyDir\":{}}]", null),
        ["silo.extraVolumeMounts"] = ("[{\"name\":\"tmp\",\"mountPath\":\"/a\"}]", null),
        ["silo.terminationGracePeriodSeconds"] = ("100", null),
        ["silo.startupSeconds"] = ("100", null),
        ["silo.updatePartition"] = ("1", null),
        ["silo.dashboard"] = ("true", null),
        ["silo.deadAfterSeconds"] = ("100", null),
        ["front.enabled"] = ("false", null),
        ["front.replicas"] = ("3", null),
        ["front.resources.requests.cpu"] = ("\"3\"", null),
        ["front.resources.requests.memory"] = ("\"3Gi\"", null),
        ["front.resources.limits.memory"] = ("\"3Gi\"", null),
        ["front.nodeSelector"] = ("{\"a\":\"b\"}", null),
        ["front.tolerations"] = ("[{\"operator\":\"Exists\"}]", null),
        ["front.affinity"] = ("{\"podAffinity\":{}}", null),
        ["front.topologySpreadConstraints"] = ("[{\"maxSkew\":1}]", null),
        ["front.priorityClassName"] = ("\"other\"", null),
        ["front.podAnnotations"] = ("{\"a\":\"b\"}", null),
        ["front.extraEnv"] = ("[{\"name\":\"A\",\"value\":\"b\"}]", null),
        ["front.terminationGracePeriodSeconds"] = ("100", null),
        ["front.service.type"] = ("\"NodePort\"", null),
        ["front.service.port"] = ("81", null),
        ["front.service.annotations"] = ("{\"a\":\"b\"}", null),
        ["postgresql.existingSecret"] = ("\"other\"", null),
        ["postgresql.membershipKey"] = ("\"other\"", null),
        ["postgresql.ledgerKey"] = ("\"other\"", null),
        ["postgresql.ledgerSchema"] = ("\"other\"", null),
        ["postgresql.migrate.enabled"] = ("false", null),
        ["postgresql.migrate.ownerSecret"] = ("\"other\"", null),
        ["postgresql.migrate.backoffLimit"] = ("3", null),
        ["postgresql.migrate.activeDeadlineSeconds"] = ("100", null),
        ["auth.apiKeysSecret"] = ("\"other\"", null),
        ["auth.oidc.authority"] = ("\"https://other\"", Oidc),
        ["auth.oidc.audience"] = ("\"other\"", Oidc),
        ["auth.oidc.nameClaim"] = ("\"other\"", Oidc),
        ["trainings.existingClaim"] = ("\"other\"", null),
        ["logTexts"] = ("true", null),
        ["metrics.otlp"] = ("\"http://other\"", null),
        ["front.limits"] = ("{\"waitingEdits\":3}", null),
        ["tls.silo.existingSecret"] = ("\"other\"", null),
        ["tls.silo.certManagerIssuer"] = ("{\"name\":\"a\"}", null),
        ["tls.http.existingSecret"] = ("\"other\"", null),
        ["tls.http.certManagerIssuer"] = ("{\"name\":\"a\"}", null),
        ["ingress.enabled"] = ("true", "ingress.hosts=[\"a.example.org\"]"),
        ["ingress.className"] = ("\"other\"", Ingress),
        ["ingress.annotations"] = ("{\"a\":\"b\"}", Ingress),
        ["ingress.hosts"] = ("[\"b.example.org\"]", Ingress),
        ["ingress.tlsSecret"] = ("\"other\"", Ingress),
        ["networkPolicy.enabled"] = ("false", null),
        ["networkPolicy.httpFrom"] = ("[{\"podSelector\":{}}]", null),
        ["networkPolicy.gatewayFrom"] = ("[{\"podSelector\":{}}]", null),
        ["networkPolicy.monitoringFrom"] = ("[{\"podSelector\":{}}]", null),
        ["pdb.enabled"] = ("false", null),
        ["pdb.maxUnavailable"] = ("2", null),
        ["metrics.serviceMonitor.enabled"] = ("true", null),
        ["metrics.serviceMonitor.interval"] = ("\"7s\"", "metrics.serviceMonitor.enabled=true"),
        ["metrics.serviceMonitor.scrapeTimeout"] = ("\"7s\"", "metrics.serviceMonitor.enabled=true"),
        ["metrics.serviceMonitor.labels"] = ("{\"a\":\"b\"}", "metrics.serviceMonitor.enabled=true"),
        ["metrics.rules.enabled"] = ("true", null),
        ["metrics.rules.labels"] = ("{\"a\":\"b\"}", Rules),
        ["metrics.rules.runbookUrl"] = ("\"https://other/\"", Rules),
        ["metrics.rules.thresholds.editLatencySeconds"] = ("0.77", Rules),
        ["metrics.rules.thresholds.editFailureRatio"] = ("0.77", Rules),
        ["metrics.rules.thresholds.editRefusalRatio"] = ("0.77", Rules),
        ["metrics.rules.thresholds.drawdown"] = ("0.77", Rules),
        ["metrics.rules.thresholds.kl"] = ("0.77", Rules),
        ["metrics.rules.thresholds.editBudget"] = ("77", Rules),
        ["metrics.rules.thresholds.ledgerAppendSeconds"] = ("0.77", Rules),
        ["metrics.rules.thresholds.memory"] = ("0.77", Rules),
        ["metrics.rules.thresholds.deniedPerSecond"] = ("0.77", Rules),
        ["metrics.dashboards.enabled"] = ("true", null),
        ["metrics.dashboards.labels"] = ("{\"a\":\"b\"}", "metrics.dashboards.enabled=true"),
        ["metrics.dashboards.annotations"] = ("{\"a\":\"b\"}", "metrics.dashboards.enabled=true"),
        ["extraObjects"] = ("[{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"}}]", null),
    };

    /// <summary>Asks the cluster for what is there: <see cref="LayoutGuardTests"/>.</summary>
    private static readonly string[] OfUpgrades = ["allowLayoutChange"];

    private const string Download = "modelStore.existingClaim=\"\",modelStore.download.from=\"https://models\"";
    private const string Ingress = "ingress.enabled=true,ingress.hosts=[\"a.example.org\"]";
    private const string Oidc = "auth.oidc.authority=\"https://issuer\",auth.oidc.audience=\"mend\"";
    private const string Probes = "model.probes=[{\"question\":\"q\",\"answer\":\"a\"}]";
    private const string Rules = "metrics.rules.enabled=true";

    private static JsonObject Values => Yaml.File(Path.Combine(Chart.Folder, "values.yaml")).AsObject();

    [ToolFact("helm")]
    public void EveryValue_ChangesWhatIsRendered()
    {
        Assert.Equal(Leaves(Values, "").Select(leaf => leaf.Path).Except(OfUpgrades).Order(StringComparer.Ordinal),
            Others.Keys.Order(StringComparer.Ordinal));
        Parallel.ForEach(Others, other =>
        {
            var with = Set(other.Value.With);
            Assert.True(Chart.Render("minimal", with) != Chart.Render("minimal", [.. with, $"--set-json={other.Key}={other.Value.Value}"]),
                $"{other.Key} changes nothing");
        });
    }

    [ToolFact("helm")]
    public void AKeyThatNoValueHas_IsRefused_Everywhere()
    {
        var objects = Objects(Values, "").Append("modelStore.download.tokenSecret").Distinct().ToList();
        Assert.True(objects.Count > 20);
        Parallel.ForEach(objects, path =>
        {
            var (code, _, error) = Chart.Try("4", "minimal", Chart.Release, Chart.Namespace,
                $"--set={(path.Length > 0 ? path + "." : "")}unheardOf=1");
            Assert.True(code != 0 && error.Contains("unheardOf", StringComparison.Ordinal), $"{path}.unheardOf passed: {error}");
        });
    }

    [ToolTheory("helm")]
    [InlineData("postgresql.existingSecret=\"\"", "postgresql.existingSecret is missing")]
    [InlineData("modelStore.existingClaim=\"\"", "modelStore: give one of existingClaim, hostPath and download.from")]
    [InlineData("modelStore.hostPath=\"/models\"", "modelStore: give one of existingClaim, hostPath and download.from")]
    [InlineData("modelStore.perPod.size=\"1Gi\"",
        "modelStore.perPod.size: a claim for each pod is filled by modelStore.download.from, which is missing")]
    [InlineData("tls.silo.existingSecret=\"a\",tls.silo.certManagerIssuer={\"name\":\"b\"}",
        "tls.silo: give existingSecret or certManagerIssuer, not both")]
    [InlineData("tls.http.certManagerIssuer={\"kind\":\"Issuer\"}", "name")]
    [InlineData("model.klBudget=0.1", "model.drawdownBudget and model.klBudget are measured on model.probes, which are missing")]
    [InlineData("model.drawdownBudget=1.1", "drawdownBudget")]
    [InlineData("auth.oidc.authority=\"https://issuer\"", "auth.oidc: authority and audience belong together")]
    [InlineData("auth.apiKeysSecret=\"\"", "auth: give apiKeysSecret or oidc")]
    [InlineData("ingress.enabled=true", "ingress.hosts is empty")]
    [InlineData("silo.updatePartition=9", "silo.updatePartition is 9, and there are 2 pods")]
    [InlineData("silo.gpu.count=0,model.dtype=\"Float16\"", "model.dtype is Float16, which is for GPUs")]
    [InlineData("model.replicas=0", "model")]
    [InlineData("model.name=\"a/b\"", "model")]
    [InlineData("pdb.maxUnavailable=0", "pdb")]
    [InlineData("metrics.serviceMonitor.interval=\"soon\"", "interval")]
    public void WhatCannotBe_IsRefused_AndSaid(string values, string said)
    {
        foreach (var helm in Tools.Helms)
        {
            var (code, _, error) = Chart.Try(helm, "minimal", Chart.Release, Chart.Namespace, Set(values));
            Assert.NotEqual(0, code);
            Assert.Contains(said, error, StringComparison.Ordinal);
        }
    }

    private static string[] Set(string? values) => values is null ? [] : [.. values.Split(',', StringSplitOptions.None)
        .Aggregate(new List<string>(),
            (all, part) => { if (part.Contains('=', StringComparison.Ordinal)) all.Add(part); else all[^1] += "," + part; return all; })
        .Select(value => $"--set-json={value}")];

    private static IEnumerable<(string Path, JsonNode? Value)> Leaves(JsonObject values, string at) => values.SelectMany(entry =>
        entry.Value is JsonObject { Count: > 0 } inner && !IsFree(at + entry.Key) ? Leaves(inner, $"{at}{entry.Key}.")
        : [(at + entry.Key, entry.Value)]);

    private static IEnumerable<string> Objects(JsonObject values, string at) => values.SelectMany(entry =>
        entry.Value is JsonObject { Count: > 0 } inner && !IsFree(at + entry.Key) && !at.EndsWith("resources.", StringComparison.Ordinal)
        ? Objects(inner, $"{at}{entry.Key}.") : [])
        .Append(at.TrimEnd('.'));

    /// <summary>Has keys of the user's.</summary>
    private static bool IsFree(string path) => path.EndsWith("labels", StringComparison.Ordinal);
}
