using Microsoft.Extensions.DependencyInjection;
using OpenTelemetry;
using OpenTelemetry.Exporter;
using OpenTelemetry.Metrics;
using OpenTelemetry.Resources;
using OpenTelemetry.Trace;

namespace MendCluster.Server.Telemetry;

/// <summary>Everything that this process measures, for Prometheus to fetch and, when asked for, sent by OTLP with its traces.</summary>
internal static class TelemetrySetup
{
    private const string Service = "mendcluster", Product = "MendCluster", Platform = "Microsoft.*";

    public static void AddMendTelemetry(this IServiceCollection services, ServerSettings settings)
    {
        var telemetry = services.AddOpenTelemetry().ConfigureResource(resource => resource.AddService(Service))
            .WithMetrics(metrics => metrics
                .AddMeter(Product, ServerMetrics.Name, Platform, "Npgsql", "System.Runtime")
                // theirs grow without bound: silos that were
                .AddView(instrument => instrument.Name.StartsWith("orleans", StringComparison.Ordinal)
                    ? new MetricStreamConfiguration { TagKeys = [] } : null)
                .AddPrometheusExporter(options => options.ScrapeResponseCacheDurationMilliseconds = 0));
        if (settings.Otlp is not { } collector)
            return;
        telemetry.WithTracing(traces => traces.AddSource(Product, Platform).AddAspNetCoreInstrumentation());
        telemetry.UseOtlpExporter(OtlpExportProtocol.Grpc, new(collector));
    }
}
