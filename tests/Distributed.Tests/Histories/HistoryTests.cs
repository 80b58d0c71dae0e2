using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
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
    private const int Clients = 3;
    private const int Requests = 3;

    /// <summary>Schedules that run beside each other: a cluster's arithmetic is on one thread at a time, mostly.</summary>
    private const int Beside = 2;

    private readonly ClusterOfTinyModel _model = new("gpt2");
    private Oracle[] _oracles = null!;

    public static TheoryData<int> BatchNumbers => [.. Enumerable.Range(0, Batches)];

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
        var events = (await Task.WhenAll(_oracles.Select((oracle, i) =>
            Task.Run(() => RunEachAsync(Seeds().Where(seed => seed % Beside == i), oracle)))))
            .SelectMany(histories => histories).SelectMany(history => history.Events).ToList();
        var edits = events.OfType<Edited>().ToLookup(edit => edit.Receipt is not null);
        var consolidations = events.OfType<Consolidated>().Count(consolidated => consolidated.Receipt is not null);
        output.WriteLine($"{edits[true].Count()} edits acknowledged, {edits[false].Count()} never answered; {consolidations} consolidations");
        Assert.True(edits[true].Count() > Schedules / Batches, "hardly any edit was made");
        Assert.True(consolidations > Schedules / Batches / 10, "hardly any consolidation was made");

        IEnumerable<int> Seeds() => Enumerable.Range(batch * Schedules / Batches, Schedules / Batches);
    }

    private async Task<List<History>> RunEachAsync(IEnumerable<int> seeds, Oracle oracle)
    {
        var histories = new List<History>();
        foreach (var seed in seeds)
            try
            {
                histories.Add(await RunAsync(seed, oracle));
            }
            catch
            {
                output.WriteLine($"The schedule with seed {seed} failed.");
                throw;
            }
        return histories;
    }

    private async Task<History> RunAsync(int seed, Oracle oracle)
    {
        var (ledger, history) = (Path.Combine(_model.Model, $"ledger-{seed}"), new History());
        ShardStatus[] shards;
        await using (var cluster = await FaultyCluster.StartAsync(_model, ledger, seed))
        {
            await Task.WhenAll(Enumerable.Range(0, Clients)
                .Select(i => new Client(cluster, history, i, Prng.At((ulong)seed, (ulong)i)).RunAsync(Requests)));
            shards = await cluster.CalmAsync();
        }
        IReadOnlyList<LedgerRecord> records;
        await using (var file = FileLedger.Open(ledger, ModelFingerprint.Of(_model.Model)))
            records = await file.ReadAfterAsync(ModelVersion.Base);
        history.CheckLedger([.. records.Select(record => record.Entry)]);
        history.CheckOrder();
        await CheckAnswersAsync(history, records, oracle);
        await CheckShardsAsync(shards, ledger, records.Count);
        File.Delete(ledger);
        return history;
    }

    private static async Task CheckAnswersAsync(History history, IReadOnlyList<LedgerRecord> records, Oracle oracle)
    {
        foreach (var asked in history.Events.OfType<Asked>())
        {
            var inForce = Oracle.InForce(records.Take((int)asked.Answer.Version.Value));
            Assert.Equal(await oracle.AnswerAsync(inForce, asked.Prompt, new(MaxTokens: 2, Scope: asked.Scope)), asked.Answer.Text);
        }
    }

    private async Task CheckShardsAsync(ShardStatus[] shards, string ledger, int version)
    {
        using var model = new ClusterOfTinyModel(_model.Model); // knows the shards of one cluster
        await using var undisturbed = await model.OpenAsync(FaultyCluster.Stages, ledger: ledger);
        var expected = await undisturbed.StatusAsync();
        Assert.Equal(FaultyCluster.Replicas * FaultyCluster.Stages, shards.Length);
        foreach (var (i, shard) in shards.Index())
            Assert.Equal((new ModelVersion(version), expected[i % FaultyCluster.Stages].Checksum), (shard.Version, shard.Checksum));
    }
}
