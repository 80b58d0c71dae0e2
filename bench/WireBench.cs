using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;
using MendCluster.Grains;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace MendCluster.Bench;

/// <summary>
/// What large boundary tensors do to a cluster: edits whose trips carry tensors of some megabytes from one stage's silo to the
/// coordinator's and on to the other stage's, three processes on this machine; how long an edit takes, and whether the probes by which
/// silos tell that the others live, which share the connections, are missed. Little is computed: two layers, and many probes of 32 tokens.
/// </summary>
internal static class WireBench
{
    private const int Width = 256, Tokens = 32, Edits = 25, WarmUp = 3;

    /// <summary>Two hold a stage each; the coordinator is alone on the third, so that every boundary crosses twice.</summary>
    private static readonly string[] Silos = ["silo-0", "silo-1", "silo-2"];

    /// <summary>Of Orleans' meter.</summary>
    private static readonly string[] Counters =
        ["orleans-messaging-pings-sent", "orleans-messaging-pings-reply-received", "orleans-messaging-pings-reply-missed"];

    public static async Task RunAsync(int megabytes)
    {
        var folder = Directory.CreateTempSubdirectory("mend-bench-").FullName;
        List<Process> silos = [];
        try
        {
            Make(folder, megabytes);
            foreach (var silo in Silos)
            {
                string[] arguments = [typeof(WireBench).Assembly.Location, "wire-silo", folder, silo];
                silos.Add(Process.Start(new ProcessStartInfo(Environment.ProcessPath!, arguments)
                {
                    RedirectStandardInput = true,
                    RedirectStandardOutput = true,
                })!);
                await silos[^1].StandardOutput.ReadLineAsync(); // it is ready
            }
            await using var cluster = await OrleansCluster.ConnectAsync(Path.Combine(folder, "members.json"), "model");
            for (var edit = 0; edit < WarmUp; edit++)
                await EditAsync(cluster, edit);
            var (before, bytes) = (await CountsAsync(silos), ClusterBench.LoopbackBytes());
            List<(double Whole, double Try)> times = [];
            for (var edit = 0; edit < Edits; edit++)
                times.Add(await EditAsync(cluster, edit));
            bytes = ClusterBench.LoopbackBytes() - bytes;
            List<long> counts = [.. (await CountsAsync(silos)).Zip(before, (now, then) => now - then)];
            var whole = times.Select(time => time.Whole).Order().ToList();
            var tries = times.Select(time => time.Try).Order().ToList();
            Console.WriteLine(FormattableString.Invariant(
                $"  boundaries of {Examples(megabytes) * Tokens * Width * sizeof(float) / 1e6:0.0} MB: an edit {whole[Edits / 2]:0} ms")
                + FormattableString.Invariant($" ({whole[0]:0} to {whole[^1]:0}), of which try {tries[Edits / 2]:0};")
                + FormattableString.Invariant($" {bytes / 1e6 / Edits:0} MB over the loopback;")
                + FormattableString.Invariant($" probes: {counts[0]} sent, {counts[1]} answered, {counts[2]} missed"));
        }
        finally
        {
            foreach (var silo in silos)
            {
                silo.StandardInput.Close();
                await silo.WaitForExitAsync();
                silo.Dispose();
            }
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>One silo, until its standard input ends. Says when it is ready, and its <see cref="Counters"/> at each line.</summary>
    public static async Task RunSiloAsync(string folder, string name)
    {
        var counts = new long[Counters.Length];
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, listener) =>
            {
                if (Array.IndexOf(Counters, instrument.Name) is >= 0 and var i)
                    listener.EnableMeasurementEvents(instrument, i);
            },
        };
        listener.SetMeasurementEventCallback<int>((_, value, _, i) => Interlocked.Add(ref counts[(int)i!], value));
        listener.Start();

        var model = Path.Combine(folder, "model");
        var builder = Host.CreateEmptyApplicationBuilder(new());
        builder.Logging.SetMinimumLevel(LogLevel.Error);
        builder.UseOrleans(silo => silo.AddMendCluster(new()
        {
            ModelDirectory = model,
            Editor = Path.Combine(model, "editor.safetensors"),
            Ledger = Path.Combine(folder, "ledger"),
            Replicas = [Silos[..2]],
            Coordinators = [Silos[2]],
            Probes = [.. File.ReadLines(Path.Combine(folder, "probes")).Select(line => new Probe(line[..^3], line[^2..]))],
        }, name).UseFileMembership(Path.Combine(folder, "members.json"), FreePort(), FreePort()));
        using var host = builder.Build();
        await host.StartAsync();
        await host.Services.GetRequiredService<ShardHost>().LoadAsync();
        Console.WriteLine("ready");
        while (await Console.In.ReadLineAsync() is not null)
            Console.WriteLine(string.Join(' ', counts.Select(count => count.ToString(CultureInfo.InvariantCulture))));
        await host.StopAsync();
    }

    private static void Make(string folder, int megabytes)
    {
        Console.WriteLine($"GPT-2's form, 2 layers, {Width} wide, float32; {TorchRuntime.Description}");
        var model = Path.Combine(folder, "model");
        LargeCheckpoint.Make(model, DType.Float32, $$"""
            {"model_type": "gpt2", "vocab_size": 258, "n_positions": 128, "n_embd": {{Width}}, "n_layer": 2, "n_head": 4,
             "eos_token_id": 257, "pad_token_id": 256}
            """);
        BytePairTrainer.Train(["a"], 258, ["<pad>", "</s>"]).Save(model, null); // a token for each byte
        File.WriteAllLines(Path.Combine(folder, "probes"),
            Enumerable.Range(1, Examples(megabytes) - 1)
            .Select(i => ClusterBench.Letters(Tokens - 2, i) + " " + ClusterBench.Letters(2, i)));
    }

    private static int Examples(int megabytes) => megabytes * 1_000_000 / (Tokens * Width * sizeof(float));

    private static async Task<(double Whole, double Try)> EditAsync(OrleansCluster cluster, int number)
    {
        var start = Stopwatch.GetTimestamp();
        var (prompt, target) = (ClusterBench.Letters(20, number), ClusterBench.Letters(6, number + 1));
        var receipt = await cluster.EditAsync(prompt, target, new() { Confidence = null });
        var whole = Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        await cluster.RevertAsync(receipt.Id); // so that every edit meets the same model
        return (whole, receipt.Times.Try.TotalMilliseconds);
    }

    /// <summary>Of all silos together.</summary>
    private static async Task<long[]> CountsAsync(IEnumerable<Process> silos)
    {
        var sum = new long[Counters.Length];
        foreach (var silo in silos)
        {
            await silo.StandardInput.WriteLineAsync();
            foreach (var (i, count) in (await silo.StandardOutput.ReadLineAsync())!.Split(' ').Index())
                sum[i] += long.Parse(count, CultureInfo.InvariantCulture);
        }
        return sum;
    }

    private static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }
}
