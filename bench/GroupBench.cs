using System.Diagnostics;
using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Experiments;

namespace MendCluster.Bench;

/// <summary>
/// Edits a second of one client and of many at once, each of whom sends its next edit when the last is made: held-out facts of the demo, with
/// the search for their strength and the model's probes. Beside it the same clients where every edit is made alone. In turn, each time on the
/// unedited model; medians of the ratios of the same rounds.
/// </summary>
internal static class GroupBench
{
    private const int Rounds = 3, EditsOfEach = 3;

    private static readonly int[] Clients = [2, 4, 16, 32];

    public static async Task RunAsync(string model)
    {
        var folder = Directory.CreateTempSubdirectory("mend-bench-").FullName;
        try
        {
            await using var together = await OpenAsync(model, folder, EditCoordinator.DefaultMaxGroup);
            await using var alone = await OpenAsync(model, folder, 1);
            foreach (var clients in Clients)
            {
                List<double> rates = [], ratios = [], late = [], apart = [], groups = [];
                for (var round = 0; round < Rounds; round++)
                {
                    var one = await RunAsync(together, 1, 12);
                    var many = await RunAsync(together, clients, EditsOfEach);
                    var apiece = await RunAsync(alone, clients, EditsOfEach);
                    rates.Add(one.Rate);
                    ratios.Add(many.Rate / one.Rate);
                    late.Add(many.Late / one.Late);
                    groups.Add(many.Together);
                    apart.Add(apiece.Rate / one.Rate);
                }
                Console.WriteLine(FormattableString.Invariant(
                    $"  {clients,3} clients: {Passes.Median(ratios):0.00} times the {Passes.Median(rates):0.0} edits/s of one ({ratios.Min():0.00} to {ratios.Max():0.00}), p99 {Passes.Median(late):0.00} times, {Passes.Median(groups):0.0} edits a group; each made alone: {Passes.Median(apart):0.00}"));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <returns>Edits a second, the 99th of a hundred times of an edit in seconds, and edits that were made together on average.</returns>
    private static async Task<(double Rate, double Late, double Together)> RunAsync(EmbeddedCluster cluster, int clients, int each)
    {
        var examples = DemoRecipe.HeldOutEdits();
        var (times, receipts) = (new List<double>(), new List<EditReceipt>());
        var start = Stopwatch.GetTimestamp();
        await Task.WhenAll(Enumerable.Range(0, clients).Select(async client =>
        {
            for (var i = 0; i < each; i++)
            {
                var example = examples[(client * each + i) % examples.Count];
                var sent = Stopwatch.GetTimestamp();
                var receipt = await cluster.EditAsync(example.Prompt, example.Target);
                lock (times)
                {
                    times.Add(Stopwatch.GetElapsedTime(sent).TotalSeconds);
                    receipts.Add(receipt);
                }
            }
        }));
        var rate = receipts.Count / Stopwatch.GetElapsedTime(start).TotalSeconds;
        foreach (var receipt in receipts)
            await cluster.RevertAsync(receipt.Id);
        times.Sort();
        return (rate, times[Math.Min(times.Count - 1, (int)(0.99 * times.Count))],
            receipts.Average(receipt => receipt.Figures.Together ?? 1));
    }

    private static Task<EmbeddedCluster> OpenAsync(string model, string folder, int maxGroup) => EmbeddedCluster.OpenAsync(new()
    {
        ModelDirectory = model,
        Editor = Path.Combine(model, "editor.safetensors"),
        Ledger = Path.Combine(folder, $"ledger-{maxGroup}"),
        Stages = 1,
        Probes = ProbeSet.Beside(model),
        MaxGroup = maxGroup,
    });
}
