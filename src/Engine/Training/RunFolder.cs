using System.Globalization;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using MendCluster.Engine.Editors;

namespace MendCluster.Engine.Training;

/// <summary>
/// What a training run leaves behind: <c>config.json</c>, <c>metrics.jsonl</c> (a JSON object a line), <c>checkpoint.safetensors</c>,
/// <c>editor.safetensors</c> (the best) and <c>curves.svg</c>.
/// </summary>
/// <param name="directory">Made if it does not exist.</param>
public sealed class RunFolder(string directory)
{
    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
        Converters = { new JsonStringEnumConverter(JsonNamingPolicy.SnakeCaseLower) },
    };

    private static readonly JsonSerializerOptions IndentedJson = new(Json) { WriteIndented = true };

    private static readonly JsonSerializerOptions StrictJson = new(Json) { UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow };

    public string Directory { get; } = directory;

    public string Checkpoint => Path.Combine(Directory, "checkpoint.safetensors");

    public string BestEditor => Path.Combine(Directory, "editor.safetensors");

    public string Metrics => Path.Combine(Directory, "metrics.jsonl");

    public string Curves => Path.Combine(Directory, "curves.svg");

    /// <summary>Writes the configuration; when a run goes on, drops the metrics after its checkpoint, which will be measured again.</summary>
    public void Start<T>(T configuration, long iteration)
    {
        System.IO.Directory.CreateDirectory(Directory);
        File.WriteAllText(Path.Combine(Directory, "config.json"), JsonSerializer.Serialize(configuration, IndentedJson) + "\n");
        var kept = File.Exists(Metrics) && iteration > 0
            ? File.ReadLines(Metrics).Where(line => Read(line) is { } entry && entry.Iteration <= iteration && entry.Kind != "end")
            : [];
        File.WriteAllLines(Metrics, kept.ToList());
    }

    /// <summary>A configuration as <see cref="Start"/> writes it; what it leaves out stays at the default.</summary>
    /// <exception cref="EditorException">Not JSON, a setting that does not exist, or a value of another kind.</exception>
    public static T ReadConfiguration<T>(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<T>(File.ReadAllText(path), StrictJson) ?? throw new EditorException($"{path}: is null, expected an object of settings");
        }
        catch (JsonException e)
        {
            throw new EditorException($"{path}: {e.Message}");
        }
    }

    /// <summary>Appends one line to the metrics.</summary>
    public void Log<T>(T entry) => File.AppendAllText(Metrics, JsonSerializer.Serialize(entry, Json) + "\n");

    /// <summary>Draws training and validation loss over the iterations, log scale.</summary>
    public void DrawCurves()
    {
        var entries = File.ReadLines(Metrics).Select(Read).OfType<Entry>().Where(entry => entry.Total > 0 && double.IsFinite(entry.Total)).ToList();
        File.WriteAllText(Curves, LineChart.Svg("Editor training: total loss", "iteration", "loss",
        [
            ("training", "#4477aa", [.. entries.Where(e => e.Kind == "training").Select(e => ((double)e.Iteration, e.Total))]),
            ("validation", "#cc3311", [.. entries.Where(e => e.Kind == "validation").Select(e => ((double)e.Iteration, e.Total))]),
        ]));
    }

    private static Entry? Read(string line)
    {
        try
        {
            return JsonSerializer.Deserialize<Entry>(line, Json);
        }
        catch (JsonException) // a line that a crash cut short
        {
            return null;
        }
    }

    private sealed record Entry(string Kind, long Iteration, double Total);
}

/// <summary>A line chart as SVG: axes, a legend, ticks.</summary>
public static class LineChart
{
    private const int Width = 800, Height = 400, Left = 70, Right = 20, Top = 40, Bottom = 50;

    /// <param name="logX">Ticks at powers of ten; else six of equal distance from 0.</param>
    /// <param name="logY">Ticks at powers of ten; else six from 0 to 1, which then all values are between.</param>
    public static string Svg(string title, string xLabel, string yLabel, IReadOnlyList<(string Name, string Colour, IReadOnlyList<(double X, double Y)> Points)> lines,
        bool logX = false, bool logY = true)
    {
        var points = lines.SelectMany(line => line.Points).ToList();
        var svg = new StringBuilder($"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {Width} {Height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>""").Append('\n');
        Text(Width / 2, 22, title, "middle", 15);
        Text(Width / 2, Height - 10, xLabel, "middle");
        Text(12, Top - 10, yLabel, "start");
        if (points.Count > 0)
        {
            var xTicks = logX ? Decades(points.Select(p => p.X)) : Steps(Math.Max(1, points.Max(p => p.X)));
            var yTicks = logY ? Decades(points.Select(p => p.Y)) : Steps(1);
            double X(double x) => Left + Part(x, xTicks, logX) * (Width - Left - Right);
            double Y(double y) => Top + (1 - Part(y, yTicks, logY)) * (Height - Top - Bottom);
            foreach (var tick in yTicks)
            {
                Line(Left, Y(tick), Width - Right, Y(tick));
                Text(Left - 6, Y(tick) + 4, tick.ToString("0.######", CultureInfo.InvariantCulture), "end");
            }
            foreach (var tick in xTicks)
                Text(X(tick), Height - Bottom + 18, tick.ToString("0", CultureInfo.InvariantCulture), "middle");
            var row = 0;
            foreach (var (name, colour, line) in lines)
            {
                svg.Append(CultureInfo.InvariantCulture, $"""<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{string.Join(' ', line.Select(p => string.Create(CultureInfo.InvariantCulture, $"{X(p.X):0.#},{Y(p.Y):0.#}")))}"/>""").Append('\n');
                svg.Append(CultureInfo.InvariantCulture, $"""<rect x="{Width - 130}" y="{Top + row * 18}" width="12" height="4" fill="{colour}"/>""");
                Text(Width - 112, Top + 6 + row++ * 18, name, "start");
            }
        }
        return svg.Append("</svg>\n").ToString();

        void Text(double x, double y, string text, string anchor, int size = 12) =>
            svg.Append(CultureInfo.InvariantCulture, $"""<text x="{x:0.#}" y="{y:0.#}" text-anchor="{anchor}" font-size="{size}">{System.Security.SecurityElement.Escape(text)}</text>""").Append('\n');

        void Line(double x1, double y1, double x2, double y2) =>
            svg.Append(CultureInfo.InvariantCulture, $"""<line x1="{x1:0.#}" y1="{y1:0.#}" x2="{x2:0.#}" y2="{y2:0.#}" stroke="#dddddd"/>""").Append('\n');
    }

    /// <summary>The powers of ten around the values; at least two.</summary>
    private static List<double> Decades(IEnumerable<double> values)
    {
        var (low, high) = ((int)Math.Floor(Math.Log10(values.Min())), (int)Math.Ceiling(Math.Log10(values.Max())));
        return [.. Enumerable.Range(low, Math.Max(high - low, 1) + 1).Select(decade => Math.Pow(10, decade))];
    }

    private static List<double> Steps(double max) => [.. Enumerable.Range(0, 6).Select(i => max * i / 5)];

    /// <summary>Where a value is between the first tick (0) and the last (1).</summary>
    private static double Part(double value, List<double> ticks, bool log) =>
        log ? Math.Log10(value / ticks[0]) / Math.Log10(ticks[^1] / ticks[0]) : (value - ticks[0]) / (ticks[^1] - ticks[0]);
}
