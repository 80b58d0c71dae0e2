using System.Globalization;
using System.Security;
using System.Text;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace MendCluster.Kubernetes.Tests;

/// <summary>
/// A dashboard with the numbers of a real Prometheus, as an SVG for the documentation: there is no Grafana here. Knows the panels, units
/// and options that the chart's dashboards use.
/// </summary>
/// <param name="ask">Asks Prometheus: path and query of its API, below <c>api/v1/</c>; answers the field <c>data</c>.</param>
internal sealed partial class DashboardPicture(Func<string, Task<JsonNode>> ask, DateTimeOffset from, DateTimeOffset to)
{
    private const int Cell = 50, Row = 34, Gap = 4, Top = 46, Points = 240;
    private const string Ink = "#d8d9da", Faint = "#8e8e94", Line = "#2c3235", Panel = "#181b1f", Ground = "#0f1114";

    private static readonly string[] Colours = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#8ab8ff", "#37872d"];

    private readonly StringBuilder _svg = new();

    /// <param name="query">A panel's query with its variables replaced.</param>
    /// <param name="caption">Where the numbers are from.</param>
    public async Task<string> DrawAsync(JsonNode board, Func<string, string> query, string caption)
    {
        var panels = board["panels"]!.AsArray().Select(panel => panel!).ToList();
        var height = Top + Row * panels.Max(panel => (int)panel["gridPos"]!["y"]! + (int)panel["gridPos"]!["h"]!);
        Add($"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * Cell} {height}" font-family="sans-serif" font-size="11">""");
        Add($"""<rect width="100%" height="100%" fill="{Ground}"/>""");
        Text(8, 20, (string)board["title"]!, Ink, 16);
        Text(8, 37, caption, Faint);
        foreach (var panel in panels)
            await DrawPanelAsync(panel, query);
        Add("</svg>");
        return _svg.ToString();
    }

    private async Task DrawPanelAsync(JsonNode panel, Func<string, string> query)
    {
        var at = panel["gridPos"]!;
        var (x, y) = ((int)at["x"]! * Cell + Gap / 2, Top + (int)at["y"]! * Row + Gap / 2);
        var (width, height) = ((int)at["w"]! * Cell - Gap, (int)at["h"]! * Row - Gap);
        var title = (string)panel["title"]!;
        if ((string?)panel["type"] == "row")
        {
            Text(x + 4, y + 20, title, Ink, 13);
            return;
        }
        Add($"""<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="2" fill="{Panel}" stroke="{Line}"/>""");
        Text(x + 8, y + 17, title, Ink, 12);
        var unit = (string?)panel["fieldConfig"]!["defaults"]!["unit"] ?? "none";
        List<Series> series = [];
        foreach (var target in panel["targets"]!.AsArray())
            series.AddRange(await ReadAsync(query((string)target!["expr"]!), (string)target["legendFormat"]!));
        if ((string?)panel["type"] == "stat")
            Text(x + width / 2, y + height / 2 + 22, series.Count == 0 ? "-" : Say(series[0].Values.Last(value => value is not null)!.Value, unit),
                Colours[0], 28, "middle");
        else if ((string?)panel["type"] == "heatmap")
            Heatmap(series, unit, x + 58, y + 28, width - 68, height - 48);
        else
            Lines(series, unit, (string?)panel["fieldConfig"]!["defaults"]!["custom"]!["stacking"]!["mode"] == "normal",
                x + 58, y + 28, width - 68, height - 66);
    }

    private async Task<List<Series>> ReadAsync(string query, string legend)
    {
        var step = (to - from).TotalSeconds / Points;
        var found = await ask(string.Create(CultureInfo.InvariantCulture,
            $"query_range?query={Uri.EscapeDataString(query)}&start={from.ToUnixTimeSeconds()}&end={to.ToUnixTimeSeconds()}&step={step:0.###}"));
        List<Series> all = [];
        foreach (var one in found["result"]!.AsArray())
        {
            var values = new double?[Points + 1];
            foreach (var point in one!["values"]!.AsArray())
            {
                var value = double.Parse((string)point![1]!, CultureInfo.InvariantCulture);
                var i = (int)Math.Round(((double)point[0]! - from.ToUnixTimeSeconds()) / step);
                if (double.IsFinite(value) && i <= Points)
                    values[i] = value;
            }
            if (values.Any(value => value is not null))
                all.Add(new(Label().Replace(legend, name => (string?)one["metric"]![name.Groups[1].Value] ?? ""), values));
        }
        return all;
    }

    private void Lines(List<Series> series, string unit, bool isStacked, int x, int y, int width, int height)
    {
        var below = new double[Points + 1];
        var layers = series.Select(one =>
        {
            var values = one.Values.Select((value, i) => isStacked ? below[i] += value ?? 0 : value).ToArray();
            return (one.Name, Values: values);
        }).ToList();
        var most = Round(layers.SelectMany(layer => layer.Values).Max() ?? 0);
        Axes(Enumerable.Range(0, 3).Select(i => Say(most * i / 2, unit)).ToList(), x, y, width, height);
        foreach (var (i, (_, values)) in layers.Index().Reverse())
        {
            var path = new StringBuilder();
            for (var at = 0; at <= Points; at++)
                if (values[at] is { } value)
                    path.Append(CultureInfo.InvariantCulture, $"{(at > 0 && values[at - 1] is not null ? 'L' : 'M')}")
                        .Append(CultureInfo.InvariantCulture, $"{x + width * at / (double)Points:0.#} {y + height * (1 - value / most):0.#}");
            var colour = Colours[i % Colours.Length];
            Add(isStacked
                ? $"""<path d="{path}L{x + width} {y + height}L{x} {y + height}Z" fill="{colour}" stroke="none"/>"""
                : $"""<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>""");
        }
        var left = x - 50;
        foreach (var (i, (name, _)) in layers.Index())
        {
            if (left > x + width - 60)
                break; // there is no room for more names
            Add($"""<rect x="{left}" y="{y + height + 24}" width="9" height="3" fill="{Colours[i % Colours.Length]}"/>""");
            Text(left + 13, y + height + 29, name, Ink);
            left += 24 + 7 * name.Length;
        }
    }

    /// <param name="buckets">Each with what the ones below it have.</param>
    private void Heatmap(List<Series> buckets, string unit, int x, int y, int width, int height)
    {
        buckets = [.. buckets.OrderBy(bucket => Bound(bucket.Name))];
        var counts = buckets.Select((bucket, row) => bucket.Values.Select((value, i) =>
            Math.Max(0, (value ?? 0) - (row > 0 ? buckets[row - 1].Values[i] ?? 0 : 0))).ToArray()).ToList();
        var most = Math.Max(1e-9, counts.SelectMany(row => row).DefaultIfEmpty().Max());
        Axes([], x, y, width, height);
        for (var row = 0; row < counts.Count; row++)
        {
            var (top, tall) = (y + height * (1 - (row + 1) / (double)counts.Count), height / (double)counts.Count);
            var bound = Bound(buckets[row].Name);
            if (row % 2 == 0)
                Text(x - 6, (int)(top + tall / 2 + 4), double.IsFinite(bound) ? Say(bound, unit) : "more", Faint, 10, "end");
            const int columns = 60;
            for (var column = 0; column < columns; column++)
                if (counts[row].Skip(column * Points / columns).Take(Points / columns).Max() is > 0 and var count)
                    Add(string.Create(CultureInfo.InvariantCulture, $"""<rect x="{x + width * column / (double)columns:0.#}" y="{top:0.#}" """)
                        + string.Create(CultureInfo.InvariantCulture, $"""width="{width / (double)columns - 1:0.#}" height="{tall - 1:0.#}" """)
                        + string.Create(CultureInfo.InvariantCulture, $"""fill="{Colours[3]}" fill-opacity="{0.15 + 0.85 * Math.Sqrt(count / most):0.##}"/>"""));
        }

        static double Bound(string name) => name == "+Inf" ? double.PositiveInfinity : double.Parse(name, CultureInfo.InvariantCulture);
    }

    /// <param name="values">Of the lines across, from the lowest.</param>
    private void Axes(List<string> values, int x, int y, int width, int height)
    {
        for (var i = 0; i < values.Count; i++)
        {
            var at = y + height - height * i / (values.Count - 1);
            Add($"""<line x1="{x}" y1="{at}" x2="{x + width}" y2="{at}" stroke="{Line}"/>""");
            Text(x - 6, at + 4, values[i], Faint, 10, "end");
        }
        foreach (var i in Enumerable.Range(0, 3))
            Text(x + width * i / 2, y + height + 14, (to - from).Multiply(i / 2.0).ToString(@"m\:ss", CultureInfo.InvariantCulture), Faint, 10,
                i == 0 ? "start" : i == 1 ? "middle" : "end");
    }

    private static double Round(double most)
    {
        if (most <= 0)
            return 1;
        var power = Math.Pow(10, Math.Floor(Math.Log10(most)));
        return power * new[] { 1, 2, 4, 5, 10 }.First(step => step * power >= most);
    }

    private static string Say(double value, string unit)
    {
        return unit switch
        {
            "s" when value < 1 => $"{Number(value * 1000)} ms",
            "s" => $"{Number(value)} s",
            "percentunit" => $"{Number(value * 100)} %",
            "Bps" => $"{Bytes(value)}/s",
            "bytes" => Bytes(value),
            "reqps" => $"{Number(value)}/s",
            "none" => Number(value),
            _ => throw new NotSupportedException($"unit {unit}"),
        };

        static string Number(double value) => value.ToString(Math.Abs(value) >= 100 ? "0" : Math.Abs(value) >= 1 ? "0.#" : "0.###", CultureInfo.InvariantCulture);

        static string Bytes(double value) => value < 1024 ? $"{Number(value)} B" : value < 1 << 20 ? $"{Number(value / 1024)} KiB" : $"{Number(value / (1 << 20))} MiB";
    }

    private void Text(int x, int y, string text, string colour, int size = 11, string anchor = "start") =>
        Add($"""<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{SecurityElement.Escape(text)}</text>""");

    private void Add(string element) => _svg.Append(element).Append('\n');

    [GeneratedRegex(@"\{\{\s*(\w+)\s*\}\}")]
    private static partial Regex Label();

    private sealed record Series(string Name, double?[] Values);
}
