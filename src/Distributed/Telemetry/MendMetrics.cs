using System.Diagnostics.Metrics;
using MendCluster.Contracts;

namespace MendCluster.Distributed.Telemetry;

/// <summary>
/// Every instrument of the product; docs/metrics.md says what question each answers. Read with any listener for .NET's meters.
/// </summary>
public static class MendMetrics
{
    /// <summary>Of the meter.</summary>
    public const string Name = "MendCluster";

    private static readonly string[] Outcomes = ["made", "refused", "cancelled", "failed"];

    /// <summary>Buckets of times.</summary>
    private static readonly double[] Seconds = [.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30];

    private static readonly Meter Meter = new(Name);
    private static readonly Counter<long> Edits =
        Meter.CreateCounter<long>("mend.edits", "{edit}", "Edits by outcome: made, refused, cancelled or failed.");
    private static readonly Histogram<double> Duration = Of("mend.edit.duration", "s", "Time of an edit by phase.", Seconds);
    private static readonly Histogram<double> Queue =
        Of("mend.edit.queue.duration", "s", "Time that an edit, a preview or a revert waited for its turn.", Seconds);
    private static readonly Histogram<double> Drawdown =
        Of("mend.edit.drawdown", "1", "Fraction of the probes' right answers that an edit cost.",
        [0, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1]);
    private static readonly Histogram<double> Kl = Of("mend.edit.kl", "nat", "KL divergence on the probes that an edit caused, per token.",
        [.0001, .0003, .001, .003, .01, .03, .1, .3, 1]);
    private static readonly Histogram<long> Size = Of<long>("mend.edit.size", "By", "Bytes of an edit's factors in the ledger.",
        [1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24, 1 << 26]);
    private static readonly Histogram<long> Rank =
        Of<long>("mend.edit.rank", "{row}", "Rank of an edit's update, the largest of any weight.",
        [1, 2, 4, 8, 16, 32, 64, 128, 256]);

    /// <summary>Every outcome is there as zero from when a coordinator begins: whoever asks for an increase sees the first.</summary>
    internal static void Begin()
    {
        foreach (var outcome in Outcomes)
            Edits.Add(0, Tag("outcome", outcome));
    }

    internal static void Waited(TimeSpan time) => Queue.Record(time.TotalSeconds);

    internal static void Made(EditReceipt receipt)
    {
        Edits.Add(1, Tag("outcome", "made"));
        var times = receipt.Times;
        foreach (var (phase, time) in new[]
        {
            ("forward", times.Forward), ("backward", times.Backward), ("editor", times.Editor), ("try", times.Try),
                ("append", times.Append), ("broadcast", times.Broadcast),
        })
            Duration.Record(time.TotalSeconds, Tag("phase", phase));
        if (receipt.Figures is { Drawdown: { } drawdown, Kl: { } kl }) // without probes nothing was measured
        {
            Drawdown.Record(drawdown);
            Kl.Record(kl);
        }
        Size.Record(receipt.Figures.Bytes);
        Rank.Record(receipt.Figures.Rank);
    }

    internal static void NotMade(Exception why) =>
        Edits.Add(1, Tag("outcome", why switch
        {
            MendException { Error: MendError.DrawdownExceeded or MendError.EditUnsuccessful } => "refused",
            OperationCanceledException => "cancelled",
            _ => "failed",
        }));

    private static Histogram<T> Of<T>(string name, string unit, string description, IReadOnlyList<T> buckets)
        where T : struct => Meter.CreateHistogram(name, unit, description,
            advice: new InstrumentAdvice<T> { HistogramBucketBoundaries = buckets });

    private static KeyValuePair<string, object?> Tag(string name, string value) => new(name, value);
}
