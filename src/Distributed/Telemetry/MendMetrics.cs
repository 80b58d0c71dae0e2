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

    private static readonly Histogram<double> Consolidation = Of<double>("mend.consolidation.duration", "s",
        "Time of a consolidation, waiting included.", [1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600]);

    private static readonly Histogram<double> Append = Of("mend.ledger.append.duration", "s", "Time until a record is durable.", Seconds);
    private static readonly Histogram<double> Read =
        Of("mend.ledger.read.duration", "s", "Time until the ledger is open, or a shard's missing records are read.", Seconds);

    private static readonly Counter<long> AskTokens =
        Meter.CreateCounter<long>("mend.ask.tokens", "{token}", "Tokens of prompts that were read, and of answers that were written.");
    private static readonly Counter<long> Routings =
        Meter.CreateCounter<long>("mend.ask.routed", "{answer}", "Answers that saw an edit of a model that routes them.");
    private static readonly Histogram<int> Together =
        Of<int>("mend.ask.batch", "{answer}", "Answers that a stage computed a token of in one pass.", [1, 2, 4, 8, 16, 32, 64]);
    private static readonly Counter<double> Computing =
        Meter.CreateCounter<double>("mend.shard.busy", "s", "Time that a shard spent on passes of edits and answers.");
    private static readonly Counter<double> Active =
        Meter.CreateCounter<double>("mend.pipeline.active", "s", "Time in which at least one of a replica's stages was called.");
    private static readonly UpDownCounter<int> Trainings =
        Meter.CreateUpDownCounter<int>("mend.training.running", "{run}", "Trainings of editors that are under way.");
    private static readonly Counter<long> Steps = Meter.CreateCounter<long>("mend.training.steps", "{step}", "Steps of trainings.");
    private static readonly Counter<long> Skipped =
        Meter.CreateCounter<long>("mend.training.skipped", "{edit}", "Edits that a step was taken without: they were not finite.");
    private static readonly Gauge<double> Loss =
        Meter.CreateGauge<double>("mend.training.loss", "1", "Mean loss of the last step's edits.");
    private static readonly Histogram<double> StepDuration = Of("mend.training.step.duration", "s", "Time of a step.", Seconds);
    private static readonly Histogram<double> Reduction =
        Of("mend.training.allreduce.duration", "s", "Time in which a step's gradients are summed over the replicas.", Seconds);
    private static readonly Counter<long> Reduced =
        Meter.CreateCounter<long>("mend.training.allreduce.io", "By", "Bytes that shards sent for such sums.");

    /// <summary>Every outcome is there as zero from when a coordinator begins: whoever asks for an increase sees the first.</summary>
    internal static void Begin()
    {
        foreach (var outcome in Outcomes)
            Edits.Add(0, Tag("outcome", outcome));
        Answered(0, 0);
        Routings.Add(0);
        Trainings.Add(0);
        foreach (var counter in new[] { Steps, Skipped, Reduced })
            counter.Add(0);
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
            MendException { Error: MendError.DrawdownExceeded or MendError.EditUnsuccessful or MendError.BudgetExceeded } => "refused",
            OperationCanceledException => "cancelled",
            _ => "failed",
        }));

    /// <param name="input">Tokens of a prompt that were read.</param>
    /// <param name="output">Tokens of an answer that were written.</param>
    internal static void Answered(long input, long output)
    {
        AskTokens.Add(input, Tag("direction", "input"));
        AskTokens.Add(output, Tag("direction", "output"));
    }

    internal static void Routed() => Routings.Add(1);

    /// <param name="answers">In one pass of a stage.</param>
    internal static void AnsweredTogether(int answers) => Together.Record(answers);

    internal static void Computed(int replica, int stage, TimeSpan time) =>
        Computing.Add(time.TotalSeconds, new("replica", replica), new("stage", stage));

    internal static void Called(int replica, TimeSpan time) =>
        Active.Add(time.TotalSeconds, new KeyValuePair<string, object?>("replica", replica));

    /// <param name="isDurable">Whether the ledger said so.</param>
    internal static void Appended(TimeSpan time, bool isDurable) =>
        Append.Record(time.TotalSeconds, Tag("outcome", isDurable ? "made" : "failed"));

    /// <summary>Opens the ledger, or reads records.</summary>
    internal static async Task<T> ReadAsync<T>(TimeProvider time, Func<Task<T>> read)
    {
        var (start, outcome) = (time.GetTimestamp(), "failed");
        try
        {
            var found = await read().ConfigureAwait(false);
            outcome = "read";
            return found;
        }
        finally
        {
            Read.Record(time.GetElapsedTime(start).TotalSeconds, Tag("outcome", outcome));
        }
    }

    /// <param name="change">1 when one begins, -1 when it ends.</param>
    internal static void Training(int change) => Trainings.Add(change);

    /// <param name="loss">Mean of its edits.</param>
    /// <param name="skipped">Edits that it was taken without.</param>
    internal static void Step(TimeSpan time, double loss, long skipped)
    {
        Steps.Add(1);
        StepDuration.Record(time.TotalSeconds);
        Loss.Record(loss);
        Skipped.Add(skipped);
    }

    internal static void Reduce(TimeSpan time) => Reduction.Record(time.TotalSeconds);

    internal static void Sent(int bytes) => Reduced.Add(bytes);

    /// <param name="e">Null: it was made.</param>
    internal static void Consolidated(TimeSpan took, Exception? e) => Consolidation.Record(took.TotalSeconds, Tag("outcome", e switch
    {
        null => "made",
        OperationCanceledException => "cancelled",
        MendException { Error: MendError.ConsolidationRefused or MendError.NothingToConsolidate } => "refused",
        _ => "failed",
    }));

    private static Histogram<T> Of<T>(string name, string unit, string description, IReadOnlyList<T> buckets)
        where T : struct => Meter.CreateHistogram(name, unit, description,
            advice: new InstrumentAdvice<T> { HistogramBucketBoundaries = buckets });

    private static KeyValuePair<string, object?> Tag(string name, string value) => new(name, value);
}
