using System.Globalization;
using System.Security;
using System.Text;

namespace MendCluster.Experiments;

/// <summary>A point with its interval; without one, Low and High are Y.</summary>
public readonly record struct ChartPoint(double X, double Y, double Low, double High)
{
    public ChartPoint(double x, double y)
        : this(x, y, y, y)
    {
    }
}

/// <summary>What one colour shows.</summary>
/// <param name="Name">In the legend.</param>
/// <param name="Points">In the order in which they are joined; one point alone is a dot.</param>
public sealed record ChartLine(string Name, IReadOnlyList<ChartPoint> Points);

/// <summary>A line chart as SVG, with ticks, a legend, and whiskers where points have an interval.</summary>
public sealed record LineChart(string Title, string XLabel, string YLabel, IReadOnlyList<ChartLine> Lines)
{
    private const int Width = 860, Height = 400, Left = 70, Right = 180, Top = 40, Bottom = 70, TickRows = 2;

    private static readonly string[] Colours =
        ["#4477aa", "#cc3311", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#ee7733", "#009988", "#885500", "#777777"];

    /// <summary>Decades on the y axis; all values must be above 0.</summary>
    /// <value>false: a linear axis, which shows 0.</value>
    public bool IsLogarithmic { get; init; }

    /// <summary>Names of the places 0, 1, 2 ... of the x axis. Empty: x is a number from 0.</summary>
    public IReadOnlyList<string> XNames { get; init; } = [];

    public string ToSvg()
    {
        var svg = new StringBuilder($"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {Width} {Height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>""").Append('\n');
        Text(Width / 2, 22, Title, "middle", 15);
        Text((Left + Width - Right) / 2, Height - 10, XLabel, "middle");
        Text(12, Top - 10, YLabel, "start");
        var points = Lines.SelectMany(line => line.Points).ToList();
        if (points.Count > 0)
        {
            var ticks = IsLogarithmic ? Decades(points) : Steps(points);
            var (low, high) = (Scale(ticks[0]), Scale(ticks[^1]));
            var (xMin, xMax) = XNames.Count > 0 ? (-0.5, XNames.Count - 0.5) : (0, points.Max(p => p.X) is var most and > 0 ? most : 1);
            double X(double x) => Left + (x - xMin) / (xMax - xMin) * (Width - Left - Right);
            double Y(double y) => Top + (high - Scale(y)) / (high - low) * (Height - Top - Bottom);
            foreach (var tick in ticks)
            {
                Line(Left, Y(tick), Width - Right, Y(tick), "#dddddd");
                Text(Left - 6, Y(tick) + 4, Number(tick), "end");
            }
            foreach (var (i, name) in XNames.Index())
                Text(X(i), Height - Bottom + 18 + i % TickRows * 15, name, "middle"); // in turn lower, so that long names have room
            for (var i = 0; XNames.Count == 0 && i <= 5; i++)
                Text(X(xMax * i / 5), Height - Bottom + 18, (xMax * i / 5).ToString(xMax > 5 ? "0" : "0.###", CultureInfo.InvariantCulture), "middle");
            foreach (var (row, line) in Lines.Index())
            {
                var colour = Colours[row % Colours.Length];
                Append($"""<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{string.Join(' ', line.Points.Select(p => string.Create(CultureInfo.InvariantCulture, $"{X(p.X):0.#},{Y(p.Y):0.#}")))}"/>""");
                foreach (var point in line.Points.Where(p => p.High > p.Low || line.Points.Count == 1))
                {
                    Line(X(point.X), Y(point.Low), X(point.X), Y(point.High), colour);
                    Append($"""<circle cx="{X(point.X):0.#}" cy="{Y(point.Y):0.#}" r="3.5" fill="{colour}"/>""");
                }
                Append($"""<rect x="{Width - Right + 12}" y="{Top + row * 18}" width="12" height="4" fill="{colour}"/>""");
                Text(Width - Right + 30, Top + 6 + row * 18, line.Name, "start");
            }
        }
        return svg.Append("</svg>\n").ToString();

        void Append(FormattableString element) => svg.Append(element.ToString(CultureInfo.InvariantCulture)).Append('\n');

        void Text(double x, double y, string text, string anchor, int size = 12) =>
            Append($"""<text x="{x:0.#}" y="{y:0.#}" text-anchor="{anchor}" font-size="{size}">{SecurityElement.Escape(text)}</text>""");

        void Line(double x1, double y1, double x2, double y2, string colour) =>
            Append($"""<line x1="{x1:0.#}" y1="{y1:0.#}" x2="{x2:0.#}" y2="{y2:0.#}" stroke="{colour}"/>""");
    }

    private double Scale(double y) => IsLogarithmic ? Math.Log10(y) : y;

    private static string Number(double value) => value.ToString("0.######", CultureInfo.InvariantCulture);

    private static List<double> Decades(List<ChartPoint> points)
    {
        var low = (int)Math.Floor(Math.Log10(points.Min(p => p.Low)));
        var high = Math.Max((int)Math.Ceiling(Math.Log10(points.Max(p => p.High))), low + 1);
        return [.. Enumerable.Range(low, high - low + 1).Select(decade => Math.Pow(10, decade))];
    }

    /// <summary>About five steps of 1, 2 or 5 times a power of ten, from 0 or below to 0 or above.</summary>
    private static List<double> Steps(List<ChartPoint> points)
    {
        var (low, high) = (Math.Min(0, points.Min(p => p.Low)), Math.Max(0, points.Max(p => p.High)));
        var rough = high > low ? (high - low) / 5 : 0.2;
        var power = Math.Pow(10, Math.Floor(Math.Log10(rough)));
        var step = power * (rough / power <= 1 ? 1 : rough / power <= 2 ? 2 : rough / power <= 5 ? 5 : 10);
        var (first, last) = ((int)Math.Floor(low / step + 1e-9), (int)Math.Ceiling(high / step - 1e-9));
        return [.. Enumerable.Range(first, Math.Max(1, last - first) + 1).Select(i => i * step)];
    }
}
