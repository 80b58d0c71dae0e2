using System.Diagnostics;
using MendCluster.Contracts;

namespace MendCluster.Bench;

/// <summary>
/// What do the edits in force cost? GPT-2-small's shape, as <see cref="ClusterBench"/> has it: an answer, and an edit with its revert, beside
/// the same on the unedited model in turn, while the edits become more. Medians of the ratios of the same rounds.
/// </summary>
internal static class ActiveBench
{
    private const int Rounds = 9;

    private static readonly int[] Counts = [1, 10, 100, 300, 1000];

    public static Task RunAsync(int most) => ClusterBench.WithModelAsync(async model =>
    {
        await using var unedited = await ClusterBench.OpenAsync(model, 1);
        await using var edited = await ClusterBench.OpenAsync(model, 1);
        var (made, inForce) = (0, new Queue<EditId>());
        foreach (var count in Counts.Where(count => count <= most))
        {
            var building = Stopwatch.GetTimestamp();
            while (inForce.Count < count)
                inForce.Enqueue((await ClusterBench.EditAsync(edited, made++)).Id);
            var seconds = Stopwatch.GetElapsedTime(building).TotalSeconds;
            List<double> asks = [], edits = [], reverts = [];
            for (var round = 0; round < Rounds; round++)
            {
                var number = 100_000 + round;
                asks.Add(await ClusterBench.AskAsync(edited, number) / await ClusterBench.AskAsync(unedited, number));
                var (there, back) = await ClusterBench.EditAndRevertAsync(edited, number);
                var (beside, _) = await ClusterBench.EditAndRevertAsync(unedited, number);
                edits.Add(there / beside);
                reverts.Add(back);
            }
            var start = Stopwatch.GetTimestamp();
            await edited.RevertAsync(inForce.Dequeue()); // all the others are added up anew
            var oldest = Stopwatch.GetElapsedTime(start).TotalSeconds;
            Console.WriteLine(FormattableString.Invariant(
                $"  {count,5} edits in force: ask {Passes.Median(asks):0.00} times, edit {Passes.Median(edits):0.00} times the unedited model's; ")
                + FormattableString.Invariant($"the newest taken back in {1000 * Passes.Median(reverts):0} ms, the oldest in {1000 * oldest:0} ms; made in {seconds:0} s"));
        }
    });
}
