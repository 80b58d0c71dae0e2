using System.Collections.Concurrent;
using k8s;
using k8s.Models;
using MendCluster.Testing;

namespace MendCluster.Kubernetes.Tests;

/// <summary>The chart as Helm renders it.</summary>
internal static class Chart
{
    public const string Release = "edits", Namespace = "models";

    private static readonly Dictionary<string, Type> Types = new()
    {
        ["monitoring.coreos.com/v1/ServiceMonitor"] = typeof(CustomResource<ServiceMonitorSpec>),
        ["monitoring.coreos.com/v1/PrometheusRule"] = typeof(CustomResource<PrometheusRuleSpec>),
        ["cert-manager.io/v1/Certificate"] = typeof(CustomResource<CertificateSpec>),
    };

    private static readonly ConcurrentDictionary<string, string> Rendered = new();

    public static string Folder { get; } = Path.Combine(FixtureFolder.Repository, "k8s", "charts", "mendcluster");

    /// <summary>The matrix of values: files of the chart's ci folder.</summary>
    public static readonly string[] Cases =
        [.. Directory.EnumerateFiles(Path.Combine(Folder, "ci"), "*.yaml").Select(file => Path.GetFileNameWithoutExtension(file)!)
        .Order(StringComparer.Ordinal)];

    public static string ValuesOf(string @case) => Path.Combine(Folder, "ci", $"{@case}.yaml");

    /// <param name="case">Of the matrix.</param>
    /// <param name="more">Further arguments of Helm, such as <c>--set-json=model.stages=3</c>.</param>
    /// <returns>The manifests; each text is rendered once.</returns>
    public static string Render(string @case, params string[] more) => RenderBy("4", @case, Release, Namespace, more);

    public static string RenderBy(string helm, string @case, string release, string @namespace, params string[] more) =>
        Rendered.GetOrAdd(string.Join('\n', [helm, @case, release, @namespace, .. more]), _ =>
        {
            var (code, output, error) = Try(helm, @case, release, @namespace, more);
            return code == 0 ? output : throw new InvalidOperationException(error);
        });

    public static (int Code, string Output, string Error) Try(string helm, string @case, string release, string @namespace,
        params string[] more) =>
        Tools.Run(Tools.Helm(helm), ["template", release, Folder, "--namespace", @namespace, "--values", ValuesOf(@case), .. more]);

    /// <summary>Every object, as its type; what the type does not have, and what has another one, is refused.</summary>
    public static List<object> Read(string manifests) => KubernetesYaml.LoadAllFromString(manifests, Types, strict: true);

    public static List<object> Objects(string @case, params string[] more) => Read(Render(@case, more));

    /// <summary>Pods that the objects ask for, with the name of what asks.</summary>
    public static IEnumerable<(string Owner, V1PodTemplateSpec Template)> Templates(IEnumerable<object> objects) =>
        objects.SelectMany(item => item switch
    {
        V1StatefulSet set => [(set.Metadata.Name, set.Spec.Template)],
        V1Deployment deployment => [(deployment.Metadata.Name, deployment.Spec.Template)],
        V1Job job => [(job.Metadata.Name, job.Spec.Template)],
        _ => Array.Empty<(string, V1PodTemplateSpec)>(),
    });

    public static IEnumerable<V1Container> Containers(V1PodTemplateSpec template) =>
        (template.Spec.InitContainers ?? []).Concat(template.Spec.Containers);

    public static bool Selects(IDictionary<string, string>? labels, IDictionary<string, string>? of) =>
        labels is { Count: > 0 } && labels.All(label => of is not null && of.TryGetValue(label.Key, out var value) && value == label.Value);
}
