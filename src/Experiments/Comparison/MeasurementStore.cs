using System.Text.Json;
using System.Text.Json.Serialization;
using MendCluster.Engine.Files;

namespace MendCluster.Experiments;

/// <summary>
/// Measurements in a folder, a file each with all its cases, so that a stopped evaluation goes on where it stopped. A file is written
/// whole or not at all.
/// </summary>
/// <param name="folder">Made when something is kept.</param>
public sealed class MeasurementStore(string folder)
{
    internal static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals, // a ruined model's perplexity is infinite
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
        WriteIndented = true,
    };

    /// <summary>The kept measurement, if it was made by the same protocol; otherwise makes and keeps it.</summary>
    /// <param name="name">Of the file; letters and digits count.</param>
    /// <param name="measure">Its report must have the protocol given.</param>
    public EditorReport GetOrMeasure(string name, Protocol protocol, Func<EditorReport> measure)
    {
        var path = Path.Combine(folder, FileOf(name));
        if (Read(path) is { } kept && kept.Protocol == protocol)
            return kept;
        var report = measure();
        Directory.CreateDirectory(folder);
        AtomicFile.Write(path, JsonSerializer.Serialize(report, Json) + "\n");
        return report;
    }

    /// <summary>"FT+KL 25" is ft-kl-25.json.</summary>
    private static string FileOf(string name) =>
        string.Join('-', string.Concat(name.ToLowerInvariant()
        .Select(letter => char.IsAsciiLetterOrDigit(letter) || letter == '.' ? letter : ' '))
            .Split(' ', StringSplitOptions.RemoveEmptyEntries)) + ".json";

    /// <summary>Null: there is none, or it is of another version.</summary>
    private static EditorReport? Read(string path)
    {
        try
        {
            return File.Exists(path) ? JsonSerializer.Deserialize<EditorReport>(File.ReadAllText(path), Json) : null;
        }
        catch (JsonException)
        {
            return null;
        }
    }
}
