using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Editing;
using MendCluster.Experiments;

namespace MendCluster.Bench;

/// <summary>
/// Where does an edit's time go, and what does its trial cost beside the rest? Held-out facts of the demo, one after another, each with the
/// search for its strength and the model's probes. Medians.
/// </summary>
internal static class PhasesBench
{
    private const int WarmUp = 10, Edits = 30;

    public static async Task RunAsync(string model, int stages)
    {
        var folder = Directory.CreateTempSubdirectory("mend-bench-").FullName;
        try
        {
            await using var cluster = await EmbeddedCluster.OpenAsync(new()
            {
                ModelDirectory = model,
                Editor = Path.Combine(model, "editor.safetensors"),
                Ledger = Path.Combine(folder, "ledger"),
                Stages = stages,
                Probes = ProbeSet.Beside(model),
            });
            var examples = DemoRecipe.HeldOutEdits();
            List<EditReceipt> inARow = [], alone = [];
            foreach (var example in examples.Take(WarmUp + Edits))
                inARow.Add(await cluster.EditAsync(example.Prompt, example.Target));
            foreach (var receipt in inARow)
                await cluster.RevertAsync(receipt.Id);
            foreach (var example in examples.Skip(WarmUp + Edits).Take(Edits))
            {
                alone.Add(await cluster.EditAsync(example.Prompt, example.Target));
                await cluster.RevertAsync(alone[^1].Id);
            }
            Report($"{stages} stage(s), an edit after an edit", [.. inARow.Skip(WarmUp)]);
            Report($"{stages} stage(s), an edit after a revert", alone);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void Report(string what, IReadOnlyList<EditReceipt> receipts)
    {
        double Median(Func<EditTimes, double> of) => receipts.Select(receipt => of(receipt.Times)).Order().ElementAt(receipts.Count / 2);
        double Milliseconds(Func<EditTimes, TimeSpan> of) => Median(times => of(times).TotalMilliseconds);
        Console.WriteLine(FormattableString.Invariant(
            $"{what}, {receipts[0].Figures.Probes} probes: {Milliseconds(times => times.Total):0.0} ms, ")
            + FormattableString.Invariant($"forward {Milliseconds(times => times.Forward):0.0}, backward {Milliseconds(times => times.Backward):0.0}, ")
            + FormattableString.Invariant($"editor {Milliseconds(times => times.Editor):0.0}, try {Milliseconds(times => times.Try):0.0}, ")
            + FormattableString.Invariant($"append {Milliseconds(times => times.Append):0.0}, broadcast {Milliseconds(times => times.Broadcast):0.0}; ")
            + FormattableString.Invariant($"{Median(times => times.Total / (times.Forward + times.Backward + times.Editor + times.Append)):0.00} times forward + backward + editor + append"));
    }
}
