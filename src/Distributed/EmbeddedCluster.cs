using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;

namespace MendCluster.Distributed;

/// <summary>Settings of a cluster in one process.</summary>
public sealed record EmbeddedClusterOptions
{
    /// <summary>A Hugging Face directory.</summary>
    public required string ModelDirectory { get; init; }

    /// <summary>The editor's safetensors file. Null: the model can be asked, not edited.</summary>
    public string? Editor { get; init; }

    /// <summary>The ledger's file, made if it does not exist; or <c>postgres:</c> and a connection string.</summary>
    public required string Ledger { get; init; }

    /// <value>2.</value>
    public int Stages { get; init; } = 2;

    /// <summary>Of the weights in memory.</summary>
    public WeightType DType { get; init; } = WeightType.Float32;

    /// <summary>Unrelated questions that every edit is tried on.</summary>
    public IReadOnlyList<Probe> Probes { get; init; } = [];

    public TimeProvider Time { get; init; } = TimeProvider.System;
}

/// <summary>
/// A whole cluster in this process: a shard with a compute thread for every stage, the coordinator, and the ledger. The default
/// host; a cluster of machines runs the same classes.
/// </summary>
public sealed class EmbeddedCluster : IMendCluster
{
    private readonly IReadOnlyList<IModelShard> _stages;
    private readonly IEditLedger _ledger;
    private readonly EditCoordinator _coordinator;

    private EmbeddedCluster(IReadOnlyList<IModelShard> stages, IEditLedger ledger, EditCoordinator coordinator) =>
        (_stages, _ledger, _coordinator) = (stages, ledger, coordinator);

    /// <summary>Loads the model, opens the ledger and brings the model to the ledger's version.</summary>
    /// <exception cref="MendException">Model, editor or ledger cannot be used.</exception>
    public static Task<EmbeddedCluster> OpenAsync(EmbeddedClusterOptions options, CancellationToken cancellation = default) =>
        OpenAsync(options, shard => shard, cancellation);

    /// <param name="wrap">Stands between coordinator and shards; for tests of faults.</param>
    internal static async Task<EmbeddedCluster> OpenAsync(EmbeddedClusterOptions options, Func<IModelShard, IModelShard> wrap, CancellationToken cancellation = default)
    {
        IReadOnlyList<IModelShard> stages = [];
        IEditLedger? ledger = null;
        try
        {
            var (text, fingerprint) = ModelText.Open(options.ModelDirectory);
            if (options.Stages < 1 || options.Stages > text.Family.LayerNames.Count)
                throw new MendException(MendError.InvalidOption, $"Stages is {options.Stages}.", $"This model has 1 to {text.Family.LayerNames.Count}.");
            ProbeSet.Check(options.Probes, text);
            ledger = await IEditLedger.OpenAsync(options.Ledger, fingerprint, options.Time, cancellation).ConfigureAwait(false);
            stages = [.. Enumerable.Range(0, options.Stages).Select(i =>
                wrap(new ModelShard(new(options.ModelDirectory, options.Editor, i, options.Stages, options.DType), options.Time)))];
            var history = await ledger.ReadAfterAsync(ModelVersion.Base, cancellation).ConfigureAwait(false);
            await Task.WhenAll(stages.Select(async stage =>
            {
                await stage.LoadAsync(cancellation).ConfigureAwait(false);
                await stage.ApplyAsync(history, cancellation).ConfigureAwait(false);
            })).ConfigureAwait(false);
            return new(stages, ledger, new(stages, ledger, text, options.Probes, options.Time));
        }
        catch
        {
            foreach (var stage in stages)
                await stage.DisposeAsync().ConfigureAwait(false);
            if (ledger is not null)
                await ledger.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null, CancellationToken cancellation = default) =>
        _coordinator.EditAsync(prompt, target, options, cancellation);

    public Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default) =>
        _coordinator.AskAsync(prompt, options, cancellation);

    public Task<RevertReceipt> RevertAsync(EditId edit, CancellationToken cancellation = default) => _coordinator.RevertAsync(edit, cancellation);

    public Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default) => _coordinator.LedgerAsync(cancellation);

    /// <summary>The state of every stage's shard.</summary>
    public Task<ShardStatus[]> StatusAsync(CancellationToken cancellation = default) =>
        Task.WhenAll(_stages.Select(stage => stage.StatusAsync(cancellation)));

    public async ValueTask DisposeAsync()
    {
        foreach (var stage in _stages)
            await stage.DisposeAsync().ConfigureAwait(false);
        _coordinator.Dispose();
        await _ledger.DisposeAsync().ConfigureAwait(false);
    }
}
