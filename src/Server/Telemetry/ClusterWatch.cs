using System.Diagnostics.Metrics;
using MendCluster.Contracts;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace MendCluster.Server.Telemetry;

/// <summary>Looks at the cluster every few seconds: what health and the gauges say is what was seen last.</summary>
internal sealed class ClusterWatch : BackgroundService
{
    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(2);

    private readonly ServedCluster _served;
    private readonly TimeProvider _time;
    private readonly ILogger<ClusterWatch> _logger;
    private readonly Meter _meter = new(ServerMetrics.Name);
    private EditsInForce<long> _inForce = EditsInForce<long>.None; // ranks
    private volatile IReadOnlyList<ShardReport>? _shards;
    private ModelVersion _version;
    private volatile Counted _counted = new(0, 0, null);

    public ClusterWatch(ServedCluster served, EditQueue queue, TimeProvider time, ILogger<ClusterWatch> logger)
    {
        (_served, _time, _logger) = (served, time, logger);
        _meter.CreateObservableGauge("mend.edits.waiting", () => queue.Count, "{request}",
            "Edits, previews and reverts that were taken and not answered.");
        _meter.CreateObservableGauge("mend.edits.active", () => _counted.Edits, "{edit}", "Edits in force.");
        _meter.CreateObservableGauge("mend.edits.rank", () => _counted.Rank, "{row}",
            "Rank of all edits and consolidations in force, the largest of any weight of each.");
        _meter.CreateObservableGauge("mend.shard.ready", () => Of(status => status?.State == ShardState.Ready ? 1L : 0), "1",
            "Whether a stage can serve.");
        _meter.CreateObservableGauge("mend.shard.version", () => Of(status => status?.Version.Value ?? 0), "{version}",
            "The version that a stage is at.");
        _meter.CreateObservableGauge("mend.shard.differs", () => Of((ShardReport shard) => Differs(_shards ?? [], shard) ? 1L : 0), "1",
            "Whether another replica's shard of the stage has other updates at the same version.");
        _meter.CreateObservableGauge("mend.shard.load", () => Of(status => status?.LoadedFraction ?? 0), "1",
            "How much of a stage is loaded, from 0 to 1.");
        _meter.CreateObservableGauge<double>("mend.edits.budget", () => _counted.BudgetLeft is { } left ? [new(left)] : [], "1",
            "What is left of the budget of all edits, as a fraction, where the newest record of the ledger says so.");
        _meter.CreateObservableGauge("mend.shard.memory", () => Of(status => status?.WeightBytes ?? 0), "By",
            "Memory of a stage's weights.");
    }

    /// <summary>Of every stage; null: none was told yet.</summary>
    public IReadOnlyList<ShardReport>? Shards => _shards;

    /// <summary>Some replica has all its stages.</summary>
    public bool IsServed => _shards?.GroupBy(shard => shard.Place.Replica)
        .Any(stages => stages.All(stage => stage.Status?.State == ShardState.Ready)) == true;

    public override void Dispose()
    {
        _meter.Dispose();
        base.Dispose();
    }

    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        while (!stoppingToken.IsCancellationRequested)
        {
            if (_served.Cluster is { } cluster)
                await LookAsync(cluster, stoppingToken).ConfigureAwait(false);
            var isOpening = _shards is null;
            await Task.Delay(isOpening ? Pause / 20 : Pause, _time, stoppingToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task LookAsync(IMendCluster cluster, CancellationToken stopping)
    {
        try
        {
            _shards = await cluster.ShardsAsync(stopping).ConfigureAwait(false);
            for (var isMore = true; isMore;)
            {
                var page = await cluster.LedgerPageAsync(new() { After = _version, Limit = LedgerQuery.MaxEntries }, stopping)
                    .ConfigureAwait(false);
                foreach (var entry in page)
                {
                    _inForce = _inForce.Plus(new(entry, []), (_, _) => entry.Consolidated?.Rank ?? entry.Figures?.Rank ?? 0);
                    _version = entry.Version;
                }
                if (page is [.., var newest]) // a revert and a consolidation have no figures: what is left is known with the next edit
                    _counted = new(_inForce.Edits.Count, _inForce.Updates.Sum(), newest.Figures?.BudgetLeft);
                isMore = page.Count == LedgerQuery.MaxEntries;
            }
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested)
        {
            throw;
        }
        catch (Exception e)
        {
            _shards = _shards is null ? null : [.. _shards.Select(shard => shard with { Status = null })];
            LogMessages.StateUnknown(_logger, e, e.Message);
        }
    }

    private IEnumerable<Measurement<T>> Of<T>(Func<ShardStatus?, T> value)
        where T : struct => Of(shard => value(shard.Status));

    private IEnumerable<Measurement<T>> Of<T>(Func<ShardReport, T> value)
        where T : struct => (_shards ?? []).Select(shard =>
        new Measurement<T>(value(shard), new("replica", shard.Place.Replica), new("stage", shard.Place.Stage)));

    /// <summary>Which of the two is wrong cannot be said: both are told.</summary>
    private static bool Differs(IEnumerable<ShardReport> shards, ShardReport shard) =>
        shard.Status is { State: ShardState.Ready } own && shards.Any(other => other.Place.Stage == shard.Place.Stage
            && other.Status is { State: ShardState.Ready } status && status.Version == own.Version && status.Checksum != own.Checksum);

    private sealed record Counted(long Edits, long Rank, double? BudgetLeft);
}
