using System.Diagnostics;
using MendCluster.Distributed.Telemetry;

namespace MendCluster.Distributed.Editing;

/// <summary>Measures the phases of an edit, each a span.</summary>
internal sealed class PhaseClock(TimeProvider time, string phase) : IDisposable
{
    private readonly Activity? _edit = Activity.Current;
    private Activity? _span = MendTracing.Start(phase);
    private long _start = time.GetTimestamp();

    /// <summary>Time since the last lap.</summary>
    /// <param name="next">The phase that begins; null: none.</param>
    public TimeSpan Lap(string? next = null)
    {
        var elapsed = time.GetElapsedTime(_start);
        _start = time.GetTimestamp();
        _span?.Dispose();
        Activity.Current = _edit; // where another method ended the span, it would still be the current one
        _span = next is null ? null : MendTracing.Start(next);
        return elapsed;
    }

    public void Dispose() => _span?.Dispose();
}
