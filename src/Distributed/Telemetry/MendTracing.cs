using System.Diagnostics;

namespace MendCluster.Distributed.Telemetry;

/// <summary>
/// Spans of the product: one for an edit, below it one for each phase, and below those one for each call of a stage. No text is in them.
/// </summary>
public static class MendTracing
{
    /// <summary>Of the source.</summary>
    public const string Name = "MendCluster";

    private static readonly ActivitySource Source = new(Name);

    internal static Activity? Start(string name) => Source.StartActivity(name);

    /// <param name="stage">From 0.</param>
    internal static Activity? Start(string name, int stage)
    {
        var span = Source.StartActivity(name);
        span?.SetTag("mend.stage", stage);
        return span;
    }

    internal static void Failed(Activity? span, Exception e) => span?.SetStatus(ActivityStatusCode.Error, e.GetType().Name);
}
