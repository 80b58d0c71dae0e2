using System.Runtime.CompilerServices;
using System.Text;
using MendCluster.Contracts;
using MendCluster.Grains.Interfaces;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Npgsql;
using Orleans.Configuration;
using Orleans.Messaging;

namespace MendCluster.Client.Orleans;

/// <summary>
/// A cluster of silos, spoken to directly. While a silo dies and comes back, requests are sent again for a while; an edit carries an
/// idempotency key, its own or one made here, so it is made once however often it is sent.
/// </summary>
/// <param name="grains">Of a client, or of a silo in the same process.</param>
/// <param name="model">Its name in the cluster.</param>
/// <param name="logs">Told of requests that are sent again, and of changed certificates; null: nobody is.</param>
public sealed class OrleansCluster(IGrainFactory grains, string model, TimeProvider time, ILoggerFactory? logs = null) : IMendCluster
{
    /// <summary>
    /// Orleans tries for ever to reach a silo that closes its connections, as one does that asks for another certificate.
    /// </summary>
    private static readonly TimeSpan ConnectTimeout = TimeSpan.FromSeconds(15);

    private static readonly UTF8Encoding Strict = new(false, throwOnInvalidBytes: true);

    private readonly CallLivenessProbe _calls = new(call => grains.GetGrain<IEditCoordinatorGrain>(model).IsUnderWayAsync(call), time);
    private readonly RequestRetry _retry = new(time, Logger(logs));
    private IHost? _client;

    /// <summary>How long a request that met a lost shard or coordinator is sent again.</summary>
    /// <value>30 seconds.</value>
    public TimeSpan RetryTimeout { get; set; } = TimeSpan.FromSeconds(30);

    private IEditCoordinatorGrain Coordinator => grains.GetGrain<IEditCoordinatorGrain>(model);

    /// <summary>Connects to a cluster on this machine.</summary>
    /// <param name="membership">The file that its silos were started with.</param>
    /// <param name="clusterId">Theirs; null: <see cref="ClusterIdentity.Default"/>.</param>
    /// <param name="tls">Where silos ask for certificates.</param>
    /// <param name="logs">Told of requests that are sent again, and of changed certificates; null: nobody is.</param>
    public static Task<OrleansCluster> ConnectAsync(
        string membership, string model, string? clusterId = null, ClusterTls? tls = null, ILoggerFactory? logs = null,
        CancellationToken cancellation = default) =>
        ConnectThroughAsync(
            client => client.Services.AddSingleton<IGatewayListProvider>(new FileGateways(membership)), model, clusterId, tls, logs,
            cancellation);

    /// <summary>Connects to a cluster whose membership is in PostgreSQL.</summary>
    /// <param name="connection">As that of its silos; the role need not be theirs, and only reads.</param>
    /// <param name="clusterId">The silos', by which the database tells clusters apart; null: <see cref="ClusterIdentity.Default"/>.</param>
    /// <param name="tls">Where silos ask for certificates.</param>
    /// <param name="logs">Told of requests that are sent again, and of changed certificates; null: nobody is.</param>
    public static async Task<OrleansCluster> ConnectToPostgresAsync(
        string connection, string model, string? clusterId = null, ClusterTls? tls = null, ILoggerFactory? logs = null,
        CancellationToken cancellation = default)
    {
        try
        {
            await NpgsqlDataSource.Create(connection).DisposeAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (e is ArgumentException or FormatException or InvalidCastException or NotSupportedException)
        {
            // The text of the failure may hold a part of the string, and with it the password.
            throw new MendException(MendError.InvalidOption, "The connection string of the membership's database cannot be read.",
                "It is for example Host=db;Database=mend;Username=client.");
        }
        try
        {
            return await ConnectThroughAsync(
                client => client.UseAdoNetClustering(options => (options.Invariant, options.ConnectionString) = ("Npgsql", connection)),
                model, clusterId, tls, logs, cancellation).ConfigureAwait(false);
        }
        catch (MendException e) when (e.InnerException is PostgresException { IsTransient: false } refusal)
        {
            throw new MendException(MendError.MembershipUnusable,
                $"The membership's database refuses: {refusal.MessageText} ({refusal.SqlState}).",
                "Its tables are made with mend cluster migrate; a client needs to read OrleansQuery and mend_member.", e);
        }
    }

    /// <summary>Connects to a cluster whose membership is kept elsewhere.</summary>
    /// <param name="clustering">Says where, as for any Orleans client.</param>
    /// <param name="clusterId">The silos'; null: <see cref="ClusterIdentity.Default"/>.</param>
    /// <param name="tls">Where silos ask for certificates.</param>
    /// <param name="logs">Told of requests that are sent again, and of changed certificates; null: nobody is.</param>
    /// <exception cref="MendException">No silo answers, or they speak another version of the protocol.</exception>
    public static async Task<OrleansCluster> ConnectThroughAsync(
        Action<IClientBuilder> clustering, string model, string? clusterId = null, ClusterTls? tls = null, ILoggerFactory? logs = null,
        CancellationToken cancellation = default)
    {
        if (clusterId is not null && ClusterIdentity.Fault(clusterId) is { } fault)
            throw new MendException(MendError.InvalidOption, $"The cluster id {fault}.", "Name that of the silos' Mend:Cluster:ClusterId.");
        var builder = Host.CreateEmptyApplicationBuilder(new());
        builder.Logging.SetMinimumLevel(LogLevel.Warning);
        builder.UseOrleansClient(client =>
        {
            client.Configure<ClusterOptions>(options =>
                (options.ClusterId, options.ServiceId) = (clusterId ?? ClusterIdentity.Default, ClusterIdentity.Default));
            client.AddMendClient();
            if (tls is not null)
                client.UseMendTls(tls, TimeProvider.System, Logger(logs));
            clustering(client);
        });
        var host = builder.Build();
        using var patience = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        patience.CancelAfter(ConnectTimeout);
        try
        {
            await host.StartAsync(patience.Token).ConfigureAwait(false);
        }
        catch (Exception e)
        {
            host.Dispose();
            throw e is not OperationCanceledException ? Lost(e) : cancellation.IsCancellationRequested ? e
                : new MendException(MendError.CoordinatorLost,
                    $"No silo lets this client in within {ConnectTimeout.TotalSeconds} s, {(tls is null ? "which has no certificate" : $"with the certificate in {tls.Certificate}")}.",
                    "Look whether its silos run; those that ask for certificates (Mend:Tls) want one of their own authority, and those that do not want none.",
                    e);
        }
        var cluster = new OrleansCluster(host.Services.GetRequiredService<IGrainFactory>(), model, TimeProvider.System, logs) { _client = host };
        try
        {
            WireProtocol.Check(host.Services);
            return cluster;
        }
        catch
        {
            await cluster.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    public Task<EditReceipt> EditAsync(string prompt, string target, EditOptions? options = null, CancellationToken cancellation = default)
    {
        CheckUnicode(prompt, target, options?.Author, options?.IdempotencyKey, options?.Scope);
        var keyed = (options ?? new()) with { IdempotencyKey = options?.IdempotencyKey ?? Guid.NewGuid().ToString("N") };
        return RetryAsync(() => Coordinator.EditAsync(prompt, target, keyed, cancellation), cancellation);
    }

    public Task<EditPreview> PreviewAsync(string prompt, string target, EditOptions? options = null,
        CancellationToken cancellation = default)
    {
        CheckUnicode([prompt, target, options?.Author, options?.IdempotencyKey, options?.Scope, .. options?.Paraphrases ?? []]);
        return RetryAsync(() => Coordinator.PreviewAsync(prompt, target, options, cancellation), cancellation);
    }

    public Task<Answer> AskAsync(string prompt, AskOptions? options = null, CancellationToken cancellation = default)
    {
        CheckUnicode(prompt, options?.Scope);
        return RetryAsync(() => Coordinator.AskAsync(prompt, options, cancellation), cancellation);
    }

    /// <remarks>Sent again, as the other requests are, until the first piece is there.</remarks>
    public async IAsyncEnumerable<AnswerPart> AskStreamAsync(string prompt, AskOptions? options = null,
        [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        CheckUnicode(prompt, options?.Scope);
        IAsyncEnumerator<AnswerPart>? parts = null;
        try
        {
            var more = await _retry.RunAsync(async _ =>
            {
                if (parts is not null)
                    await parts.DisposeAsync().ConfigureAwait(false);
                parts = Coordinator.AskStreamAsync(prompt, options, cancellation).GetAsyncEnumerator(cancellation);
                return await NextAsync(parts, cancellation).ConfigureAwait(false);
            }, RetryTimeout, cancellation).ConfigureAwait(false);
            for (; more; more = await NextAsync(parts!, cancellation).ConfigureAwait(false))
                yield return parts!.Current;
        }
        finally
        {
            if (parts is not null)
                await parts.DisposeAsync().ConfigureAwait(false);
        }
    }

    /// <remarks>Sent again, it consolidates again what an attempt whose answer was lost has consolidated.</remarks>
    public Task<ConsolidationReceipt> ConsolidateAsync(ConsolidateOptions? options = null, CancellationToken cancellation = default)
    {
        CheckUnicode(options?.Author, options?.Scope);
        return RetryAsync(() => Coordinator.ConsolidateAsync(options, cancellation), cancellation);
    }

    public Task<RevertReceipt> RevertAsync(EditId edit, RevertMode mode = RevertMode.Remove, string? author = null,
        CancellationToken cancellation = default)
    {
        CheckUnicode(author);
        var sentBefore = false;
        return RetryAsync(async () =>
        {
            try
            {
                return await Coordinator.RevertAsync(edit, mode, author, cancellation).ConfigureAwait(false);
            }
            catch (MendException e) when (e.Error == MendError.AlreadyReverted && sentBefore)
            {
                // By the attempt whose answer was lost.
                var ledger = await Coordinator.LedgerAsync(cancellation).ConfigureAwait(false);
                var revert = ledger.First(entry => entry.Kind == LedgerKind.Revert && entry.Edit == edit);
                return new RevertReceipt(edit, revert.Version, revert.Recomputed ?? 0);
            }
            finally
            {
                sentBefore = true;
            }
        }, cancellation);
    }

    public Task<IReadOnlyList<LedgerEntry>> LedgerAsync(CancellationToken cancellation = default) =>
        RetryAsync(async () => (IReadOnlyList<LedgerEntry>)await Coordinator.LedgerAsync(cancellation).ConfigureAwait(false), cancellation);

    public Task<IReadOnlyList<LedgerEntry>> LedgerPageAsync(LedgerQuery query, CancellationToken cancellation = default)
    {
        CheckUnicode([query.Text, query.Scope, query.Author, .. query.VisibleScopes ?? []]);
        return RetryAsync(async () =>
            (IReadOnlyList<LedgerEntry>)await Coordinator.LedgerPageAsync(query, cancellation).ConfigureAwait(false), cancellation);
    }

    public Task<IReadOnlyList<ShardReport>> ShardsAsync(CancellationToken cancellation = default) =>
        RetryAsync(async () => (IReadOnlyList<ShardReport>)await Coordinator.ShardsAsync(cancellation).ConfigureAwait(false), cancellation);

    /// <summary>The state of every stage's shard, in order, replica after replica; null where none answers.</summary>
    public async Task<IReadOnlyList<ShardStatus?>> StatusAsync(CancellationToken cancellation = default) =>
        await RetryAsync(() => Coordinator.StatusAsync(cancellation), cancellation).ConfigureAwait(false);

    /// <summary>The runs of the cluster's trainer.</summary>
    public ITrainingJobs TrainingJobs => new OrleansTrainingJobs(grains.GetGrain<IEditorTrainerGrain>(model), time);

    /// <summary>Trains an editor of the cluster's model, with the replicas and stages of its layout.</summary>
    public IEditorTrainer Trainer(TrainingJobRequest order) =>
        new OrleansTrainer(grains.GetGrain<IEditorTrainerGrain>(model), order, time, Logger(logs)) { RetryTimeout = RetryTimeout };

    public async ValueTask DisposeAsync()
    {
        if (_client is null)
            return;
        await _client.StopAsync().ConfigureAwait(false);
        _client.Dispose();
    }

    private static ILogger Logger(ILoggerFactory? logs) => (logs ?? NullLoggerFactory.Instance).CreateLogger<OrleansCluster>();

    private Task<T> RetryAsync<T>(Func<Task<T>> send, CancellationToken cancellation) =>
        _retry.RunAsync(_ => SendAsync(send, cancellation), RetryTimeout, cancellation);

    /// <summary>One attempt. What fails on the way there or back, or is no longer under way, is a lost coordinator.</summary>
    private async Task<T> SendAsync<T>(Func<Task<T>> send, CancellationToken cancellation)
    {
        try
        {
            return await _calls.RunAsync(send).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not MendException && !(e is OperationCanceledException && cancellation.IsCancellationRequested))
        {
            throw Lost(e);
        }
    }

    /// <summary>Whether there is another piece. What fails on the way is a lost coordinator.</summary>
    private static async Task<bool> NextAsync(IAsyncEnumerator<AnswerPart> parts, CancellationToken cancellation)
    {
        try
        {
            return await parts.MoveNextAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (e is not MendException && !(e is OperationCanceledException && cancellation.IsCancellationRequested))
        {
            throw Lost(e);
        }
    }

    private static MendException Lost(Exception e) => new(MendError.CoordinatorLost, $"The cluster does not answer: {e.Message}",
        "Look whether its silos run, then send the request again; an edit with the same idempotency key is made once.", e);

    /// <summary>On the wire, half of a surrogate pair would silently become another text.</summary>
    private static void CheckUnicode(params IEnumerable<string?> texts)
    {
        foreach (var text in texts)
            try
            {
                _ = Strict.GetByteCount(text ?? "");
            }
            catch (EncoderFallbackException e)
            {
                throw new MendException(MendError.InvalidText, "A text holds half of a surrogate pair.",
                    "Correct the text; it may have been cut in the middle of a character.", e);
            }
    }
}
