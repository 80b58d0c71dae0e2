using System.Security.Cryptography;
using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;

namespace MendCluster.Distributed.Tests.Ledger;

/// <summary>
/// The server is stopped, killed and cut off. An append that failed appended nothing; one that did not appended everything.
/// </summary>
public sealed class PostgresLedgerFaultTests(PostgresWithLedger postgres) : IClassFixture<PostgresWithLedger>
{
    private static readonly TimeSpan NoPatience = TimeSpan.Zero;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    private readonly byte[] _model = SHA256.HashData(Guid.NewGuid().ToByteArray());

    [Fact]
    public async Task AServerThatIsGone_FailsTheAppend_AndWhenItIsBackTheNextOneIsMade()
    {
        await using var ledger = await OpenAsync(postgres.Connection, Patience);
        await ledger.AppendAsync(EditLedgerPromises.Record(1));
        await postgres.Server.StopAsync();
        for (var i = 0; i < 2; i++)
        {
            var failed = await Assert.ThrowsAsync<MendException>(() => ledger.AppendAsync(EditLedgerPromises.Record(2)));
            Assert.Equal(MendError.LedgerWriteFailed, failed.Error);
            Assert.True(failed.IsTransient);
            Assert.Contains(postgres.Server.Folder, failed.Message, StringComparison.Ordinal);
        }
        Assert.Equal(MendError.LedgerUnreachable,
            (await Assert.ThrowsAsync<MendException>(() => ledger.ReadAfterAsync(ModelVersion.Base))).Error);
        Assert.Single(ledger.Entries);
        await postgres.Server.StartAsync();
        await ledger.AppendAsync(EditLedgerPromises.Record(2));
        Assert.Equal(2, (await ledger.ReadAfterAsync(ModelVersion.Base)).Count);
    }

    [Fact]
    public async Task AServerKilledInTheMiddleOfAppends_HasEveryAcknowledgedRecord_AndNoHalfOne()
    {
        var random = new Random(7);
        long acknowledged = 0;
        for (var round = 0; round < 6; round++)
        {
            var inDoubt = false;
            await using (var ledger = await OpenAsync(postgres.Connection, NoPatience))
            {
                Assert.Equal(acknowledged, ledger.Entries.Count);
                var target = acknowledged + random.Next(1, 30);
                var reached = new TaskCompletionSource();
                var appends = Task.Run(async () =>
                {
                    try
                    {
                        for (; ; acknowledged++)
                        {
                            if (acknowledged == target)
                                reached.SetResult();
                            await ledger.AppendAsync(EditLedgerPromises.Record(acknowledged + 1));
                        }
                    }
                    catch (MendException e)
                    {
                        Assert.True(e.Error is MendError.LedgerWriteFailed or MendError.LedgerInDoubt, e.ToString());
                        inDoubt = e.Error == MendError.LedgerInDoubt;
                    }
                });
                await reached.Task;
                await postgres.Server.KillAsync();
                await appends;
            }
            await postgres.Server.StartAsync();
            await using var again = await OpenAsync(postgres.Connection, Patience);
            Assert.InRange(again.Entries.Count, acknowledged, acknowledged + (inDoubt ? 1 : 0));
            acknowledged = again.Entries.Count;
            foreach (var (record, i) in (await again.ReadAfterAsync(ModelVersion.Base)).Select((record, i) => (record, i)))
                EditLedgerPromises.AssertSame(EditLedgerPromises.Record(i + 1), record);
        }
    }

    [Theory]
    [InlineData(Cut.BeforeTheServer, false)]
    [InlineData(Cut.BeforeTheServerUnseen, false)]
    [InlineData(Cut.AfterTheServer, true)]
    public async Task ACommitWhoseAnswerIsLost_IsLookedUp(Cut cut, bool durable)
    {
        using var cutter = new CommitCutter(postgres.Server);
        await using var ledger = await OpenAsync(cutter.Connection, Patience);
        cutter.Next = cut;
        var append = ledger.AppendAsync(EditLedgerPromises.Record(1));
        if (durable)
            await append;
        else
            Assert.Equal(MendError.LedgerWriteFailed, (await Assert.ThrowsAsync<MendException>(() => append)).Error);
        Assert.Equal(durable ? 1 : 0, ledger.Entries.Count);
        await ledger.AppendAsync(EditLedgerPromises.Record(durable ? 2 : 1));
        await using var again = await OpenAsync(postgres.Connection, Patience);
        Assert.Equal(ledger.Entries, again.Entries);
    }

    [Theory]
    [InlineData(Cut.BeforeTheServer, false)]
    [InlineData(Cut.AfterTheServer, true)]
    public async Task WhileItIsNotKnownHowACommitEnded_NothingIsAppended(Cut cut, bool durable)
    {
        using var cutter = new CommitCutter(postgres.Server);
        await using var ledger = await OpenAsync(cutter.Connection, NoPatience);
        (cutter.Next, cutter.StaysAway) = (cut, true);
        for (var i = 0; i < 3; i++)
        {
            var failed = await Assert.ThrowsAsync<MendException>(() => ledger.AppendAsync(EditLedgerPromises.Record(1)));
            Assert.Equal(MendError.LedgerInDoubt, failed.Error);
            Assert.True(failed.IsTransient);
        }
        Assert.Empty(ledger.Entries);
        cutter.StaysAway = false;
        if (durable)
        {
            var made = await Assert.ThrowsAsync<MendException>(() => ledger.AppendAsync(EditLedgerPromises.Record(1)));
            Assert.Equal(MendError.LedgerWriteFailed, made.Error);
            Assert.Contains("was written by the request before", made.Message, StringComparison.Ordinal);
            Assert.Single(ledger.Entries);
            await ledger.AppendAsync(EditLedgerPromises.Record(2));
        }
        else
            await ledger.AppendAsync(EditLedgerPromises.Record(1));
        await using var again = await OpenAsync(postgres.Connection, Patience);
        Assert.Equal(ledger.Entries, again.Entries);
    }

    private Task<PostgresLedger> OpenAsync(string connection, TimeSpan patience) =>
        PostgresLedger.OpenAsync(connection, _model, TimeProvider.System, patience);
}
