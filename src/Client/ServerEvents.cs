using System.Runtime.CompilerServices;
using System.Text;

namespace MendCluster.Client;

/// <summary>An event of a server's stream.</summary>
internal sealed record ServerEvent(string Name, string Data);

internal static class ServerEvents
{
    /// <summary>The events of a response, as the HTML standard has their form.</summary>
    public static async IAsyncEnumerable<ServerEvent> ReadAsync(HttpResponseMessage response,
        [EnumeratorCancellation] CancellationToken cancellation)
    {
        var stream = await response.Content.ReadAsStreamAsync(cancellation).ConfigureAwait(false);
        using var lines = new StreamReader(stream, Encoding.UTF8);
        var (name, data) = ("message", new List<string>());
        while (await lines.ReadLineAsync(cancellation).ConfigureAwait(false) is { } line)
        {
            if (line.Length == 0)
            {
                if (data.Count > 0)
                    yield return new(name, string.Join('\n', data));
                (name, data) = ("message", []);
                continue;
            }
            var colon = line.IndexOf(':', StringComparison.Ordinal);
            var (field, value) = colon < 0 ? (line, "") : (line[..colon], line[(colon + 1)..].TrimStart(' '));
            if (field == "event")
                name = value;
            else if (field == "data")
                data.Add(value);
        }
    }
}
