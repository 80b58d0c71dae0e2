using System.Net;
using MendCluster.Contracts;
using MendCluster.Server;
using MendCluster.Testing;

namespace MendCluster.Kubernetes.Tests;

/// <summary>The probes' paths, asked of a real server.</summary>
public class ProbeTests
{
    [ToolFact("helm")]
    public async Task EveryProbeAndTheMonitor_AskForWhatIsThere()
    {
        var objects = Chart.Objects("full");
        var pods = Chart.Templates(objects).SelectMany(template => template.Template.Spec.Containers)
            .Where(container => container.LivenessProbe is not null).ToList();
        Assert.Equal(2, pods.Count);
        var paths = pods.SelectMany(pod => new[] { pod.StartupProbe, pod.ReadinessProbe, pod.LivenessProbe })
            .Select(probe => probe.HttpGet.Path)
            .Concat(objects.OfType<CustomResource<ServiceMonitorSpec>>().SelectMany(monitor => monitor.Spec.Endpoints)
                .Select(endpoint => endpoint.Path!)).Distinct().ToList();
        Assert.Equal(4, paths.Count);
        await using var server = await MendServer.StartAsync(new() { Port = 0, ManagementPort = 0, Anonymous = true }, new("model"), []);
        using var http = new HttpClient { BaseAddress = server.Management };
        foreach (var path in paths)
            Assert.NotEqual(HttpStatusCode.NotFound, (await http.GetAsync(path)).StatusCode);
        Assert.Equal(HttpStatusCode.NotFound, (await http.GetAsync("/healthz/other")).StatusCode);
    }

    /// <summary>With two replicas an update would otherwise go on to the second while the first one's stages load.</summary>
    [Fact]
    public async Task ASiloIsReady_WhenItsOwnStagesAre()
    {
        var state = ShardState.Loading;
        var served = new ServedCluster("model")
        {
            Own = _ => Task.FromResult<IReadOnlyList<ShardReport>>([new(new(1, 0),
                new(state, ModelVersion.Base, 0, 1, [], 0, state == ShardState.Faulted ? "no such file" : null))]),
        };
        served.Opened(new ShardsOnlyCluster(new ShardReport(new(0, 0), null)));
        await using var server = await MendServer.StartAsync(new() { Port = 0, ManagementPort = 0, Anonymous = true }, served, []);
        using var http = new HttpClient { BaseAddress = server.Management };
        foreach (var (now, startup, said) in new[] { (ShardState.Loading, 503, "loads"), (ShardState.Faulted, 503, "no such file"),
            (ShardState.Ready, 200, "started") })
        {
            state = now;
            var answer = await http.GetAsync("/healthz/startup");
            Assert.Equal(startup, (int)answer.StatusCode);
            Assert.Contains($"\"{said}\"", await answer.Content.ReadAsStringAsync(), StringComparison.Ordinal);
            Assert.Equal(startup, (int)(await http.GetAsync("/healthz/ready")).StatusCode);
        }
    }
}
