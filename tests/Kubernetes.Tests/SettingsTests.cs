using k8s.Models;
using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Server;
using MendCluster.Silo;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Options;
using Npgsql;

namespace MendCluster.Kubernetes.Tests;

/// <summary>The rendered variables, made real as a kubelet does and read by the silo's own reader.</summary>
public class SettingsTests
{
    private const string Address = "10.1.2.3";

    private static readonly Dictionary<string, string> Secrets = new()
    {
        ["mend-postgresql/membership"] = "Host=db;Database=members;Username=mend;Password=a$(b)c",
        ["mend-postgresql/ledger"] = "Host=db;Database=edits;Username=mend;Password=\"a;b\"",
        ["hub/token"] = "secret",
    };

    [ToolTheory("helm")]
    [InlineData("minimal", 1, 1)]
    [InlineData("minimal", 4, 1)]
    [InlineData("cpu", 2, 3)]
    [InlineData("full", 3, 2)]
    [InlineData("full", 1, 5)]
    public void EveryOrdinal_HasItsStage_AndNoOther(string @case, int stages, int replicas)
    {
        var set = Silos(@case, $"--set=model.stages={stages},model.replicas={replicas}");
        Assert.Equal(stages * replicas, set.Spec.Replicas);
        for (var ordinal = 0; ordinal < stages * replicas; ordinal++)
        {
            var settings = SettingsOf(set, ordinal);
            var shard = Assert.Single(settings.Cluster!.ShardsOf(settings.Name));
            Assert.Equal((ordinal / stages, ordinal % stages, stages), (shard.Replica, shard.Stage, shard.Stages));
            Assert.Equal(($"{set.Metadata.Name}-{ordinal}", Address), (settings.Name, settings.Address));
        }
    }

    [ToolFact("helm")]
    public void WhatIsNotSaid_IsAsTheValuesSay()
    {
        var settings = SettingsOf(Silos("minimal"), 0);
        var cluster = settings.Cluster!;
        Assert.Equal((11111, 30000, TimeSpan.FromSeconds(50), null),
            (settings.SiloPort, settings.GatewayPort, settings.DeadAfter, settings.MembershipFile));
        Assert.Equal(("models.edits", "models.edits", "model", DType.BFloat16, "cuda"),
            (cluster.ClusterId, cluster.ServiceId, cluster.Model, cluster.DType, cluster.Device));
        Assert.Equal(("/models", "/models/editor.safetensors"), (cluster.ModelDirectory, cluster.Editor));
        Assert.Equal(new FactorStorage(0.999), cluster.Factors);
        Assert.Empty(cluster.Probes);
        Assert.Null(cluster.Budget);
        Assert.Equal(Secrets["mend-postgresql/membership"], settings.MembershipPostgreSql);
        var ledger = new NpgsqlConnectionStringBuilder(cluster.Ledger["postgres:".Length..]);
        Assert.Equal(("a;b", "\"models.edits\""), (ledger.Password, ledger.SearchPath));
    }

    [ToolFact("helm")]
    public void WhatIsSaid_ArrivesAsItIs()
    {
        var settings = SettingsOf(Silos("full"), 4);
        var cluster = settings.Cluster!;
        Assert.Equal(("production", "gpt-j-6b", "/models/gpt-j-6b/main", TimeSpan.FromSeconds(90)),
            (cluster.ClusterId, cluster.Model, cluster.ModelDirectory, settings.DeadAfter));
        Assert.True(settings.Dashboard);
        Assert.Equal(new FactorStorage(0.99, DType.BFloat16), cluster.Factors);
        Assert.Equal([new("What costs $(PRICE) or $$5?", "nothing: \"quoted\" 'twice'"),
            new("Wie heißt die Hauptstadt von Österreich?", "Wien")], cluster.Probes);
        Assert.Equal(new DriftBudget(0.02, 0.5), cluster.Budget);
        Assert.Equal("\"edits\"", new NpgsqlConnectionStringBuilder(cluster.Ledger["postgres:".Length..]).SearchPath);
    }

    [ToolFact("helm")]
    public void ASilosApi_IsForItsOwnPodAlone_AndItsHealthForTheKubelet()
    {
        var settings = SettingsOf(Silos("full"), 0);
        var server = settings.Server!;
        Assert.Equal(("127.0.0.1", true, "0.0.0.0", 8081, "http://collector:4317"),
            (server.Address, server.Anonymous, server.ManagementAddress, server.ManagementPort, server.Otlp));
        Assert.Equal(("/tls/silo/tls.crt", "/tls/silo/tls.key", "/tls/silo/ca.crt"),
            (settings.Tls!.Certificate, settings.Tls.Key, settings.Tls.Authority));
        Assert.Null(SettingsOf(Silos("minimal"), 0).Tls);
    }

    /// <summary>The kubelet kills a pod after the grace period: what it does when it is told to stop has to be done by then.</summary>
    [ToolFact("helm")]
    public void APodHasTimeToStop()
    {
        var set = Silos("full", "--set=silo.terminationGracePeriodSeconds=100");
        var variables = VariablesOf(set, 0);
        var builder = new HostApplicationBuilder(new HostApplicationBuilderSettings
        {
            DisableDefaults = true,
            Configuration = Configured(variables)
        });
        using var host = builder.Build();
        var stopping = host.Services.GetRequiredService<IOptions<HostOptions>>().Value.ShutdownTimeout;
        var server = SettingsOf(set, 0).Server!;
        Assert.InRange(stopping, server.Drain + server.ShutdownTimeout + TimeSpan.FromSeconds(10),
            TimeSpan.FromSeconds(set.Spec.Template.Spec.TerminationGracePeriodSeconds!.Value - 10));
        var (front, pod) = FrontOf("full");
        Assert.InRange(front.Drain + front.ShutdownTimeout, TimeSpan.FromSeconds(20),
            TimeSpan.FromSeconds(pod.Spec.TerminationGracePeriodSeconds!.Value - 5));
    }

    [ToolFact("helm")]
    public void AFront_IsAsTheValuesSay()
    {
        var (full, pod) = FrontOf("full");
        Assert.Equal(("0.0.0.0", 8080, "0.0.0.0", 8081, false, true, "/trainings", "http://collector:4317"),
            (full.Address, full.Port, full.ManagementAddress, full.ManagementPort, full.Anonymous, full.LogTexts, full.Trainings,
            full.Otlp));
        Assert.Equal(("/keys/keys.json", "/tls/http/tls.crt", "/tls/http/tls.key"), (full.Keys, full.Tls!.Certificate, full.Tls.Key));
        Assert.Equal(("https://login.example.org/realm", "mend", "email"), (full.Oidc!.Authority, full.Oidc.Audience, full.Oidc.NameClaim));
        Assert.Equal((50, 2_000_000, TimeSpan.FromMinutes(5)),
        (full.Limits.RequestsPerSecond, full.Limits.BodyBytes, full.Limits.EditTimeout));
        Assert.Equal(["Trainings is '/trainings'; there is no such folder"], full.Faults()); // it is in the pod
        var mounts = pod.Spec.Containers.Single().VolumeMounts.Select(mount => mount.MountPath).ToList();
        Assert.All(new[] { "/keys", "/tls/http", "/tls/silo", "/trainings", "/tmp" }, path => Assert.Contains(path, mounts));
        var (least, _) = FrontOf("minimal");
        Assert.Equal((null, null, null, false), (least.Oidc, least.Tls, least.Trainings, least.LogTexts));
        Assert.Equal(["--cluster=postgres:Host=db;Database=members;Username=mend;Password=a$(b)c", "--name=gpt-j-6b",
            "--cluster-id=production", "--tls=/tls/silo"], pod.Spec.Containers.Single().Args.Select(argument =>
            PodEnvironment.Expand(argument, PodEnvironment.Of(pod.Spec.Containers.Single(), "front", Address, null, Secrets))));
    }

    [ToolFact("helm")]
    public void OnTheCpu_ThereIsNoGpu()
    {
        var set = Silos("cpu");
        var cluster = SettingsOf(set, 0).Cluster!;
        Assert.Equal(("cpu", null, DType.Float32), (cluster.Device, cluster.Editor, cluster.DType));
        var container = set.Spec.Template.Spec.Containers.Single();
        Assert.DoesNotContain("nvidia.com/gpu", container.Resources.Limits.Keys);
        Assert.DoesNotContain("-cuda", container.Image, StringComparison.Ordinal);
        Assert.Equal("4", container.Env.Single(variable => variable.Name == "MEND_THREADS").Value);
    }

    [ToolFact("helm")]
    public void APod_FetchesItsOwnStage()
    {
        var set = Silos("full");
        var fetch = Assert.Single(set.Spec.Template.Spec.InitContainers);
        var variables = PodEnvironment.Of(fetch, $"{set.Metadata.Name}-4", Address, 4, Secrets);
        Assert.Equal(["--from=https://models.example.org/gpt-j-6b", "--out=/models/gpt-j-6b/main", "--stages=3", "--ordinal=4",
            "--editor=editor.safetensors"], fetch.Args.Select(argument => PodEnvironment.Expand(argument, variables)));
        Assert.Equal("secret", variables["MEND_FETCH_TOKEN"]);
    }

    [ToolFact("helm")]
    public void TheMigration_RunsBefore_WithTheOwnersSecret_OnTheLedgersSchema()
    {
        var job = Assert.Single(Chart.Objects("full").OfType<V1Job>());
        Assert.Equal("pre-install,pre-upgrade", job.Metadata.Annotations["helm.sh/hook"]);
        var commands = job.Spec.Template.Spec.Containers.Select(container =>
            string.Join(' ', container.Command.Concat(container.Args.Select(argument =>
            PodEnvironment.Expand(argument,
            new Dictionary<string, string>
            {
                ["MEND_POSTGRES"] = container.Env.Single().ValueFrom.SecretKeyRef is { } key
            ? $"{key.Name}/{key.Key}" : ""
            })))));
        Assert.Equal(["dotnet mend.dll cluster migrate --postgres=mend-postgresql-owner/membership",
            "dotnet mend.dll ledger migrate --postgres=mend-postgresql-owner/ledger;Search Path='\"edits\"'"], commands);
    }

    private static V1StatefulSet Silos(string @case, params string[] more) => Chart.Objects(@case, more).OfType<V1StatefulSet>().Single();

    private static SiloSettings SettingsOf(V1StatefulSet set, int ordinal) =>
        SiloSettingsValidator.Read(Configured(VariablesOf(set, ordinal)));

    private static Dictionary<string, string> VariablesOf(V1StatefulSet set, int ordinal) =>
        PodEnvironment.Of(set.Spec.Template.Spec.Containers.Single(), $"{set.Metadata.Name}-{ordinal}", Address, ordinal, Secrets);

    private static (ServerSettings Settings, V1PodTemplateSpec Pod) FrontOf(string @case)
    {
        var pod = Chart.Objects(@case).OfType<V1Deployment>().Single().Spec.Template;
        return (Configured(PodEnvironment.Of(pod.Spec.Containers.Single(), "front", Address, null, Secrets)).GetSection("Mend:Server")
            .Get<ServerSettings>(binder => binder.ErrorOnUnknownConfiguration = true)!, pod);
    }

    private static ConfigurationManager Configured(Dictionary<string, string> variables)
    {
        var configuration = new ConfigurationManager();
        configuration.AddInMemoryCollection(variables.Select(variable =>
            KeyValuePair.Create(variable.Key.Replace("__", ":", StringComparison.Ordinal), (string?)variable.Value)));
        return configuration;
    }
}
