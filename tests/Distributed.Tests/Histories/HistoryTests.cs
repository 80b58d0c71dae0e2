using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Distributed.Ledger;
using MendCluster.Engine.Data;
using MendCluster.Testing;
using Xunit.Abstractions;

namespace MendCluster.Distributed.Tests.Histories;

/// <summary>
/// Random requests of three clients under random faults, judged by what is promised once the faults have ended:
/// every acknowledged edit and revert is in the ledger once, as it was acknowledged; the ledger has nothing that nobody asked for; what was
/// acknowledged before another request began has the older version; every answer is that of the model at the version it names, which is no
/// older than the newest that was acknowledged before it was asked for; and all shards of all replicas end at the last version, with the
/// checksums of a cluster that did nothing but read the ledger.
/// </summary>
public sealed class HistoryTests(ITestOutputHelper output) : IAsyncLifetime, IDisposable
{
    private const int Schedules = 1000;
    private const int Batches = 10;

    /// <summary>Batches of schedules whose edits are routed.</summary>
    private const int RoutedBatches = 3;
    private const int Clients = 3;
    private const int Requests = 3;

    /// <summary>Schedules that run beside each other: a cluster's arithmetic is on one thread at a time, mostly.</summary>
    private const int Beside = 2;

    private readonly ClusterOfTinyModel _model = new("gpt2");
    private Oracle[] _oracles = null!;

    public static TheoryData<int> BatchNumbers => [.. Enumerable.Range(0, Batches)];

    public static TheoryData<int> RoutedBatchNumbers => [.. Enumerable.Range(Batches, RoutedBatches)];

    public async Task InitializeAsync() => _oracles = await Task.WhenAll(Enumerable.Range(0, Beside).Select(_ => Oracle.OpenAsync(_model)));

    public async Task DisposeAsync()
    {
        foreach (var oracle in _oracles)
            await oracle.DisposeAsync();
    }

    public void Dispose() => _model.Dispose();

    [Theory]
    [Trait("Category", "Slow")]
    [MemberData(nameof(BatchNumbers))]
    public async Task RandomFaults_BreakNoPromise(int batch)
    {
        var consolidations = (await RunAsync(batch, routes: false)).OfType<Consolidated>().Count(consolidated => consolidated.Receipt is not null);
        output.WriteLine($"{consolidations} consolidations");
        Assert.True(consolidations > Schedules / Batches / 10, "hardly any consolidation was made");
    }

    /// <summary>The same, where each answer is that of the unedited model with the one edit that its question sees.</summary>
    [Theory]
    [Trait("Category", "Slow")]
    [MemberData(nameof(RoutedBatchNumbers))]
    public async Task RandomFaults_BreakNoPromiseOfRoutedEdits(int batch)
    {
        _model.WriteRouter();
        var events = await RunAsync(batch, routes: true);
        Assert.All(events.OfType<Consolidated>(), consolidated => Assert.Null(consolidated.Receipt));
    }

    private async Task<List<Event>> RunAsync(int batch, bool routes)
    {
        var events = (await Task.WhenAll(_oracles.Select((oracle, i) =>
            Task.Run(() => RunEachAsync(Seeds().Where(seed => seed % Beside == i), oracle, routes)))))
            .SelectMany(histories => histories).SelectMany(history => history.Events).ToList();
        var edits = events.OfType<Edited>().ToLookup(edit => edit.Receipt is not null);
        output.WriteLine($"{edits[true].Count()} edits acknowledged, {edits[false].Count()} never answered");
        Assert.True(edits[true].Count() > Schedules / Batches, "hardly any edit was made");
        return events;

        IEnumerable<int> Seeds() => Enumerable.Range(batch * Schedules / Batches, Schedules / Batches);
    }

    private async Task<List<History>> RunEachAsync(IEnumerable<int> seeds, Oracle oracle, bool routes)
    {
        var histories = new List<History>();
        foreach (var seed in seeds)
            try
            {
                histories.Add(await RunAsync(seed, oracle, routes));
            }
            catch
            {
                output.WriteLine($"The schedule with seed {seed} failed.");
                throw;
            }
        return histories;
    }

    private async Task<History> RunAsync(int seed, Oracle oracle, bool routes)
    {
        var (ledger, history) = (Path.Combine(_model.Model, $"ledger-{seed}"), new History());
        ShardStatus[] shards;
        await using (var cluster = await FaultyCluster.StartAsync(_model, ledger, seed, routes))
        {
            await Task.WhenAll(Enumerable.Range(0, Clients)
                .Select(i => new Client(cluster, history, i, Prng.At((ulong)seed, (ulong)i)).RunAsync(Requests)));
            shards = await cluster.CalmAsync();
        }
        IReadOnlyList<LedgerRecord> records;
        await using (var file = FileLedger.Open(ledger, Fingerprint(routes)))
            records = await file.ReadAfterAsync(ModelVersion.Base);
        history.CheckLedger([.. records.Select(record => record.Entry)]);
        history.CheckOrder();
        await CheckAnswersAsync(history, records, oracle, routes);
        await CheckShardsAsync(shards, ledger, records.Count, routes);
        File.Delete(ledger);
        return history;
    }

    private byte[] Fingerprint(bool routes)
    {
        var (text, model) = ModelText.Open(_model.Model);
        using var table = routes ? RouteTable.Open(_model.Router, text, model) : null;
        return table?.LedgerFingerprint ?? model;
    }

    private static async Task CheckAnswersAsync(History history, IReadOnlyList<LedgerRecord> records, Oracle oracle, bool routes)
    {
        foreach (var asked in history.Events.OfType<Asked>())
        {
            var inForce = Oracle.InForce(records.Take((int)asked.Answer.Version.Value));
            if (routes)
                inForce = Oracle.Routed(inForce, asked.Prompt, asked.Scope);
            Assert.Equal(await oracle.AnswerAsync(inForce, asked.Prompt, new(MaxTokens: 2, Scope: asked.Scope)), asked.Answer.Text);
        }
    }

    private async Task CheckShardsAsync(ShardStatus[] shards, string ledger, int version, bool routes)
    {
        using var model = new ClusterOfTinyModel(_model.Model); // knows the shards of one cluster
        await using var undisturbed = await model.OpenAsync(FaultyCluster.Stages, ledger: ledger,
            router: routes ? _model.Router : null);
        var expected = await undisturbed.StatusAsync();
        Assert.Equal(FaultyCluster.Replicas * FaultyCluster.Stages, shards.Length);
        foreach (var (i, shard) in shards.Index())
            Assert.Equal((new ModelVersion(version), expected[i % FaultyCluster.Stages].Checksum), (shard.Version, shard.Checksum));
    }
}
