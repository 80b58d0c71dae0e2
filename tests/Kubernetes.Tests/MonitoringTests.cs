using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using MendCluster.Testing;

namespace MendCluster.Kubernetes.Tests;

/// <summary>
/// Rules, alerts and dashboards: their syntax by Prometheus' and Grafana's own tools, and that each alert fires when it should and not
/// before.
/// </summary>
public sealed partial class MonitoringTests : IDisposable
{
    private static readonly string[] Severities = ["critical", "warning", "info"];

    private readonly TemporaryFolder _folder = new();

    internal static readonly string[] Boards =
        [.. Directory.EnumerateFiles(Path.Combine(Chart.Folder, "dashboards"), "*.json").Select(file => Path.GetFileName(file)!)
        .Order(StringComparer.Ordinal)];

    public static TheoryData<string> Dashboards => [.. Boards];

    private static string Alerts => Path.Combine(FixtureFolder.Repository, "tests", "Kubernetes.Tests", "alerts.yaml");

    public void Dispose() => _folder.Dispose();

    [ToolFact("helm", "promtool")]
    public void EveryAlert_Fires_AndStaysQuietBefore()
    {
        WriteRules();
        File.Copy(Alerts, _folder["alerts.yaml"]);
        var (code, output, error) = Tools.Run(Tools.Find("promtool")!, ["test", "rules", "alerts.yaml"], folder: _folder.Path);
        Assert.True(code == 0, output + error);
        var tests = File.ReadAllText(Alerts);
        foreach (var alert in Rules().Where(rule => rule.Alert is not null))
        {
            Assert.Contains(alert.Labels!["severity"], Severities);
            Assert.NotEmpty(alert.Annotations!["summary"]);
            Assert.NotEmpty(alert.Annotations["description"]);
            Assert.Equal($"https://runbooks.example.org/{alert.Alert!.ToLowerInvariant()}", alert.Annotations["runbook_url"]);
            foreach (var value in new[] { 0, 1 }) // quiet, and loud
                Assert.Matches($$"""alertname="{{alert.Alert}}",alertstate="firing"[^\n]*\n\s+eval_time: \w+\n\s+exp_samples: \[\{labels: '\{\}', value: {{value}}\}\]""", tests);
        }
    }

    [ToolFact("helm", "promtool")]
    public void Rules_AreOfOneRelease()
    {
        WriteRules();
        var (code, output, error) = Tools.Run(Tools.Find("promtool")!, ["check", "rules", "rules.yml"], folder: _folder.Path);
        Assert.True(code == 0, output + error);
        Assert.All(Rules(), rule =>
        {
            var selectors = Selector().Matches(rule.Expr);
            Assert.NotEmpty(selectors);
            Assert.All(selectors, selector => Assert.Matches(OfTheRelease(), selector.Value));
        });
    }

    /// <summary>Of our own; the others' names are seen on a real Prometheus (<see cref="KubeletTests"/>).</summary>
    [ToolFact("helm")]
    public void EveryMetric_IsOneThatTheDocsHave()
    {
        var documented = Documented().Matches(File.ReadAllText(Path.Combine(FixtureFolder.Repository, "docs", "metrics.md")))
            .Select(match => match.Groups["name"].Value).ToHashSet();
        Assert.True(documented.Count > 20);
        foreach (var query in Rules().Select(rule => rule.Expr).Concat(Boards.SelectMany(QueriesOf)))
            Assert.All(Metric().Matches(query), metric => Assert.Contains(Family().Replace(metric.Value, ""), documented));
    }

    [ToolFact("helm")]
    public void EveryAlert_HasItsRowInTheDocs()
    {
        var page = File.ReadAllText(Path.Combine(FixtureFolder.Repository, "docs", "kubernetes.md"));
        Assert.All(Rules().Where(rule => rule.Alert is not null),
            rule => Assert.Contains($"| `{rule.Alert}` |", page, StringComparison.Ordinal));
    }

    [ToolFact("node")]
    public void Dashboards_AreOfGrafanasTypes()
    {
        var (code, output, error) =
            Tools.Run("node", ["tests/Kubernetes.Tests/dashboards.mjs", Tools.Node,
            .. Directory.EnumerateFiles(Path.Combine(Chart.Folder, "dashboards"))]);
        Assert.Equal((0, "", ""), (code, output, error));
    }

    [ToolTheory("promtool")]
    [MemberData(nameof(Dashboards))]
    public void EveryQueryOfADashboard_IsOneThatPrometheusReads(string dashboard)
    {
        var queries = QueriesOf(dashboard);
        Assert.NotEmpty(queries);
        _folder.Write("rules.yml",
            new JsonObject
            {
                ["groups"] =
            new JsonArray(new JsonObject
            {
                ["name"] = "queries",
                ["rules"] = new JsonArray([.. queries.Select((query, i) =>
            new JsonObject { ["record"] = $"query:{i}", ["expr"] = query })])
            })
            }.ToJsonString());
        var (code, output, error) = Tools.Run(Tools.Find("promtool")!, ["check", "rules", "rules.yml"], folder: _folder.Path);
        Assert.True(code == 0, output + error);
    }

    [Theory]
    [MemberData(nameof(Dashboards))]
    public void ADashboard_IsOfTheReleaseThatIsChosen_AndItsPanelsAreBesideEachOther(string dashboard)
    {
        var json = Read(dashboard);
        Assert.Equal(["datasource", "namespace", "release"],
            json["templating"]!["list"]!.AsArray().Select(variable => (string?)variable!["name"]));
        var panels = json["panels"]!.AsArray().Select(panel => panel!).ToList();
        Assert.Distinct(panels.Select(panel => (int)panel["id"]!));
        Assert.Distinct(panels.SelectMany(Cells));
        foreach (var panel in panels.Where(panel => (string?)panel["type"] != "row"))
        {
            Assert.NotEmpty((string)panel["title"]!);
            Assert.NotEmpty((string)panel["fieldConfig"]!["defaults"]!["unit"]!);
            foreach (var target in panel["targets"]!.AsArray())
            {
                Assert.Equal("${datasource}", (string?)target!["datasource"]!["uid"]);
                Assert.All(Selector().Matches((string)target["expr"]!),
                    selector => Assert.StartsWith("{namespace=\"$namespace\",job=\"$release\"", selector.Value, StringComparison.Ordinal));
            }
        }
    }

    internal static JsonNode Read(string dashboard) =>
        JsonNode.Parse(File.ReadAllText(Path.Combine(Chart.Folder, "dashboards", dashboard)))!;

    internal static List<string> QueriesOf(string dashboard) =>
        [.. Read(dashboard)["panels"]!.AsArray().SelectMany(panel => panel!["targets"]?.AsArray() ?? [])
            .Select(target => QueryOf((string)target!["expr"]!))];

    /// <summary>With the variables as somebody would choose them.</summary>
    internal static string QueryOf(string expression) => expression.Replace("$__rate_interval", "1m", StringComparison.Ordinal)
        .Replace("$namespace", Chart.Namespace, StringComparison.Ordinal).Replace("$release", Chart.Release, StringComparison.Ordinal);

    private static IEnumerable<(int X, int Y)> Cells(JsonNode panel)
    {
        var at = panel["gridPos"]!;
        var (x, y, width, height) = ((int)at["x"]!, (int)at["y"]!, (int)at["w"]!, (int)at["h"]!);
        Assert.InRange(x + width, 1, 24);
        return from column in Enumerable.Range(x, width) from row in Enumerable.Range(y, height) select (column, row);
    }

    private static IEnumerable<Rule> Rules() =>
        Chart.Objects("full").OfType<CustomResource<PrometheusRuleSpec>>().Single().Spec.Groups.SelectMany(group => group.Rules);

    private void WriteRules() =>
        _folder.Write("rules.yml",
        Yaml.Documents(Chart.Render("full")).Single(item => (string?)item["kind"] == "PrometheusRule")["spec"]!.ToJsonString());

    /// <summary>Other exporters tell of its pods by their names.</summary>
    [GeneratedRegex($"^{{namespace=\"{Chart.Namespace}\",(job=\"{Chart.Release}\"|pod=~\"{Chart.Release}-mendcluster-)")]
    private static partial Regex OfTheRelease();

    [GeneratedRegex(@"\bmend_\w+")]
    private static partial Regex Metric();

    /// <summary>What a histogram's series have after its name.</summary>
    [GeneratedRegex("_(bucket|sum|count)$")]
    private static partial Regex Family();

    [GeneratedRegex(@"^\| `mend\.[\w.]+` \| `(?<name>\w+)` \|", RegexOptions.Multiline)]
    private static partial Regex Documented();

    /// <summary>What a series is chosen by; not the braces of an alert's text.</summary>
    [GeneratedRegex(@"(?<!\{)\{(?!\{)[^}]*\}")]
    private static partial Regex Selector();
}
