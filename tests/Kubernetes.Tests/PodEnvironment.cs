using System.Globalization;
using System.Text.RegularExpressions;
using k8s.Models;

namespace MendCluster.Kubernetes.Tests;

/// <summary>A container's variables as the kubelet makes them of a manifest.</summary>
internal static partial class PodEnvironment
{
    /// <param name="pod">Name of the pod.</param>
    /// <param name="secrets">Values by "SECRET/KEY".</param>
    public static Dictionary<string, string> Of(V1Container container, string pod, string address, int? ordinal,
        IReadOnlyDictionary<string, string> secrets)
    {
        var variables = new Dictionary<string, string>();
        foreach (var variable in container.Env ?? [])
            variables[variable.Name] = variable.ValueFrom switch
            {
                null => Expand(variable.Value ?? "", variables),
                { SecretKeyRef: { } key } => secrets[$"{key.Name}/{key.Key}"],
                { FieldRef.FieldPath: "metadata.name" } => pod,
                { FieldRef.FieldPath: "status.podIP" } => address,
                { FieldRef.FieldPath: "metadata.labels['apps.kubernetes.io/pod-index']" } =>
                    ordinal!.Value.ToString(CultureInfo.InvariantCulture),
                var other => throw new NotSupportedException($"{variable.Name} is from {other.FieldRef?.FieldPath}"),
            };
        return variables;
    }

    /// <summary>A variable is "$(NAME)", "$$" is "$", and what names no variable stays as it is.</summary>
    public static string Expand(string text, IReadOnlyDictionary<string, string> variables) => Reference().Replace(text, reference =>
        reference.Value == "$$" ? "$" : variables.GetValueOrDefault(reference.Groups["name"].Value) ?? reference.Value);

    [GeneratedRegex(@"\$\$|\$\((?<name>[^)]+)\)")]
    private static partial Regex Reference();
}
