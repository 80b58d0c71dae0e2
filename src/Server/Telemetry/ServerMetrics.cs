using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;
using MendCluster.Contracts;

namespace MendCluster.Server.Telemetry;

/// <summary>What a server measures of requests; docs/metrics.md says what question each instrument answers.</summary>
internal static class ServerMetrics
{
    /// <summary>Of the meter.</summary>
    public const string Name = "MendCluster.Server";

    private const string Made = "made", Replayed = "replayed", Refused = "refused", Failed = "failed", Cancelled = "cancelled",
        Answered = "answered";

    private static readonly string[] EditOutcomes = [Made, Replayed, Refused, Cancelled, Failed];
    private static readonly string[] AskOutcomes = [Answered, Refused, Cancelled, Failed];

    private static readonly Meter Meter = new(Name);
    private static readonly Counter<long> EditRequests =
        Meter.CreateCounter<long>("mend.edit.requests", "{request}", "Requests for an edit by outcome.");
    private static readonly Histogram<double> EditDuration =
        Seconds("mend.edit.request.duration", "Time of a request for an edit, its wait included.", [.. Buckets.Phases, 60, 120]);
    private static readonly Counter<long> Asks = Meter.CreateCounter<long>("mend.asks", "{request}", "Requests for an answer by outcome.");
    private static readonly Histogram<double> AskDuration = Seconds("mend.ask.duration", "Time of an answer.", Buckets.Phases);
    private static readonly Histogram<double> FirstToken =
        Seconds("mend.ask.first_token", "Time until an answer that is streamed begins.", Buckets.Phases);
    private static readonly Histogram<double> TokenInterval =
        Seconds("mend.ask.token_interval", "Time between pieces of an answer that is streamed.",
        [.001, .0025, .005, .01, .025, .05, .075, .1, .15, .2, .3, .4, .5, .75, 1, 2.5]);

    /// <summary>Every outcome is there as zero from when a server begins.</summary>
    public static void Begin()
    {
        foreach (var outcome in EditOutcomes)
            EditRequests.Add(0, Tag(outcome));
        foreach (var outcome in AskOutcomes)
            Asks.Add(0, Tag(outcome));
    }

    public static Task<EditReceipt> EditAsync(Func<Task<EditReceipt>> edit) =>
        MeasuredAsync(edit, receipt => receipt.Times == EditTimes.Zero ? Replayed : Made, (start, outcome) =>
        {
            EditRequests.Add(1, Tag(outcome));
            EditDuration.Record(Stopwatch.GetElapsedTime(start).TotalSeconds, Tag(outcome));
        });

    public static Task<Answer> AskAsync(Func<Task<Answer>> ask) => MeasuredAsync(ask, _ => Answered, Record);

    public static async IAsyncEnumerable<AnswerPart> AskAsync(IAsyncEnumerable<AnswerPart> parts,
        [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        var (start, last, outcome) = (Stopwatch.GetTimestamp(), 0L, Cancelled);
        await using var each = parts.GetAsyncEnumerator(cancellation);
        try
        {
            while (true)
            {
                try
                {
                    if (!await each.MoveNextAsync().ConfigureAwait(false))
                        break;
                }
                catch (Exception e)
                {
                    outcome = OutcomeOf(e);
                    throw;
                }
                var now = Stopwatch.GetTimestamp();
                if (last == 0)
                    FirstToken.Record(Stopwatch.GetElapsedTime(start, now).TotalSeconds);
                else
                    TokenInterval.Record(Stopwatch.GetElapsedTime(last, now).TotalSeconds);
                last = now;
                yield return each.Current;
            }
            outcome = Answered;
        }
        finally
        {
            Record(start, outcome);
        }
    }

    private static async Task<T> MeasuredAsync<T>(Func<Task<T>> call, Func<T, string> outcomeOf, Action<long, string> record)
    {
        var start = Stopwatch.GetTimestamp();
        var outcome = Failed;
        try
        {
            var made = await call().ConfigureAwait(false);
            outcome = outcomeOf(made);
            return made;
        }
        catch (Exception e)
        {
            outcome = OutcomeOf(e);
            throw;
        }
        finally
        {
            record(start, outcome);
        }
    }

    private static void Record(long start, string outcome)
    {
        Asks.Add(1, Tag(outcome));
        AskDuration.Record(Stopwatch.GetElapsedTime(start).TotalSeconds, Tag(outcome));
    }

    private static string OutcomeOf(Exception e) => e switch
    {
        OperationCanceledException => Cancelled,
        MendException known when Problems.Statuses[known.Error] < 500 => Refused,
        _ => Failed,
    };

    private static Histogram<double> Seconds(string name, string description, IReadOnlyList<double> buckets) =>
        Meter.CreateHistogram(name, "s", description, advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = buckets });

    private static KeyValuePair<string, object?> Tag(string outcome) => new("outcome", outcome);

    private static class Buckets
    {
        public static readonly double[] Phases = [.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30];
    }
}
