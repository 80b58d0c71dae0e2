using System.Diagnostics.Metrics;
using MendCluster.Contracts;

namespace MendCluster.Distributed.Telemetry;

/// <summary>Every instrument of the product; docs/metrics.md says what question each answers. Read with any listener for .NET's meters.</summary>
public static class MendMetrics
{
    /// <summary>Of the meter.</summary>
    public const string Name = "MendCluster";

    private static readonly Meter Meter = new(Name);
    private static readonly Counter<long> Edits = Meter.CreateCounter<long>("mend.edits", "{edit}", "Edits by outcome: made, refused, cancelled or failed.");
    private static readonly Histogram<double> Duration = Meter.CreateHistogram<double>("mend.edit.duration", "s", "Time of an edit by phase.");
    private static readonly Histogram<double> Drawdown = Meter.CreateHistogram<double>("mend.edit.drawdown", "1", "Fraction of the probes' right answers that an edit cost.");
    private static readonly Histogram<double> Kl = Meter.CreateHistogram<double>("mend.edit.kl", "nat", "KL divergence on the probes that an edit caused, per token.");
    private static readonly Histogram<long> Size = Meter.CreateHistogram<long>("mend.edit.size", "By", "Bytes of an edit's factors in the ledger.");
    private static readonly Histogram<long> Rank = Meter.CreateHistogram<long>("mend.edit.rank", "{row}", "Rank of an edit's update, the largest of any weight.");

    internal static void Made(EditReceipt receipt)
    {
        Edits.Add(1, Tag("outcome", "made"));
        var times = receipt.Times;
        foreach (var (phase, time) in new[]
        {
            ("forward", times.Forward), ("backward", times.Backward), ("editor", times.Editor), ("try", times.Try), ("append", times.Append), ("broadcast", times.Broadcast),
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

    private static KeyValuePair<string, object?> Tag(string name, string value) => new(name, value);
}
