using MendCluster.Contracts;
using MendCluster.Distributed;
using MendCluster.Distributed.Ledger;
using MendCluster.Grains.Interfaces;
using Orleans.Concurrency;
using Orleans.Placement;

namespace MendCluster.Grains;

/// <summary>
/// The address of a model's coordinator. Reentrant: the coordinator puts edits in turn itself, and reads run beside them. Should two silos ever
/// believe to have it, the ledger's lock lets only one of them in.
/// </summary>
[GrainType(PinnedPlacement.CoordinatorType), PinnedPlacement, KeepAlive, Immovable, Reentrant]
public sealed class EditCoordinatorGrain(ClusterSettings settings, RequestsUnderWay requests, TimeProvider time) : Grain, IEditCoordinatorGrain, IAsyncDisposable
{
    private FileLedger? _ledger;
    private EditCoordinator? _coordinator;

    public async Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options, CancellationToken cancellation = default) =>
        await Coordinator().EditAsync(prompt, target, options, cancellation);

    public async Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options, CancellationToken cancellation = default) =>
        await Coordinator().PreviewAsync(prompt, target, options, cancellation);

    public async Task<Answer> AskAsync(string prompt, AskOptions? options, CancellationToken cancellation = default) =>
        await Coordinator().AskAsync(prompt, options, cancellation);

    public async Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode, CancellationToken cancellation = default) =>
        await Coordinator().RevertAsync(edit, mode, cancellation);

    public async Task<LedgerEntry[]> LedgerAsync(CancellationToken cancellation = default) => [.. await Coordinator().LedgerAsync(cancellation)];

    public Task<bool> IsUnderWayAsync(Guid call) => Task.FromResult(requests.Has(call));

    public Task<ShardStatus?[]> StatusAsync(CancellationToken cancellation = default) => Task.WhenAll(Replicas().SelectMany(stages => stages).Select(async shard =>
    {
        try
        {
            return await shard.StatusAsync(cancellation);
        }
        catch (MendException)
        {
            return null;
        }
    }));

    public async ValueTask DisposeAsync()
    {
        _coordinator?.Dispose();
        if (_ledger is not null)
            await _ledger.DisposeAsync();
    }

    private IReadOnlyList<IReadOnlyList<GrainShard>> Replicas() => [.. settings.Keys.Select(stages => (IReadOnlyList<GrainShard>)
        [.. stages.Select(key => new GrainShard(GrainFactory.GetGrain<IModelShardGrain>(key.ToString()), key, time))])];

    /// <summary>Opens the ledger with the first request rather than on activation: a failure then reaches the caller as what it is.</summary>
    private EditCoordinator Coordinator()
    {
        if (_coordinator is not null)
            return _coordinator;
        var (text, fingerprint) = ModelText.Open(settings.ModelDirectory);
        ProbeSet.Check(settings.Probes, text);
        try
        {
            _ledger = FileLedger.Open(settings.Ledger, fingerprint);
        }
        catch (MendException e) when (e.Error == MendError.LedgerInUse)
        {
            throw new MendException(MendError.CoordinatorLost, $"The coordinator before this one has not let go of the ledger: {e.Message}", "Send the request again.", e);
        }
        return _coordinator = new(Replicas(), _ledger, text, settings.Probes, time);
    }
}
