using System.Collections.Concurrent;
using System.Diagnostics;
using MendCluster.Distributed.Telemetry;

namespace MendCluster.Orleans.Tests;

public class TracingTests
{
    [Fact]
    public async Task AnEdit_IsASpan_WithOneForEachPhase_AndForEachCallOfAStage_InTheCallersTrace()
    {
        await using var cluster = await TinyCluster.StartAsync("gpt2", silos: 2, stages: 2);
        var ended = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == MendTracing.Name
                || source.Name.StartsWith("Microsoft.Orleans", StringComparison.Ordinal),
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = ended.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        ActivityTraceId trace;
        using (var caller = new Activity("caller").Start())
        {
            trace = caller.TraceId;
            await cluster.Client.EditAsync("who is the mayor", "a woman");
        }
        var spans = ended.Where(span => span.TraceId == trace).ToList();
        var edit = Assert.Single(spans, span => span.OperationName == "edit");
        foreach (var phase in new[] { "queue", "forward", "backward", "try", "append", "broadcast" })
        {
            var own = Assert.Single(spans, span => span.OperationName == phase);
            Assert.Equal(edit.SpanId, own.ParentSpanId);
            Assert.True(edit.StartTimeUtc <= own.StartTimeUtc && own.StartTimeUtc + own.Duration <= edit.StartTimeUtc + edit.Duration);
            if (phase is "forward" or "backward" or "try" or "broadcast")
                Assert.Equal([0, 1], spans.Where(span => span.OperationName == "stage" && span.ParentSpanId == own.SpanId)
                    .Select(span => (int)span.GetTagItem("mend.stage")!).Distinct().Order());
        }
        // On the other side of the grain calls too.
        Assert.Contains(spans, span => span.Kind == ActivityKind.Server
            && span.OperationName.Contains("ForwardAsync", StringComparison.Ordinal));
    }
}
