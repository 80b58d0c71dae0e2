using System.Runtime.CompilerServices;
using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Grains.Interfaces;
using Microsoft.Extensions.Logging;
using Orleans.Concurrency;
using Orleans.Placement;

namespace MendCluster.Grains;

/// <summary>
/// The address of a model's coordinator. Reentrant: the coordinator puts edits in turn itself, and reads run beside them. Should two silos
/// ever believe to have it, the ledger lets only one of them write: a file the first that opened it, PostgreSQL the last.
/// </summary>
[GrainType(PinnedPlacement.CoordinatorType), PinnedPlacement, KeepAlive, Immovable, Reentrant]
public sealed class EditCoordinatorGrain(
    ClusterSettings settings, InFlightCalls requests, TimeProvider time, ILogger<EditCoordinator> logger) : Grain, IEditCoordinatorGrain,
    IAsyncDisposable
{
    private IEditLedger? _ledger;
    private Task<EditCoordinator>? _coordinator;

    public async Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options,
        CancellationToken cancellation = default) =>
        await WriteAsync(coordinator => coordinator.EditAsync(prompt, target, options, cancellation));

    public async Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options,
        CancellationToken cancellation = default) =>
        await (await CoordinatorAsync()).PreviewAsync(prompt, target, options, cancellation);

    public async Task<Answer> AskAsync(string prompt, AskOptions? options, CancellationToken cancellation = default) =>
        await (await CoordinatorAsync()).AskAsync(prompt, options, cancellation);

    public async IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options,
        [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        await foreach (var part in (await CoordinatorAsync()).AskStreamAsync(prompt, options, cancellation))
            yield return part;
    }

    public async Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode, string? author, CancellationToken cancellation = default) =>
        await WriteAsync(coordinator => coordinator.RevertAsync(edit, mode, author, cancellation));

    public async Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options, CancellationToken cancellation = default) =>
        await WriteAsync(coordinator => coordinator.ConsolidateAsync(options, cancellation));

    public async Task<LedgerEntry[]> LedgerAsync(CancellationToken cancellation = default) =>
        [.. await (await CoordinatorAsync()).LedgerAsync(cancellation)];

    public async Task<LedgerEntry[]> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default) =>
        [.. await (await CoordinatorAsync()).LedgerPageAsync(query, cancellation)];

    public Task<bool> IsUnderWayAsync(Guid call) => Task.FromResult(requests.Has(call));

    public async Task<ShardReport[]> ShardsAsync(CancellationToken cancellation = default) =>
        [.. (await StatusAsync(cancellation))
        .Zip(settings.Keys.SelectMany(stages => stages), (status, key) => new ShardReport(new(key.Replica, key.Stage), status))];

    public Task<ShardStatus?[]> StatusAsync(CancellationToken cancellation = default) =>
        Task.WhenAll(Replicas().SelectMany(stages => stages).Select(async shard =>
    {
        try
        {
            return await shard.StatusAsync(cancellation);
        }
        catch (MendException e)
        {
            logger.StateUnknown(e);
            return null;
        }
    }));

    public async ValueTask DisposeAsync()
    {
        if (_coordinator is { IsCompletedSuccessfully: true })
            (await _coordinator).Dispose();
        if (_ledger is not null)
            await _ledger.DisposeAsync();
    }

    private IReadOnlyList<IReadOnlyList<GrainShard>> Replicas() => [.. settings.Keys.Select(stages => (IReadOnlyList<GrainShard>)
        [.. stages.Select(key => new GrainShard(GrainFactory.GetGrain<IModelShardGrain>(key.ToString()), key))])];

    /// <summary>
    /// A coordinator that has lost the ledger, or does not know how its last commit ended, gives way to one that opens the ledger anew.
    /// </summary>
    private async Task<T> WriteAsync<T>(Func<EditCoordinator, Task<T>> write)
    {
        try
        {
            return await write(await CoordinatorAsync());
        }
        catch (MendException e) when (e.Error is MendError.LedgerInUse or MendError.LedgerInDoubt)
        {
            logger.GivesWay(settings.Model, e.Error);
            DeactivateOnIdle();
            if (e.Error == MendError.LedgerInDoubt)
                throw;
            throw Displaced(e);
        }
    }

    /// <summary>
    /// Opens the ledger with the first request rather than on activation: a failure then reaches the caller as what it is.
    /// </summary>
    private async Task<EditCoordinator> CoordinatorAsync()
    {
        var opening = _coordinator ??= OpenAsync(); // one for all requests that wait for it: a second opening would fence off the first
        try
        {
            return await opening;
        }
        catch (Exception e)
        {
            if (_coordinator == opening)
            {
                _coordinator = null; // the next request tries again
                logger.LedgerNotOpened(e, settings.Model);
            }
            throw;
        }
    }

    private async Task<EditCoordinator> OpenAsync()
    {
        var (text, fingerprint) = ModelText.Open(settings.ModelDirectory);
        var probes = new ProbeSet(settings.Probes, text);
        var replay = new ReplaySet(ReplaySet.Beside(settings.ModelDirectory), settings.Probes, text);
        var routes = RouteTable.Beside(settings.ModelDirectory, text, fingerprint);
        try
        {
            _ledger = await IEditLedger.OpenAsync(settings.Ledger, routes?.LedgerFingerprint ?? fingerprint, time);
            logger.LedgerOpened(settings.Model);
            return new(Replicas(), _ledger, text, probes, time, logger, settings.Budget, settings.MaxGroup,
                settings.Consolidate, replay, routes);
        }
        catch (Exception e)
        {
            routes?.Dispose();
            if (e is MendException { Error: MendError.LedgerInUse } taken)
                throw Displaced(taken);
            throw;
        }
    }

    private static MendException Displaced(MendException e) =>
        new(MendError.CoordinatorLost, $"Another coordinator has the ledger: {e.Message}", "Send the request again.", e);
}
