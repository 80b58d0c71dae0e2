using System.Globalization;

namespace MendCluster.Kubernetes.Tests;

/// <summary>An address for each pod: network namespaces, each with a cable to one bridge, at which this machine is 10.x.y.1.</summary>
internal sealed class PodNetwork : IDisposable
{
    private const string Prefix = "mend-";

    private static readonly int Process = Environment.ProcessId;

    private readonly string _subnet = $"10.{200 + Process % 50}.{Process / 50 % 250}";
    private readonly HashSet<string> _spaces = [];
    private readonly Lock _lock = new();
    private int _last = 1;

    /// <summary>Why there can be none here; null: there can.</summary>
    public static string? WhyNot { get; } = Tools.Find("ip") is null ? "ip is not here; ./mend test installs iproute2"
        : Try() is { } refused ? $"network namespaces cannot be made here: {refused}" : null;

    private static string Bridge => $"mb{Process}";

    public PodNetwork()
    {
        foreach (var line in Ip("netns", "list").Split('\n', StringSplitOptions.RemoveEmptyEntries)) // of runs that were killed
            if (line.Split(' ')[0] is var space && space.StartsWith(Prefix, StringComparison.Ordinal)
                && int.TryParse(space.Split('-')[1], CultureInfo.InvariantCulture, out var process)
                    && !Directory.Exists($"/proc/{process}"))
                Remove(space);
        Ip("link", "add", Bridge, "type", "bridge");
        Ip("address", "add", $"{_subnet}.1/24", "dev", Bridge);
        Ip("link", "set", Bridge, "up");
    }

    /// <returns>A namespace, and its address, which nobody had before.</returns>
    public (string Space, string Address) Add()
    {
        lock (_lock)
        {
            var number = ++_last;
            var (space, cable, address) = ($"{Prefix}{Process}-{number}", Cable(number), $"{_subnet}.{number}");
            _spaces.Add(space);
            Ip("netns", "add", space);
            Ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space);
            Ip("link", "set", cable, "master", Bridge, "up");
            Ip("-n", space, "address", "add", $"{address}/24", "dev", "eth0");
            Ip("-n", space, "link", "set", "eth0", "up");
            Ip("-n", space, "link", "set", "lo", "up");
            return (space, address);
        }
    }

    /// <summary>Pulls the cable, or plugs it in.</summary>
    public static void Plug(string space, bool isIn) =>
        Ip("link", "set", Cable(int.Parse(space.Split('-')[2], CultureInfo.InvariantCulture)), isIn ? "up" : "down");

    public void Drop(string space)
    {
        lock (_lock)
            if (_spaces.Remove(space))
                Remove(space);
    }

    public void Dispose()
    {
        foreach (var space in _spaces.ToList())
            Drop(space);
        Ip("link", "delete", Bridge);
    }

    private static string Cable(int number) => $"mv{Process}-{number}";

    private static void Remove(string space)
    {
        foreach (var process in Ip("netns", "pids", space).Split('\n', StringSplitOptions.RemoveEmptyEntries))
            Tools.Run("sh", ["-c", $"kill -KILL {process}"]);
        Ip("netns", "delete", space);
    }

    private static string Ip(params string[] arguments)
    {
        var (code, output, error) = Tools.Run(Tools.Find("ip")!, arguments);
        return code == 0 ? output : throw new InvalidOperationException($"ip {string.Join(' ', arguments)}: {error}");
    }

    private static string? Try()
    {
        try
        {
            using var network = new PodNetwork();
            network.Add();
            return null;
        }
        catch (InvalidOperationException e)
        {
            return e.Message.Trim();
        }
    }
}
