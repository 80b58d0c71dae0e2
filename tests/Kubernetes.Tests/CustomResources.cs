using k8s;
using k8s.Models;

namespace MendCluster.Kubernetes.Tests;

// The fields of other projects' objects that the chart uses, for strict reading; their values are held against those projects' own schemas
// by models.mjs.

public sealed record CustomResource<TSpec> : IKubernetesObject<V1ObjectMeta>
{
    public required string ApiVersion { get; set; }

    public required string Kind { get; set; }

    public required V1ObjectMeta Metadata { get; set; }

    public required TSpec Spec { get; init; }
}

public sealed record ServiceMonitorSpec
{
    public string? JobLabel { get; init; }

    public List<string>? PodTargetLabels { get; init; }

    public required V1LabelSelector Selector { get; init; }

    public ServiceMonitorNamespaces? NamespaceSelector { get; init; }

    public required List<ServiceMonitorEndpoint> Endpoints { get; init; }
}

public sealed record ServiceMonitorNamespaces
{
    public List<string>? MatchNames { get; init; }
}

public sealed record ServiceMonitorEndpoint
{
    public required string Port { get; init; }

    public string? Path { get; init; }

    public string? Interval { get; init; }

    public string? ScrapeTimeout { get; init; }

    public bool? HonorLabels { get; init; }

    public List<MetricRelabeling>? MetricRelabelings { get; init; }
}

public sealed record MetricRelabeling
{
    public string? Action { get; init; }

    public string? Regex { get; init; }
}

public sealed record PrometheusRuleSpec
{
    public required List<RuleGroup> Groups { get; init; }
}

public sealed record RuleGroup
{
    public required string Name { get; init; }

    public string? Interval { get; init; }

    public required List<Rule> Rules { get; init; }
}

public sealed record Rule
{
    public string? Record { get; init; }

    public string? Alert { get; init; }

    public required string Expr { get; init; }

    public string? For { get; init; }

    public Dictionary<string, string>? Labels { get; init; }

    public Dictionary<string, string>? Annotations { get; init; }
}

public sealed record CertificateSpec
{
    public required string SecretName { get; init; }

    public required IssuerReference IssuerRef { get; init; }

    public required CertificateKey PrivateKey { get; init; }

    public required List<string> Usages { get; init; }

    public required List<string> DnsNames { get; init; }
}

public sealed record IssuerReference
{
    public required string Name { get; init; }

    public required string Kind { get; init; }

    public required string Group { get; init; }
}

public sealed record CertificateKey
{
    public required string Algorithm { get; init; }

    public required int Size { get; init; }

    public required string RotationPolicy { get; init; }
}
