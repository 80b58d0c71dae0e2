using System.Text.Json;
using k8s.Models;
using MendCluster.Testing;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace MendCluster.Kubernetes.Tests;

/// <summary>What an upgrade may not change unawares. The cluster that Helm asks is a server that knows one StatefulSet.</summary>
public sealed class LayoutGuardTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [ToolTheory("helm")]
    [InlineData("", null)]
    [InlineData("model.replicas=3", null)]
    [InlineData("image.tag=new", null)]
    [InlineData("model.stages=2", "stages was 3 and is to be 2: a stage's weights are on the pod of its ordinal")]
    [InlineData("model.name=other", "model was gpt-j-6b and is to be other: edits are kept for the model that they were made on")]
    [InlineData("modelStore.perPod.size=", "store was perPod and is to be download: the claims of a StatefulSet cannot be changed")]
    [InlineData("clusterId=other", "clusterId was production and is to be other: silos of the old id would not meet those of the new one")]
    [InlineData("postgresql.ledgerSchema=other", "ledgerSchema was edits and is to be other: the edits are in the old one")]
    [InlineData("model.replicas=1", "replicas was 2 and is to be 1: the claims of the pods that go stay behind")]
    public async Task AnUpgradeThatStrandsWeightsOrEdits_IsRefused_UnlessAskedFor(string change, string? refused)
    {
        var set = Chart.Objects("full").OfType<V1StatefulSet>().Single();
        await using var cluster = await ClusterOfOne.StartAsync(set, _folder);
        foreach (var helm in Tools.Helms)
        {
            var (code, _, error) = await Task.Run(() => Upgrade(helm, change));
            Assert.True(code == (refused is null ? 0 : 1), error);
            Assert.Contains(refused ?? "", error, StringComparison.Ordinal);
            Assert.Equal(0, (await Task.Run(() => Upgrade(helm, $"allowLayoutChange=true{(change.Length > 0 ? "," : "")}{change}"))).Code);
        }
        Assert.True(cluster.Asked > 0);
    }

    private (int Code, string Output, string Error) Upgrade(string helm, string change) => Tools.Run(Tools.Helm(helm),
        ["template", Chart.Release, Chart.Folder, "--namespace", Chart.Namespace, "--values", Chart.ValuesOf("full"), "--is-upgrade",
        "--dry-run=server", "--disable-openapi-validation", "--kubeconfig", _folder["kubeconfig"],
            $"--set={change}"]);

    /// <summary>As much of the API as Helm's lookup asks for.</summary>
    private sealed class ClusterOfOne(WebApplication api) : IAsyncDisposable
    {
        private WebApplication Api { get; } = api;

        public int Asked { get; private set; }

        public static async Task<ClusterOfOne> StartAsync(V1StatefulSet set, TemporaryFolder folder)
        {
            var kinds = Yaml.Documents(Chart.Render("full"))
                .Select(item => (Version: (string)item["apiVersion"]!, Kind: (string)item["kind"]!)).Distinct()
                .ToLookup(item => item.Version, item => item.Kind);
            (set.ApiVersion, set.Kind) = ("apps/v1", "StatefulSet");
            var answers = kinds.ToDictionary(version =>
                $"/{(version.Key.Contains('/', StringComparison.Ordinal) ? "apis" : "api")}/{version.Key}", version => Json(new
                {
                    kind = "APIResourceList",
                    groupVersion = version.Key,
                    resources = version.Select(kind =>
                        new { name = $"{kind.ToLowerInvariant()}s", kind, namespaced = true, verbs = new[] { "get" } }),
                }));
            answers["/version"] = Json(new { major = "1", minor = "35", gitVersion = "v1.35.0" });
            answers["/api"] = Json(new { kind = "APIVersions", versions = new[] { "v1" } });
            answers["/apis"] = Json(new
            {
                kind = "APIGroupList",
                apiVersion = "v1",
                groups = kinds.Select(version => version.Key.Split('/')).Where(parts => parts.Length == 2)
                    .Select(parts => new
                    {
                        name = parts[0],
                        versions = new[] { new { groupVersion = string.Join('/', parts), version = parts[1] } }
                    }),
            });
            answers[$"/apis/apps/v1/namespaces/{Chart.Namespace}/statefulsets/{set.Metadata.Name}"] = k8s.KubernetesJson.Serialize(set);
            var notFound = Json(new { kind = "Status", apiVersion = "v1", status = "Failure", reason = "NotFound", code = 404 });

            var builder = WebApplication.CreateSlimBuilder();
            builder.WebHost.UseUrls("http://127.0.0.1:0");
            builder.Logging.ClearProviders();
            var cluster = new ClusterOfOne(builder.Build());
            cluster.Api.Run(context =>
            {
                var path = context.Request.Path.Value!;
                cluster.Asked += path.Contains("statefulsets", StringComparison.Ordinal) ? 1 : 0;
                var found = answers.TryGetValue(path, out var answer);
                context.Response.StatusCode = found ? StatusCodes.Status200OK : StatusCodes.Status404NotFound;
                context.Response.ContentType = "application/json";
                return context.Response.WriteAsync(answer ?? notFound);
            });
            await cluster.Api.StartAsync();
            folder.Write("kubeconfig", $$$"""
                {"apiVersion": "v1", "kind": "Config", "current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                 "clusters": [{"name": "c", "cluster": {"server": "{{{cluster.Api.Urls.Single()}}}"}}], "users": [{"name": "u", "user": {}}]}
                """);
            return cluster;
        }

        public ValueTask DisposeAsync() => Api.DisposeAsync();

        private static string Json<T>(T value) => JsonSerializer.Serialize(value);
    }
}
