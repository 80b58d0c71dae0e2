using System.Diagnostics;
using k8s;
using k8s.Models;
using MendCluster.Testing;

namespace MendCluster.Kubernetes.Tests;

/// <summary>
/// What a cluster does with the chart's manifests, in small and with the real processes: hooks first; a pod for each ordinal, with an
/// address of its own that is new each time the pod is made; downward-API variables; Secrets and claims as folders; the declared probes;
/// SIGTERM, the grace period, then SIGKILL; updates from the highest ordinal, one after another, each when the one before is ready. A
/// program sees this machine's files: in variables and arguments the path of a mount is replaced by the folder that is mounted. What it
/// does not have: scheduling, resources, users, policies.
/// </summary>
/// <param name="secrets">Values by "SECRET/KEY".</param>
/// <param name="folder">Where claims, Secrets and logs are.</param>
internal sealed class Kubelet(IReadOnlyDictionary<string, string> secrets, string folder) : IAsyncDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(3);

    private readonly PodNetwork _network = new();
    private readonly HttpClient _http = new();
    private readonly List<Pod> _pods = [];
    private readonly Lock _lock = new();

    /// <summary>Those that have an address.</summary>
    public IReadOnlyList<Pod> Pods
    {
        get
        {
            lock (_lock)
                return [.. _pods];
        }
    }

    public IEnumerable<Pod> Ready(string component) => Pods.Where(pod => pod.IsReady && pod.Component == component);

    public Pod this[string name] => Pods.Single(pod => pod.Name == name);

    public string Claim(string name) => Directory.CreateDirectory(Path.Combine(folder, "claims", name)).FullName;

    /// <summary>Installs what is not there, and updates what is.</summary>
    public async Task ApplyAsync(IReadOnlyList<object> objects)
    {
        foreach (var job in objects.OfType<V1Job>())
            foreach (var container in job.Spec.Template.Spec.Containers)
                await RunAsync(job, container);
        foreach (var set in objects.OfType<V1StatefulSet>())
        {
            var isNew = !Pods.Any(pod => pod.Owner == set.Metadata.Name);
            var partition = set.Spec.UpdateStrategy.RollingUpdate.Partition ?? 0;
            if (isNew) // Parallel
                await Task.WhenAll(Enumerable.Range(0, set.Spec.Replicas!.Value)
                    .Select(ordinal => Start(set.Metadata.Name, $"{set.Metadata.Name}-{ordinal}", ordinal, set.Spec.Template)
                    .ReadyAsync(Patience)));
            else
                for (var ordinal = set.Spec.Replicas!.Value - 1; ordinal >= partition; ordinal--)
                    await UpdateAsync(this[$"{set.Metadata.Name}-{ordinal}"], set.Spec.Template);
        }
        foreach (var deployment in objects.OfType<V1Deployment>())
        {
            var there = Pods.Where(pod => pod.Owner == deployment.Metadata.Name).ToList();
            for (var i = there.Count; i < deployment.Spec.Replicas; i++)
                there.Add(Start(deployment.Metadata.Name, $"{deployment.Metadata.Name}-{Guid.NewGuid().ToString("N")[..5]}", null,
                    deployment.Spec.Template));
            await Task.WhenAll(there.Select(pod => pod.ReadyAsync(Patience)));
            foreach (var pod in there.Skip(deployment.Spec.Replicas!.Value))
                await RemoveAsync(pod);
        }
    }

    public Task UninstallAsync() => Task.WhenAll(Pods.Select(RemoveAsync));

    /// <summary>A machine is lost with its pod, which is made anew.</summary>
    public async Task LoseNodeAsync(string name)
    {
        var pod = this[name];
        Forget(pod);
        await pod.KillAsync();
        _network.Drop(pod.Space);
        pod.Dispose();
        await Start(pod.Owner, pod.Name, pod.Ordinal, pod.Template).ReadyAsync(Patience);
    }

    /// <summary>A node that hears nobody and is heard by nobody; its own kubelet goes on.</summary>
    public void Cut(string name, bool isCut)
    {
        var pod = this[name];
        pod.IsCut = isCut;
        PodNetwork.Plug(pod.Space, !isCut);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var pod in Pods)
        {
            Forget(pod);
            await pod.KillAsync();
            pod.Dispose();
        }
        _network.Dispose();
        _http.Dispose();
    }

    private async Task UpdateAsync(Pod pod, V1PodTemplateSpec template)
    {
        if (KubernetesJson.Serialize(pod.Template) == KubernetesJson.Serialize(template))
            return;
        await RemoveAsync(pod);
        await Start(pod.Owner, pod.Name, pod.Ordinal, template).ReadyAsync(Patience);
    }

    private async Task RemoveAsync(Pod pod)
    {
        Forget(pod);
        await pod.StopAsync();
        _network.Drop(pod.Space);
        pod.Dispose();
        if (pod.IsKilled)
            throw new InvalidOperationException($"{pod.Name} did not end in its grace period.");
    }

    private void Forget(Pod pod)
    {
        lock (_lock)
            _pods.Remove(pod);
    }

    private Pod Start(string owner, string name, int? ordinal, V1PodTemplateSpec template)
    {
        var (space, address) = _network.Add();
        var container = template.Spec.Containers.Single();
        var (command, variables) = Resolve(template, container, name, address, ordinal);
        var pod = new Pod(owner, name, ordinal, template, space, address, _http, ["netns", "exec", space, .. command], variables,
            Path.Combine(folder, $"{name}.log"));
        lock (_lock)
            _pods.Add(pod);
        pod.Start();
        return pod;
    }

    private async Task RunAsync(V1Job job, V1Container container)
    {
        var (space, address) = _network.Add();
        var (command, variables) = Resolve(job.Spec.Template, container, job.Metadata.Name, address, null);
        var log = Path.Combine(folder, $"{job.Metadata.Name}-{container.Name}.log");
        using var process = Pod.Launch(["netns", "exec", space, .. command], variables, log);
        await process.WaitForExitAsync();
        _network.Drop(space);
        if (process.ExitCode != 0)
            throw new InvalidOperationException($"{job.Metadata.Name} failed: {File.ReadAllText(log)}");
    }

    private (string[] Command, Dictionary<string, string> Variables) Resolve(V1PodTemplateSpec template, V1Container container, string name,
        string address, int? ordinal)
    {
        var places = container.VolumeMounts.Select(mount =>
            (mount.MountPath, Folder: Volume(template.Spec.Volumes.Single(volume => volume.Name == mount.Name))))
            .Where(mount => mount.Folder is not null).OrderByDescending(mount => mount.MountPath.Length).ToList();
        string Placed(string text)
        {
            var start = text.IndexOf("=/", StringComparison.Ordinal) + 1; // of an argument's value
            var mount = places.FirstOrDefault(mount => text[start..] == mount.MountPath
                || text[start..].StartsWith($"{mount.MountPath}/", StringComparison.Ordinal));
            return mount.Folder is null ? text : $"{text[..start]}{mount.Folder}{text[(start + mount.MountPath.Length)..]}";
        }
        var variables = PodEnvironment.Of(container, name, address, ordinal, secrets);
        return ([.. container.Command.Concat(container.Args ?? []).Select(argument => Placed(PodEnvironment.Expand(argument, variables)))],
            variables.ToDictionary(variable => variable.Key, variable => Placed(variable.Value)));
    }

    /// <returns>Null: an empty folder, which is not asked for by name.</returns>
    private string? Volume(V1Volume volume)
    {
        if (volume.HostPath is { } path)
            return path.Path;
        if (volume.PersistentVolumeClaim is { } claim)
            return Claim(claim.ClaimName);
        if (volume.Secret is not { } secret)
            return null;
        var place = Directory.CreateDirectory(Path.Combine(folder, "secrets", secret.SecretName)).FullName;
        foreach (var (key, value) in secrets.Where(entry => entry.Key.StartsWith($"{secret.SecretName}/", StringComparison.Ordinal)))
            File.WriteAllText(Path.Combine(place, key.Split('/')[1]), value);
        return place;
    }
}

/// <summary>A pod of one container. Its process is started again when it ends, at the same address.</summary>
internal sealed class Pod(string owner, string name, int? ordinal, V1PodTemplateSpec template, string space, string address,
    HttpClient http, string[] command, IReadOnlyDictionary<string, string> variables, string log) : IDisposable
{
    private const int Terminate = 15, Kill = 9;

    private readonly TaskCompletionSource _ready = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _gone = new();
    private Process _process = null!;
    private Task _watch = Task.CompletedTask;

    public string Owner => owner;

    public string Name => name;

    public int? Ordinal => ordinal;

    public V1PodTemplateSpec Template => template;

    public string Component => template.Metadata.Labels["app.kubernetes.io/component"];

    public string Space => space;

    public string Address => address;

    public bool IsCut { get; set; }

    public bool IsReady { get; private set; }

    public int Restarts { get; private set; }

    public static Process Launch(IEnumerable<string> command, IReadOnlyDictionary<string, string> variables, string log)
    {
        var start = new ProcessStartInfo("sh",
            ["-c", "log=$1; shift; exec \"$@\" >>\"$log\" 2>&1", "sh", log, Tools.Find("ip")!, .. command])
        {
            WorkingDirectory = Path.Combine(FixtureFolder.Repository, "artifacts", "bin", "Cli", "release"), // the image's
        };
        foreach (var known in start.Environment.Keys.Where(key => key.StartsWith("Mend", StringComparison.OrdinalIgnoreCase)).ToList())
            start.Environment.Remove(known);
        foreach (var (key, value) in variables)
            start.Environment[key] = value;
        return Process.Start(start)!;
    }

    public void Dispose()
    {
        _gone.Dispose();
        _process.Dispose();
    }

    public void Start()
    {
        _process = Launch(command, variables, log);
        _watch = Task.Run(WatchAsync);
    }

    public async Task ReadyAsync(TimeSpan patience)
    {
        if (await Task.WhenAny(_ready.Task, Task.Delay(patience, _gone.Token)) != _ready.Task)
            throw new InvalidOperationException($"{name} does not become ready: {File.ReadAllText(log)}");
    }

    /// <summary>In order: the grace period, then at once.</summary>
    public async Task StopAsync()
    {
        IsReady = false;
        await _gone.CancelAsync();
        await _watch;
        Signal(Terminate);
        using var grace = new CancellationTokenSource(TimeSpan.FromSeconds(template.Spec.TerminationGracePeriodSeconds ?? 30));
        try
        {
            await _process.WaitForExitAsync(grace.Token);
        }
        catch (OperationCanceledException)
        {
            IsKilled = true;
            await KillAsync();
        }
    }

    /// <summary>Its grace period was too short.</summary>
    public bool IsKilled { get; private set; }

    public async Task KillAsync()
    {
        IsReady = false;
        await _gone.CancelAsync();
        await _watch;
        Signal(Kill);
        await _process.WaitForExitAsync();
    }

    private async Task WatchAsync()
    {
        var container = template.Spec.Containers.Single();
        try
        {
            while (true)
            {
                if (await LiveAsync(container))
                    return;
                IsReady = false;
                Signal(Kill);
                await _process.WaitForExitAsync(_gone.Token);
                await Task.Delay(TimeSpan.FromSeconds(1), _gone.Token);
                Restarts++;
                _process = Launch(command, variables, log);
            }
        }
        catch (OperationCanceledException)
        {
            // The pod is being taken away.
        }
    }

    /// <returns>False: the process ended, or is to be ended.</returns>
    private async Task<bool> LiveAsync(V1Container container)
    {
        for (var failures = 0; ; failures++)
        {
            await Task.Delay(TimeSpan.FromSeconds(container.StartupProbe.PeriodSeconds!.Value), _gone.Token);
            if (_process.HasExited || failures == container.StartupProbe.FailureThreshold)
                return false;
            if (await AnswersAsync(container.StartupProbe, container))
                break;
        }
        var (ready, live) = (Probing(container.ReadinessProbe, container, isOk => IsReady = isOk),
            Probing(container.LivenessProbe, container, isOk => { if (!isOk) Signal(Kill); }));
        await foreach (var _ in EverySecondAsync())
        {
            if (_process.HasExited)
                return false;
            await ready();
            await live();
            if (IsReady)
                _ready.TrySetResult();
        }
        return true;
    }

    private async IAsyncEnumerable<int> EverySecondAsync()
    {
        for (var second = 0; ; second++)
        {
            await Task.Delay(TimeSpan.FromSeconds(1), _gone.Token);
            yield return second;
        }
    }

    /// <summary>A probe with its period, and as many failures in a row as it allows.</summary>
    private Func<Task> Probing(V1Probe probe, V1Container container, Action<bool> tell)
    {
        var (seconds, failures) = (probe.PeriodSeconds!.Value - 1, 0);
        return async () =>
        {
            if (++seconds < probe.PeriodSeconds)
                return;
            seconds = 0;
            failures = await AnswersAsync(probe, container) ? 0 : failures + 1;
            if (failures == 0 || failures >= probe.FailureThreshold)
                tell(failures == 0);
        };
    }

    private async Task<bool> AnswersAsync(V1Probe probe, V1Container container)
    {
        if (IsCut)
            return true; // its own node's kubelet would be answered
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(_gone.Token);
        patience.CancelAfter(TimeSpan.FromSeconds(probe.TimeoutSeconds!.Value));
        try
        {
            var port = container.Ports.Single(port => port.Name == probe.HttpGet.Port.Value).ContainerPort;
            using var answer = await http.GetAsync($"http://{address}:{port}{probe.HttpGet.Path}", patience.Token);
            return answer.IsSuccessStatusCode;
        }
        catch (Exception e) when (e is HttpRequestException || (e is OperationCanceledException && !_gone.IsCancellationRequested))
        {
            return false;
        }
    }

    private void Signal(int number)
    {
        if (!_process.HasExited)
            Tools.Run("sh", ["-c", $"kill -{number} {_process.Id}"]);
    }
}
