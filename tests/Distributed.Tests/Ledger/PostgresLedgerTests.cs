using System.Security.Cryptography;
using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests.Ledger;

/// <summary>
/// A server for the tests of a class: the ledger's tables, and a role with the rights that a coordinator needs and no more.
/// </summary>
public sealed class PostgresWithLedger : IAsyncLifetime
{
    public PostgresInstance Server { get; private set; } = null!;

    public string Connection => Server.Connection("mend");

    public async Task InitializeAsync()
    {
        Server = await PostgresInstance.StartNewAsync();
        await PrepareAsync(Server, "postgres");
    }

    /// <summary>Tables, role and rights, as docs/cluster.md has them.</summary>
    public static async Task PrepareAsync(PostgresInstance server, string database)
    {
        await PostgresSchema.Ledger.MigrateAsync(server.Connection(database: database));
        await server.SqlAsync(
            """
            do $$ begin create role mend login; exception when duplicate_object then null; end $$;
            grant select, insert on mend_record, mend_epoch to mend;
            grant select on mend_schema to mend;
            """, database);
    }

    public async Task DisposeAsync() => await Server.DisposeAsync();
}

public sealed class PostgresLedgerTests : EditLedgerPromises, IClassFixture<PostgresWithLedger>
{
    private readonly PostgresWithLedger _postgres;

    public PostgresLedgerTests(PostgresWithLedger postgres)
    {
        _postgres = postgres;
        Model = SHA256.HashData(Guid.NewGuid().ToByteArray()); // one server, and for each test a ledger of its own
    }

    private string ModelHex => Convert.ToHexString(Model);

    protected override async Task<IEditLedger> OpenAsync() =>
        await IEditLedger.OpenAsync("postgres:" + _postgres.Connection, Model, TimeProvider.System);

    [Fact]
    public async Task ModelsOfOneDatabase_HaveLedgersOfTheirOwn()
    {
        await AppendAsync(2);
        await using var another = await PostgresLedger.OpenAsync(_postgres.Connection, SHA256.HashData(Model), TimeProvider.System);
        Assert.Empty(another.Entries);
        await another.AppendAsync(Record(1));
        await using var first = await OpenAsync();
        Assert.Equal(2, first.Entries.Count);
    }

    [Fact]
    public async Task OfTwoThatHaveItOpen_TheLaterOneAppends_AndTheEarlierOneIsRefused()
    {
        await using var earlier = await OpenAsync();
        await earlier.AppendAsync(Record(1));
        await using var later = await OpenAsync();
        for (var i = 0; i < 2; i++)
        {
            var refused = await Assert.ThrowsAsync<MendException>(() => earlier.AppendAsync(Record(2)));
            Assert.Equal(MendError.LedgerInUse, refused.Error);
            Assert.Contains("taken over by process", refused.Message, StringComparison.Ordinal);
        }
        Assert.Single(earlier.Entries);
        await later.AppendAsync(Record(2));
        Assert.Equal(MendError.LedgerInUse, (await Assert.ThrowsAsync<MendException>(() => earlier.AppendAsync(Record(2)))).Error);
        Assert.Equal([1, 2], (await later.ReadAfterAsync(ModelVersion.Base)).Select(record => record.Entry.Version.Value));
    }

    /// <summary>
    /// Appends and openings at once: whoever opened it has read everything that was ever acknowledged before its own first append.
    /// </summary>
    [Fact]
    public async Task ManyThatTakeItFromEachOther_LoseNoAcknowledgedRecord()
    {
        var acknowledged = new List<(long Version, string Author)>();
        await Task.WhenAll(Enumerable.Range(0, 4).Select(async writer =>
        {
            for (var turn = 0; turn < 5; turn++)
            {
                await using var ledger = await OpenAsync();
                try
                {
                    for (var i = 0; i < 20; i++)
                    {
                        var version = ledger.Entries.Count + 1;
                        await ledger.AppendAsync(new LedgerRecord(Record(1).Entry with
                        {
                            Version = new(version),
                            Author = $"{writer}.{turn}",
                            IdempotencyKey = null
                        }, []));
                        lock (acknowledged)
                            acknowledged.Add((version, $"{writer}.{turn}"));
                    }
                }
                catch (MendException e)
                {
                    Assert.Equal(MendError.LedgerInUse, e.Error);
                }
            }
        }));
        await using var all = await OpenAsync();
        Assert.Equal(acknowledged.Order(), all.Entries.Select(entry => (entry.Version.Value, entry.Author!)));
    }

    [Theory]
    [InlineData("update mend_record set prompt = 'another'")]
    [InlineData("update mend_record set record = ''")]
    [InlineData("delete from mend_record")]
    [InlineData("truncate mend_record")]
    [InlineData("update mend_epoch set epoch = 0")]
    [InlineData("delete from mend_epoch")]
    [InlineData("delete from mend_schema")]
    public async Task TheDatabase_RefusesToChangeWhatWasWritten_EvenForItsOwner(string sql)
    {
        await AppendAsync(1);
        Assert.Contains("only ever added to",
            (await Assert.ThrowsAsync<InvalidOperationException>(() => _postgres.Server.SqlAsync(sql))).Message, StringComparison.Ordinal);
        await using var ledger = await OpenAsync();
        AssertSame(Record(1), Assert.Single(await ledger.ReadAfterAsync(ModelVersion.Base)));
    }

    /// <summary>As above by those who can turn the triggers off.</summary>
    private Task<string> TamperAsync(string sql) =>
        _postgres.Server.SqlAsync($"set session_replication_role = replica; {sql} where model = '\\x{ModelHex}' and version = 2");

    [Fact]
    public async Task AByteChangedAnywhereInARecord_IsFound_AndItsVersionNamed()
    {
        await AppendAsync(3);
        var length = int.Parse(await _postgres.Server.SqlAsync($"select length(record) from mend_record where model = '\\x{ModelHex}' and version = 2"));
        for (var at = 0; at < length; at += 7)
        {
            var flip = $"update mend_record set record = set_byte(record, {at}, get_byte(record, {at}) # 32)";
            await TamperAsync(flip);
            var refused = await Assert.ThrowsAsync<MendException>(async () =>
            {
                await using var ledger = await OpenAsync(); // finds what makes the entry unreadable
                await ledger.ReadAfterAsync(new(1));
            });
            Assert.Equal(MendError.LedgerUnusable, refused.Error);
            Assert.Contains("version 2", refused.Message, StringComparison.Ordinal);
            await TamperAsync(flip);
        }
        await using var whole = await OpenAsync();
        Assert.Equal(3, (await whole.ReadAfterAsync(ModelVersion.Base)).Count);
    }

    [Fact]
    public async Task ARecordTakenOut_IsMissed()
    {
        await AppendAsync(3);
        await using var open = await OpenAsync();
        await TamperAsync("delete from mend_record");
        foreach (var read in new Func<Task>[] { () => open.ReadAfterAsync(ModelVersion.Base), OpenAsync })
        {
            var refused = await Assert.ThrowsAsync<MendException>(read);
            Assert.Equal(MendError.LedgerUnusable, refused.Error);
            Assert.Contains("version 2: the record is missing", refused.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task WhatIsQueried_IsInColumns()
    {
        await AppendAsync(3);
        Assert.Equal("2026-01-02 03:04:01+00|Edit|1|prompt 1|Ωtarget|author|key 1|0.25\n2026-01-02 03:04:03+00|Revert|2|||||",
            await _postgres.Server.SqlAsync(
            $"set timezone = 'UTC'; select time, kind, edit, prompt, target, author, idempotency_key, figures->>'Drawdown' from mend_record where model = '\\x{ModelHex}' and version <> 2 order by version"));
    }

    [Fact]
    public async Task AnIdempotencyKey_IsInALedgerOnce()
    {
        await using var ledger = await OpenAsync();
        await ledger.AppendAsync(Record(1));
        var again = Record(2) with { Entry = Record(2).Entry with { IdempotencyKey = "key 1" } };
        Assert.Equal(MendError.IdempotencyKeyReused, (await Assert.ThrowsAsync<MendException>(() => ledger.AppendAsync(again))).Error);
        var next = again with { Entry = again.Entry with { Version = new(3), Edit = new(3) } };
        Assert.Equal(MendError.IdempotencyKeyReused,
            (await Assert.ThrowsAsync<MendException>(() => ledger.AppendAsync([Record(2), next]))).Error);
        Assert.Single(ledger.Entries); // all records of an append, or none
        await ledger.AppendAsync(Record(2));
    }

    [Fact]
    public async Task TablesThatAreMissing_OldOrNewer_AreNamedWithTheCommand()
    {
        var server = _postgres.Server;
        await server.SqlAsync("create database other");
        var connection = server.Connection(database: "other");
        var missing = await Assert.ThrowsAsync<MendException>(() => PostgresLedger.OpenAsync(connection, Model, TimeProvider.System));
        Assert.Equal(MendError.LedgerUnusable, missing.Error);
        Assert.Contains($"no tables of a ledger, version {PostgresSchema.Ledger.Version} is needed", missing.Message,
            StringComparison.Ordinal);
        Assert.Contains("mend ledger migrate", missing.Message, StringComparison.Ordinal);
        Assert.Equal("", await server.SqlAsync("select relname from pg_class where relname like 'mend%'", "other")); // opening made nothing

        Assert.Equal((0, PostgresSchema.Ledger.Version), await PostgresSchema.Ledger.MigrateAsync(connection));
        await using (var ledger = await PostgresLedger.OpenAsync(connection, Model, TimeProvider.System))
            await ledger.AppendAsync(Record(1));
        // again: nothing to do
        Assert.Equal((PostgresSchema.Ledger.Version, PostgresSchema.Ledger.Version), await PostgresSchema.Ledger.MigrateAsync(connection));

        await server.SqlAsync($"insert into mend_schema (version) values ({PostgresSchema.Ledger.Version + 1})", "other");
        foreach (var open in new Func<Task>[] { () => PostgresLedger.OpenAsync(connection, Model, TimeProvider.System),
            () => PostgresSchema.Ledger.MigrateAsync(connection) })
        {
            var newer = await Assert.ThrowsAsync<MendException>(open);
            Assert.Equal(MendError.LedgerUnusable, newer.Error);
            Assert.Contains($"of version {PostgresSchema.Ledger.Version + 1}, this program knows {PostgresSchema.Ledger.Version}",
                newer.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task TwoMigrationsAtOnce_MakeTheTablesOnce()
    {
        await _postgres.Server.SqlAsync("create database raced");
        var connection = _postgres.Server.Connection(database: "raced");
        var results = await Task.WhenAll(Enumerable.Range(0, 4).Select(_ => PostgresSchema.Ledger.MigrateAsync(connection)));
        Assert.Equal(3, results.Count(result => result == (PostgresSchema.Ledger.Version, PostgresSchema.Ledger.Version)));
    }

    [Theory]
    [InlineData("Host=/nowhere;Username=mend;Password=hunter2", MendError.LedgerUnreachable, "/nowhere")]
    [InlineData("Host=no-such-host.invalid;Username=mend;Password=hunter2;Timeout=2", MendError.LedgerUnreachable, "no-such-host.invalid")]
    [InlineData("{here};Database=absent;Password=hunter2", MendError.LedgerUnusable, "createdb")]
    [InlineData("{here};Username=nobody-known;Password=hunter2", MendError.LedgerUnusable, "Check user and password")]
    [InlineData("{here};Database=postgres;Username=stranger;Password=hunter2", MendError.LedgerUnusable, "USAGE")]
    [InlineData("Hots=db;Password=hunter2", MendError.InvalidOption, "Host=db;Database=mend")]
    [InlineData("Host=db;Port=hunter2", MendError.InvalidOption, "Host=db;Database=mend")]
    [InlineData("hunter2", MendError.InvalidOption, "Host=db;Database=mend")]
    [InlineData("", MendError.InvalidOption, "Host=db;Database=mend")]
    public async Task AServerThatCannotBeUsed_IsNamedWithWhatToDo_AndNeverThePassword(string connection, MendError error, string named)
    {
        await _postgres.Server.SqlAsync("do $$ begin create role stranger login; exception when duplicate_object then null; end $$");
        var refused = await Assert.ThrowsAsync<MendException>(() =>
            PostgresLedger.OpenAsync(connection.Replace("{here}", _postgres.Server.Connection(), StringComparison.Ordinal), Model,
            TimeProvider.System));
        Assert.Equal(error, refused.Error);
        Assert.Contains(named, refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("hunter2", refused.ToString(), StringComparison.Ordinal);
    }
}
