using k8s.Models;

namespace MendCluster.Kubernetes.Tests;

/// <summary>Who reaches which port, by the policies as they are rendered: whoever reaches a silo's gateway may edit.</summary>
public class NetworkPolicyTests
{
    private static readonly Dictionary<string, string> Name = new() { ["app.kubernetes.io/name"] = "mendcluster" };

    /// <summary>Pods that knock, by labels and namespace.</summary>
    private static readonly Dictionary<string, (string Namespace, Dictionary<string, string> Labels)> Callers = new()
    {
        ["silo"] = (Chart.Namespace, Of(Chart.Release, "silo")),
        ["front"] = (Chart.Namespace, Of(Chart.Release, "front")),
        ["migrate"] = (Chart.Namespace, Of(Chart.Release, "migrate")),
        ["silo of another release"] = (Chart.Namespace, Of("other", "silo")),
        ["front of another release"] = (Chart.Namespace, Of("other", "front")),
        ["silo of the same release elsewhere"] = ("elsewhere", Of(Chart.Release, "silo")),
        ["neighbour"] = (Chart.Namespace, new() { ["app"] = "shop" }),
        ["gateway client"] = (Chart.Namespace, new() { ["mendcluster.io/gateway-client"] = "true" }),
        ["ingress"] = ("ingress-nginx", new() { ["app"] = "nginx" }),
        ["prometheus"] = ("monitoring", new() { ["app"] = "prometheus" }),
    };

    [ToolTheory("helm")]
    [InlineData("minimal", "silo", "silo", "silo,gateway,management")]
    [InlineData("minimal", "front", "silo", "gateway,management")]
    [InlineData("minimal", "migrate", "silo", "management")]
    [InlineData("minimal", "silo of another release", "silo", "management")]
    [InlineData("minimal", "front of another release", "silo", "management")]
    [InlineData("minimal", "silo of the same release elsewhere", "silo", "management")]
    [InlineData("minimal", "neighbour", "silo", "management")]
    [InlineData("minimal", "gateway client", "silo", "management")]
    [InlineData("minimal", "neighbour", "front", "http,management")]
    [InlineData("minimal", "ingress", "front", "http,management")]
    [InlineData("full", "silo", "silo", "silo,gateway")]
    [InlineData("full", "front", "silo", "gateway")]
    [InlineData("full", "gateway client", "silo", "gateway")]
    [InlineData("full", "neighbour", "silo", "")]
    [InlineData("full", "prometheus", "silo", "management")]
    [InlineData("full", "prometheus", "front", "management")]
    [InlineData("full", "ingress", "silo", "")]
    [InlineData("full", "ingress", "front", "http")]
    [InlineData("full", "neighbour", "front", "")]
    [InlineData("full", "silo", "front", "")]
    public void OnlyWhoIsNamed_ReachesAPort(string @case, string caller, string component, string ports) =>
        Assert.Equal(ports, string.Join(',', Reached(Chart.Objects(@case), caller, component)));

    [ToolFact("helm")]
    public void WithoutFronts_NobodyIsLetInToTheGatewayByMistake() =>
        Assert.Equal(["management"], Reached(Chart.Objects("cpu", "--set=networkPolicy.enabled=true"), "neighbour", "silo"));

    private static Dictionary<string, string> Of(string release, string component) =>
        new(Name) { ["app.kubernetes.io/instance"] = release, ["app.kubernetes.io/component"] = component };

    private static IEnumerable<string> Reached(IReadOnlyCollection<object> objects, string caller, string component)
    {
        var target = Chart.Templates(objects)
            .Single(pods => pods.Template.Metadata.Labels["app.kubernetes.io/component"] == component).Template;
        var policies = objects.OfType<V1NetworkPolicy>()
            .Where(policy => Chart.Selects(policy.Spec.PodSelector.MatchLabels, target.Metadata.Labels)).ToList();
        var (@namespace, labels) = Callers[caller];
        return target.Spec.Containers.Single().Ports.Select(port => port.Name)
            .Where(port => policies.Count == 0 || policies.Any(policy => policy.Spec.Ingress.Any(rule =>
            (rule.Ports ?? []).Any(allowed => allowed.Port.Value == port)
            && (rule.FromProperty is not { Count: > 0 } peers || peers.Any(peer => IsPeer(peer, @namespace, labels))))));
    }

    /// <summary>A peer without a namespace is of the policy's own.</summary>
    private static bool IsPeer(V1NetworkPolicyPeer peer, string @namespace, Dictionary<string, string> labels)
    {
        Assert.Null(peer.IpBlock);
        var inNamespace = peer.NamespaceSelector is not { } selector ? @namespace == Chart.Namespace
            : selector.MatchLabels is null
            || Chart.Selects(selector.MatchLabels, new Dictionary<string, string> { ["kubernetes.io/metadata.name"] = @namespace });
        return inNamespace && (peer.PodSelector is null || Chart.Selects(peer.PodSelector.MatchLabels, labels));
    }
}
