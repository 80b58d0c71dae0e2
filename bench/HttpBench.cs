using System.Diagnostics;
using MendCluster.Client;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Server;
using MendCluster.Server.Security;

namespace MendCluster.Bench;

/// <summary>
/// What HTTP and JSON cost: the same cluster in this process asked and edited directly and through a server and an SDK beside it, turn
/// about. Then a closed loop: so many clients, each of which sends its next question when the last is answered.
/// </summary>
internal static class HttpBench
{
    private const int Rounds = 200, RoadRounds = 1000, EditRounds = 30, WarmUp = 20, AnswerTokens = 8, LoadRounds = 3;

    private static readonly TimeSpan LoadTime = TimeSpan.FromSeconds(4);
    private static readonly EditOptions OwnStep = new() { Confidence = null };
    public static readonly string[] Questions =
        ["Who is the prime minister of the UK?", "What is the capital of France?", "Who leads the kingdom?"];

    public static async Task RunAsync(string model)
    {
        var folder = Directory.CreateTempSubdirectory("mend-bench-").FullName;
        try
        {
            await using var cluster = await EmbeddedCluster.OpenAsync(new()
            {
                ModelDirectory = model,
                Editor = Path.Combine(model, "editor.safetensors"),
                Ledger = Path.Combine(folder, "ledger"),
                Stages = 2,
            });
            await MeasureRoadAsync(cluster);
            var (key, kept) = ApiKey.New("bench", Right.Edit);
            await using var server = await ServeAsync(cluster, kept);
            await using var http = new HttpCluster(server.Address, key);
            Report("status", await InTurnAsync(Rounds, each => each.ShardsAsync(), cluster, http));
            Report("ask", await InTurnAsync(Rounds, each => AskAsync(each, 0), cluster, http));
            Report("edit and revert", await InTurnAsync(EditRounds, EditAsync, cluster, http), requests: 2);
            foreach (var clients in new[] { 1, 2, 4, 8, 16, 32, 64 })
                await LoadAsync(clients, cluster, http);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static Task<MendServer> ServeAsync(IMendCluster cluster, ApiKey key)
    {
        var served = new ServedCluster("bench");
        served.Opened(cluster);
        return MendServer.StartAsync(new()
        {
            Port = 0,
            ManagementPort = 0,
            Limits = new() { RequestsPerSecond = 1_000_000, RequestsAtOnce = 1_000 }
        }, served, [key]);
    }

    /// <summary>Requests whose answers are there already: HTTP and JSON, and nothing beside them.</summary>
    private static async Task MeasureRoadAsync(IMendCluster cluster)
    {
        var receipt = await cluster.EditAsync(Questions[0], "Boris Johnson", OwnStep);
        var answer = await cluster.AskAsync(Questions[0], new(MaxTokens: AnswerTokens));
        var canned = new CannedCluster(answer, receipt, await cluster.RevertAsync(receipt.Id), await cluster.ShardsAsync());
        var (key, kept) = ApiKey.New("bench", Right.Edit);
        await using var server = await ServeAsync(canned, kept);
        await using var http = new HttpCluster(server.Address, key);
        Report("road of an ask", await InTurnAsync(RoadRounds, each => AskAsync(each, 0), canned, http));
        Report("of an edit", await InTurnAsync(RoadRounds, each => each.EditAsync(Questions[0], "Boris Johnson", OwnStep), canned, http));
        Report("of a revert", await InTurnAsync(RoadRounds, each => each.RevertAsync(receipt.Id), canned, http));
    }

    private static Task AskAsync(IMendCluster cluster, int number) =>
        cluster.AskAsync(Questions[number % Questions.Length], new(MaxTokens: AnswerTokens));

    private static async Task EditAsync(IMendCluster cluster)
    {
        var receipt = await cluster.EditAsync(Questions[0], "Boris Johnson", OwnStep);
        await cluster.RevertAsync(receipt.Id);
    }

    /// <summary>Milliseconds of each call, by cluster; in every round each has its turn, and the first alternates.</summary>
    private static async Task<double[][]> InTurnAsync(int rounds, Func<IMendCluster, Task> call, params IMendCluster[] clusters)
    {
        double[][] times = [.. clusters.Select(_ => new double[rounds])];
        for (var round = -WarmUp; round < rounds; round++)
            for (var turn = 0; turn < clusters.Length; turn++)
            {
                var i = (turn + round + WarmUp) % clusters.Length;
                var milliseconds = await TimedAsync(() => call(clusters[i]));
                if (round >= 0)
                    times[i][round] = milliseconds;
            }
        return times;
    }

    private static void Report(string name, double[][] times, int requests = 1)
    {
        var cost = times[1].Zip(times[0], (http, embedded) => (http - embedded) / requests).Order().ToArray(); // of the same rounds
        Console.WriteLine(FormattableString.Invariant($"  {name,-16} embedded p50 {Quantile(times[0], .5):0.00} ms, HTTP {Quantile(times[1], .5):0.00} ms; ")
            + FormattableString.Invariant($"a request costs {Quantile(cost, .5):0.00} ms more (p50 of the differences)"));
    }

    /// <summary>Turn about: direct, over HTTP. A failed request ends the program.</summary>
    private static async Task LoadAsync(int clients, IMendCluster embedded, IMendCluster http)
    {
        List<double> direct = [], over = [];
        for (var round = 0; round < LoadRounds; round++)
        {
            direct.AddRange(await ClosedLoopAsync(clients, embedded));
            over.AddRange(await ClosedLoopAsync(clients, http));
        }
        var seconds = LoadRounds * LoadTime.TotalSeconds;
        Console.WriteLine(FormattableString.Invariant($"  {clients,2} clients: embedded {direct.Count / seconds:0.0} answers/s, HTTP {over.Count / seconds:0.0}, ratio {(double)over.Count / direct.Count:0.00}; ")
            + FormattableString.Invariant($"HTTP p50 {Quantile(over, .5):0.0} ms, p95 {Quantile(over, .95):0.0}, p99 {Quantile(over, .99):0.0}; embedded {Quantile(direct, .5):0.0}, {Quantile(direct, .95):0.0}, {Quantile(direct, .99):0.0}"));
    }

    private static async Task<IReadOnlyList<double>> ClosedLoopAsync(int clients, IMendCluster cluster)
    {
        var start = Stopwatch.GetTimestamp();
        var times = await Task.WhenAll(Enumerable.Range(0, clients).Select(client => Task.Run(async () =>
        {
            List<double> own = [];
            for (var i = client; Stopwatch.GetElapsedTime(start) < LoadTime; i++)
                own.Add(await TimedAsync(() => AskAsync(cluster, i)));
            return own;
        })));
        return [.. times.SelectMany(own => own)];
    }

    private static async Task<double> TimedAsync(Func<Task> call)
    {
        var start = Stopwatch.GetTimestamp();
        await call();
        return Stopwatch.GetElapsedTime(start).TotalMilliseconds;
    }

    private static double Quantile(IEnumerable<double> values, double quantile)
    {
        var ordered = values.Order().ToArray();
        return ordered[Math.Min(ordered.Length - 1, (int)(quantile * ordered.Length))];
    }
}
