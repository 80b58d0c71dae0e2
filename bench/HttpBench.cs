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
    private const int Rounds = 200, EditRounds = 30, WarmUp = 20, AnswerTokens = 8, LoadRounds = 3;

    private static readonly TimeSpan LoadTime = TimeSpan.FromSeconds(4);
    private static readonly EditOptions OwnStep = new() { Confidence = null };
    private static readonly string[] Questions =
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
            var (key, kept) = ApiKey.New("bench", Right.Edit);
            var served = new ServedCluster("bench");
            served.Opened(cluster);
            var settings = new ServerSettings
            {
                Port = 0,
                ManagementPort = 0,
                Limits = new() { RequestsPerSecond = 1_000_000, RequestsAtOnce = 1_000 }
            };
            await using var server = await MendServer.StartAsync(settings, served, [kept]);
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
