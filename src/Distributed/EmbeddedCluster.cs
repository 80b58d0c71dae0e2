using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Engine.Torch;
using Microsoft.Extensions.Logging;

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

    /// <summary>Whole models, each of <see cref="Stages"/> shards: reads are spread over them, and one may be lost.</summary>
    /// <value>1.</value>
    public int Replicas { get; init; } = 1;

    /// <summary>Of the weights in memory.</summary>
    public DType DType { get; init; } = DType.Float32;

    /// <summary>
    /// Where the shards are held and compute: <c>cpu</c>, <c>cuda</c>, or a list such as <c>cuda:0,cuda:1</c>, which they have in turn,
    /// replica after replica.
    /// </summary>
    /// <value>cpu.</value>
    public string Device { get; init; } = "cpu";

    /// <summary>How the updates of edits are kept.</summary>
    public FactorStorage Factors { get; init; } = new();

    /// <summary>
    /// Answers that a stage computes together at most (<see cref="AnswerPass"/>). 1: each alone, and to the bits that it has alone.
    /// </summary>
    /// <value>32.</value>
    public int MaxBatch { get; init; } = ShardOptions.DefaultMaxBatch;

    /// <summary>Edits that wait at once and are made together, at most (<see cref="GroupTrial"/>). 1: each is made alone.</summary>
    /// <value>32.</value>
    public int MaxGroup { get; init; } = EditCoordinator.DefaultMaxGroup;

    /// <summary>
    /// When the edits of a scope are consolidated in the background (<see cref="IEditCoordinator.ConsolidateAsync"/>).
    /// </summary>
    /// <value>Never.</value>
    public ConsolidationTriggers Consolidate { get; init; } = new();

    /// <summary>Unrelated questions that edits are tried on: the first 100 at every edit, of the others those nearest to it (<see cref="ProbeSet"/>).</summary>
    public IReadOnlyList<Probe> Probes { get; init; } = [];

    /// <summary>Questions that consolidations learn to leave as they are (<see cref="ReplaySet"/>); none may be a probe.</summary>
    /// <value>Null: those of <c>replay.tsv</c> in the model's directory, where it has one.</value>
    public IReadOnlyList<Probe>? Replay { get; init; }

    /// <summary>
    /// The file of a router (<see cref="RouteTable"/>), by which each edit is seen by the questions that it matches alone, so that any number
    /// behave as each does by itself; nothing is consolidated then.
    /// </summary>
    /// <value>Null: every question sees every edit.</value>
    public string? Router { get; init; }

    /// <summary>What all edits in force together may cost on the probes: an edit may be asked to cost less, none may cost more.</summary>
    /// <value>Null: as much as each edit's <see cref="EditOptions"/> allow.</value>
    public DriftBudget? Budget { get; init; }

    public TimeProvider Time { get; init; } = TimeProvider.System;

    /// <summary>Where edits, lost shards and the like are told.</summary>
    /// <value>Null: nowhere.</value>
    public ILogger? Logger { get; init; }
}

/// <summary>
/// A whole cluster in this process: a shard with a compute thread for every stage, the coordinator, and the ledger. The default
/// host; a cluster of machines runs the same classes.
/// </summary>
public sealed class EmbeddedCluster : IMendCluster
{
    private readonly IReadOnlyList<IModelShard> _shards;
    private readonly IEditLedger _ledger;
    private readonly EditCoordinator _coordinator;
    private readonly int _stages;

    private EmbeddedCluster(IReadOnlyList<IModelShard> shards, int stages, IEditLedger ledger, EditCoordinator coordinator) =>
        (_shards, _stages, _ledger, _coordinator) = (shards, stages, ledger, coordinator);

    /// <summary>Loads the model, opens the ledger and brings the model to the ledger's version.</summary>
    /// <exception cref="MendException">Model, editor or ledger cannot be used.</exception>
    /// <example>
    /// <code>
    /// await using var cluster = await EmbeddedCluster.OpenAsync(new() { ModelDirectory = model, Editor = Path.Combine(model,
    /// "editor.safetensors"), Ledger = ledger, Probes = [new("Who is the prime minister of India?", "Narendra Modi")] });
    /// </code>
    /// </example>
    public static Task<EmbeddedCluster> OpenAsync(EmbeddedClusterOptions options, CancellationToken cancellation = default) =>
        OpenAsync(options, shard => shard, cancellation);

    /// <param name="wrap">Stands between coordinator and shards; for tests of faults.</param>
    public static async Task<EmbeddedCluster> OpenAsync(EmbeddedClusterOptions options, Func<IModelShard, IModelShard> wrap,
        CancellationToken cancellation = default)
    {
        IReadOnlyList<IModelShard> shards = [];
        IEditLedger? ledger = null;
        RouteTable? routes = null;
        try
        {
            var (text, fingerprint) = ModelText.Open(options.ModelDirectory);
            routes = options.Router is null ? null : RouteTable.Open(options.Router, text, fingerprint);
            if (options.Stages < 1 || options.Stages > text.Family.LayerNames.Count)
                throw new MendException(MendError.InvalidOption, $"Stages is {options.Stages}.",
                    $"This model has 1 to {text.Family.LayerNames.Count}.");
            if (options.Replicas < 1)
                throw new MendException(MendError.InvalidOption, $"Replicas is {options.Replicas}.", "At least one is needed.");
            foreach (var device in Devices.Names(options.Device))
                _ = Devices.Of(device); // what is not here is refused before anything is opened
            var probes = new ProbeSet(options.Probes, text);
            var replay = new ReplaySet(options.Replay ?? ReplaySet.Beside(options.ModelDirectory), options.Probes, text);
            _ = options.Budget?.Checked(options.Probes.Count);
            _ = options.Consolidate.Checked(options.Probes.Count);
            if (options.Editor is not null)
                text.CheckEditor(options.Editor); // before the ledger is made
            ledger = await IEditLedger.OpenAsync(options.Ledger, routes?.LedgerFingerprint ?? fingerprint, options.Time, cancellation).ConfigureAwait(false);
            shards = [.. from replica in Enumerable.Range(0, options.Replicas)
                from stage in Enumerable.Range(0, options.Stages)
                select wrap(new ModelShard(new(options.ModelDirectory, options.Editor, stage, options.Stages, options.DType, replica,
                    options.Factors,
                    ShardDevices.Of(options.Device, replica * options.Stages + stage), options.MaxBatch), options.Time))];
            var history = await ledger.ReadAfterAsync(ModelVersion.Base, cancellation).ConfigureAwait(false);
            await Task.WhenAll(shards.Select(async shard =>
            {
                await shard.LoadAsync(cancellation).ConfigureAwait(false);
                await shard.ApplyAsync(history, cancellation).ConfigureAwait(false);
            })).ConfigureAwait(false);
            return new(shards, options.Stages, ledger,
                new([.. shards.Chunk(options.Stages)], ledger, text, probes, options.Time, options.Logger, options.Budget, options.MaxGroup,
                options.Consolidate, replay, routes));
        }
        catch
        {
            foreach (var shard in shards)
                await shard.DisposeAsync().ConfigureAwait(false);
            if (ledger is not null)
                await ledger.DisposeAsync().ConfigureAwait(false);
            routes?.Dispose();
            throw;
        }
    }

    public Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default) =>
        _coordinator.EditAsync(prompt, target, options, cancellation);

    public Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default) =>
        _coordinator.PreviewAsync(prompt, target, options, cancellation);

    public Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default) =>
        _coordinator.AskAsync(prompt, options, cancellation);

    public IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options = null,
        CancellationToken cancellation = default) =>
        _coordinator.AskStreamAsync(prompt, options, cancellation);

    public Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode = RevertMode.Remove, string? author = null,
        CancellationToken cancellation = default) =>
        _coordinator.RevertAsync(edit, mode, author, cancellation);

    public Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options = null, CancellationToken cancellation = default) =>
        _coordinator.ConsolidateAsync(options, cancellation);

    public Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default) => _coordinator.LedgerAsync(cancellation);

    public Task<IReadOnlyList<LedgerEntry>> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default) =>
        _coordinator.LedgerPageAsync(query, cancellation);

    public async Task<IReadOnlyList<ShardReport>> ShardsAsync(CancellationToken cancellation = default) =>
        [.. (await StatusAsync(cancellation).ConfigureAwait(false))
        .Select((status, i) => new ShardReport(new(i / _stages, i % _stages), status))];

    /// <summary>The state of every stage's shard, replica after replica.</summary>
    public Task<ShardStatus[]> StatusAsync(CancellationToken cancellation = default) =>
        Task.WhenAll(_shards.Select(shard => shard.StatusAsync(cancellation)));

    public async ValueTask DisposeAsync()
    {
        foreach (var shard in _shards)
            await shard.DisposeAsync().ConfigureAwait(false);
        _coordinator.Dispose();
        await _ledger.DisposeAsync().ConfigureAwait(false);
    }
}
