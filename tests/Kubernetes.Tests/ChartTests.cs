using System.Text.Json;
using System.Text.Json.Nodes;
using k8s;
using k8s.Models;

namespace MendCluster.Kubernetes.Tests;

/// <summary>What holds of every rendering.</summary>
public class ChartTests
{
    /// <summary>Further values, so that the matrix has every store and every layout.</summary>
    private static readonly string[][] More =
    [
        [],
        ["--set=model.stages=1,model.replicas=4"],
        ["--set=model.stages=4,model.replicas=3,silo.gpu.count=0,networkPolicy.enabled=true,networkPolicy.monitoringFrom=null"],
        ["--set=fullnameOverride=a-name-that-is-longer-than-a-statefulset-bears,metrics.rules.enabled=true,metrics.serviceMonitor.enabled=true,metrics.dashboards.enabled=true"],
    ];

    public static IEnumerable<object[]> HelmsAndCases =>
        from helm in Tools.Helms from @case in Chart.Cases select new object[] { helm, @case };

    public static IEnumerable<object[]> Matrix => from @case in Chart.Cases from more in More select new object[] { @case, more };

    [ToolTheory("helm")]
    [MemberData(nameof(HelmsAndCases))]
    public void TheChart_PassesHelmsLint(string helm, string @case)
    {
        var (code, output, error) = Tools.Run(Tools.Helm(helm), ["lint", "--strict", Chart.Folder, "--values", Chart.ValuesOf(@case)]);
        Assert.True(code == 0, output + error);
    }

    [ToolTheory("helm")]
    [MemberData(nameof(Matrix))]
    public void BothHelms_RenderTheSame(string @case, string[] more) =>
        Assert.Equal(Chart.Render(@case, more), Chart.RenderBy("3", @case, Chart.Release, Chart.Namespace, more));

    [ToolTheory("helm", "node")]
    [MemberData(nameof(Matrix))]
    public void EveryObject_IsOneThatKubernetesKnows(string @case, string[] more)
    {
        var manifests = Chart.Render(@case, more);
        Assert.NotEmpty(Chart.Read(manifests)); // unknown fields and wrong types
        var objects = new JsonArray([.. Yaml.Documents(manifests)]);
        // enumerations and ranges
        var (code, output, error) = Tools.Run("node", ["tests/Kubernetes.Tests/models.mjs", Tools.Node], objects.ToJsonString());
        Assert.Equal((0, "", ""), (code, output, error));
    }

    [ToolTheory("helm")]
    [MemberData(nameof(Matrix))]
    public void ObjectsFitTogether(string @case, string[] more)
    {
        var objects = Chart.Objects(@case, more);
        var templates = Chart.Templates(objects).ToList();
        foreach (var (owner, selector, template) in Selectors(objects))
        {
            Assert.True(Chart.Selects(selector, template.Metadata.Labels), $"{owner} does not select its own pods");
            Assert.Equal(owner, Assert.Single(templates, other => Chart.Selects(selector, other.Template.Metadata.Labels)).Owner);
        }
        foreach (var service in objects.OfType<V1Service>())
        {
            var selected = templates.Where(template => Chart.Selects(service.Spec.Selector, template.Template.Metadata.Labels)).ToList();
            Assert.NotEmpty(selected);
            Assert.All(service.Spec.Ports,
                port => Assert.All(selected, pods => Assert.Contains(port.TargetPort.Value, PortsOf(pods.Template))));
        }
        foreach (var policy in objects.OfType<V1NetworkPolicy>())
        {
            var pods = Assert.Single(templates,
                template => Chart.Selects(policy.Spec.PodSelector.MatchLabels, template.Template.Metadata.Labels));
            Assert.All(policy.Spec.Ingress.SelectMany(rule => rule.Ports),
                port => Assert.Contains(port.Port.Value, PortsOf(pods.Template)));
            // an empty one is everybody
            Assert.All(policy.Spec.Ingress.Where(rule => rule.FromProperty is not null), rule => Assert.NotEmpty(rule.FromProperty));
        }
        foreach (var set in objects.OfType<V1StatefulSet>())
            Assert.Contains(objects.OfType<V1Service>(), service => service.Metadata.Name == set.Spec.ServiceName
                && service.Spec.ClusterIP == "None" && service.Spec.PublishNotReadyAddresses == true);
        foreach (var path in objects.OfType<V1Ingress>().SelectMany(ingress => ingress.Spec.Rules).SelectMany(rule => rule.Http.Paths))
            Assert.Contains(objects.OfType<V1Service>(), service => service.Metadata.Name == path.Backend.Service.Name
                && service.Spec.Ports.Any(port => port.Name == path.Backend.Service.Port.Name));
        foreach (var monitor in objects.OfType<CustomResource<ServiceMonitorSpec>>())
        {
            var service = Assert.Single(objects.OfType<V1Service>(),
                service => Chart.Selects(monitor.Spec.Selector.MatchLabels, service.Metadata.Labels));
            Assert.All(monitor.Spec.Endpoints, endpoint => Assert.Contains(endpoint.Port, service.Spec.Ports.Select(port => port.Name)));
            Assert.All(templates.Where(pods => Chart.Selects(service.Spec.Selector, pods.Template.Metadata.Labels)),
                pods => Assert.All(monitor.Spec.PodTargetLabels!, label => Assert.Contains(label, pods.Template.Metadata.Labels.Keys)));
        }
        foreach (var (owner, template) in templates)
            foreach (var container in Chart.Containers(template))
            {
                Assert.All(new[] { container.StartupProbe, container.ReadinessProbe,
                    container.LivenessProbe }.Where(probe => probe is not null),
                    probe => Assert.Contains(probe.HttpGet.Port.Value, container.Ports.Select(port => port.Name)));
                Assert.All(container.VolumeMounts, mount => Assert.Contains(mount.Name, VolumesOf(objects, owner, template)));
            }
        Assert.Distinct(objects.Cast<IKubernetesObject<V1ObjectMeta>>().Select(item => (item.Kind, item.Metadata.Name)));
    }

    [ToolTheory("helm")]
    [MemberData(nameof(Matrix))]
    public void NoPod_HasMoreRightsThanItNeeds(string @case, string[] more)
    {
        foreach (var (owner, template) in Chart.Templates(Chart.Objects(@case, more)))
        {
            Assert.False(template.Spec.AutomountServiceAccountToken, owner);
            Assert.True(template.Spec.SecurityContext is { RunAsNonRoot: true, RunAsUser: > 0, SeccompProfile.Type: "RuntimeDefault" },
                owner);
            Assert.All(Chart.Containers(template), container =>
            {
                Assert.True(container.SecurityContext is
                {
                    ReadOnlyRootFilesystem: true, AllowPrivilegeEscalation: false,
                    Privileged: null
                });
                Assert.Equal(["ALL"], container.SecurityContext.Capabilities.Drop);
                Assert.Null(container.SecurityContext.Capabilities.Add);
            });
            Assert.Null(template.Spec.HostNetwork ?? template.Spec.HostPID ?? template.Spec.HostIPC);
        }
    }

    [ToolTheory("helm")]
    [MemberData(nameof(Matrix))]
    public void ADisruptionBudget_AlwaysLetsAPodGo(string @case, string[] more) =>
        Assert.All(Chart.Objects(@case, more).OfType<V1PodDisruptionBudget>(), budget =>
    {
        Assert.Null(budget.Spec.MinAvailable);
        Assert.True(int.Parse(budget.Spec.MaxUnavailable.Value, System.Globalization.CultureInfo.InvariantCulture) >= 1);
    });

    [ToolTheory("helm")]
    [MemberData(nameof(Matrix))]
    public void AnUpdate_TakesOnePodAtATime_AndStartsAllTogether(string @case, string[] more)
    {
        var set = Assert.Single(Chart.Objects(@case, more).OfType<V1StatefulSet>()); // several would roll at once
        Assert.Equal(("Parallel", "RollingUpdate"), (set.Spec.PodManagementPolicy, set.Spec.UpdateStrategy.Type));
        Assert.Null(set.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable);
    }

    [ToolTheory("helm")]
    [InlineData("a", "b", "a", "c")]
    [InlineData("a-b", "c", "a", "b-c")]
    [InlineData("a", "b.c", "a", "b-c")]
    [InlineData("a", "mendcluster", "b", "mendcluster")]
    [InlineData("a-namespace-with-a-name-of-the-greatest-length-that-there-is-12", "a-release-with-the-longest-name-that-helm-takes-00001",
        "a-namespace-with-a-name-of-the-greatest-length-that-there-is-12", "a-release-with-the-longest-name-that-helm-takes-00002")]
    public void TwoReleases_NeverMeetInADatabase(string oneNamespace, string one, string otherNamespace, string other)
    {
        var (first, second) = (Identity(oneNamespace, one), Identity(otherNamespace, other));
        Assert.NotEqual(first.ClusterId, second.ClusterId);
        Assert.NotEqual(first.Ledger, second.Ledger);
        if (oneNamespace == otherNamespace && !one.Contains('.', StringComparison.Ordinal))
            Assert.Empty(first.Names.Intersect(second.Names));
    }

    [ToolFact("helm")]
    public void LongNames_FitWhatKubernetesMakesOfThem()
    {
        const int longest = 63;
        var name = new string('r', 53);
        var objects = Chart.Read(Chart.RenderBy("4", "full", name, Chart.Namespace, "--set=model.replicas=64,model.stages=16"));
        var set = Assert.Single(objects.OfType<V1StatefulSet>());
        Assert.InRange($"{set.Metadata.Name}-1023".Length, 1, longest);
        Assert.InRange($"{set.Metadata.Name}-0123456789".Length, 1, longest); // the label of its revision
        Assert.All(objects.OfType<V1Service>(), service => Assert.InRange(service.Metadata.Name.Length, 1, longest));
        Assert.All(Chart.Templates(objects).SelectMany(pods => pods.Template.Metadata.Labels.Values),
            value => Assert.InRange(value.Length, 0, longest));
    }

    /// <summary>What cannot be changed of an object that is there, of the chart that was released last: an upgrade would fail.</summary>
    [ToolFact("helm")]
    public void WhatKubernetesDoesNotLetChange_IsAsInTheLastRelease()
    {
        var actual = new JsonObject(Chart.Cases.Select(@case =>
            KeyValuePair.Create<string, JsonNode?>(@case, new JsonArray([.. Chart.Objects(@case).Select(Immutable).OfType<JsonNode>()]))));
        var file = Path.Combine(AppContext.BaseDirectory, "immutable.json");
        Assert.True(JsonNode.DeepEquals(JsonNode.Parse(File.ReadAllText(file)), actual),
            $"immutable.json has what was released; the chart has {actual.ToJsonString(new JsonSerializerOptions { WriteIndented = true })}");
    }

    private static JsonNode? Immutable(object item) => item switch
    {
        V1StatefulSet set => JsonSerializer.SerializeToNode(new
        {
            set.Metadata.Name,
            set.Spec.ServiceName,
            set.Spec.PodManagementPolicy,
            set.Spec.Selector.MatchLabels,
            Claims = set.Spec.VolumeClaimTemplates?.Select(claim =>
                new
                {
                    claim.Metadata.Name,
                    claim.Metadata.Labels,
                    claim.Spec.AccessModes,
                    claim.Spec.StorageClassName,
                    Size = $"{claim.Spec.Resources.Requests["storage"]}"
                }),
        }),
        V1Deployment deployment => JsonSerializer.SerializeToNode(new { deployment.Metadata.Name, deployment.Spec.Selector.MatchLabels }),
        V1Service service => JsonSerializer.SerializeToNode(new { service.Metadata.Name, service.Spec.ClusterIP }),
        _ => null,
    };

    private static (string ClusterId, string Ledger, IEnumerable<string> Names) Identity(string @namespace, string release)
    {
        var objects = Chart.Read(Chart.RenderBy("4", "minimal", release, @namespace));
        var silo = Assert.Single(objects.OfType<V1StatefulSet>().Single().Spec.Template.Spec.Containers);
        string Value(string name) => silo.Env.Single(variable => variable.Name == name).Value;
        return (Value("Mend__Cluster__ClusterId"), Value("Mend__Cluster__Ledger"),
            [.. objects.Cast<IKubernetesObject<V1ObjectMeta>>().Select(item => $"{item.Kind} {item.Metadata.Name}")]);
    }

    private static IEnumerable<(string Owner, IDictionary<string, string> Selector, V1PodTemplateSpec Template)> Selectors(IEnumerable<object> objects) => objects.SelectMany(item => item switch
    {
        V1StatefulSet set => [(set.Metadata.Name, set.Spec.Selector.MatchLabels, set.Spec.Template)],
        V1Deployment deployment => [(deployment.Metadata.Name, deployment.Spec.Selector.MatchLabels, deployment.Spec.Template)],
        _ => Array.Empty<(string, IDictionary<string, string>, V1PodTemplateSpec)>(),
    });

    private static IEnumerable<string> PortsOf(V1PodTemplateSpec template) =>
        template.Spec.Containers.SelectMany(container => container.Ports ?? []).Select(port => port.Name);

    private static IEnumerable<string> VolumesOf(IEnumerable<object> objects, string owner, V1PodTemplateSpec template) =>
        template.Spec.Volumes.Select(volume => volume.Name)
        .Concat(objects.OfType<V1StatefulSet>().Where(set => set.Metadata.Name == owner)
            .SelectMany(set => set.Spec.VolumeClaimTemplates ?? []).Select(claim => claim.Metadata.Name));
}
