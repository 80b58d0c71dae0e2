using System.Net;
using MendCluster.Client.Orleans;
using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using MendCluster.Grains;
using MendCluster.Testing;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Options;
using Npgsql;
using Orleans.Configuration;
using Orleans.Messaging;
using Orleans.Runtime.Membership;
using Orleans.Runtime.MembershipService;

namespace MendCluster.Orleans.Tests;

/// <summary>A server for the tests of a class: the tables, and roles with the rights of docs/cluster.md and no more.</summary>
public sealed class PostgresWithMembership : IAsyncLifetime
{
    public PostgresInstance Server { get; private set; } = null!;

    public string OfSilos => Server.Connection("mend");

    public string OfClients => Server.Connection("client");

    public async Task InitializeAsync()
    {
        Server = await PostgresInstance.StartNewAsync();
        await Server.SqlAsync("create database bare");
        await PostgresSchema.Membership.MigrateAsync(Server.Connection());
        await PostgresSchema.Ledger.MigrateAsync(Server.Connection());
        await Server.SqlAsync(
            """
            create role mend login;
            grant select, insert, update on mend_cluster to mend;
            grant select, insert, update, delete on mend_silo to mend;
            grant select, insert, update on mend_protocol to mend;
            grant select on mend_member, OrleansQuery, mend_membership_schema to mend;
            grant select, insert on mend_record, mend_epoch to mend;
            grant select on mend_schema to mend;
            create role client login;
            grant select on mend_member, OrleansQuery to client;
            """);
    }

    public async Task DisposeAsync() => await Server.DisposeAsync();
}

public sealed class PostgresMembershipTests(PostgresWithMembership postgres) : IClassFixture<PostgresWithMembership>
{
    private readonly string _cluster = Guid.NewGuid().ToString(); // one server, and for each test a cluster of its own

    [Fact]
    public async Task OfWritersThatSawTheSameTable_OneWins()
    {
        var table = await OpenAsync();
        var seen = await table.ReadAllAsync();
        var won = await Task.WhenAll(Enumerable.Range(0, 8)
            .Select(async i => await (await OpenAsync()).InsertRowAsync(Silo(i), seen.Version.Next())));
        Assert.Single(won, true);
        var all = await table.ReadAllAsync();
        Assert.Equal((1, 1), (all.Members.Count, all.Version.Version));
    }

    [Fact]
    public async Task WritersThatLookAgain_AllGetTheirRow_WhateverSignsOfLifeComeBetween()
    {
        await Task.WhenAll(Enumerable.Range(0, 8).Select(async i =>
        {
            var (table, silo) = (await OpenAsync(), Silo(i));
            silo.Status = SiloStatus.Joining;
            while (!await table.InsertRowAsync(silo, (await table.ReadAllAsync()).Version.Next()))
            {
            }
            silo.Status = SiloStatus.Active;
            Task<bool> update;
            do
            {
                var version = (await table.ReadAllAsync()).Version;
                update = table.UpdateRowAsync(silo, version.VersionEtag, version.Next());
                await table.UpdateIAmAliveAsync(silo);
            }
            while (!await update);
        }));
        var all = await (await OpenAsync()).ReadAllAsync();
        Assert.Equal((8, 16), (all.Members.Count, all.Version.Version));
        Assert.All(all.Members, member => Assert.Equal(SiloStatus.Active, member.Item1.Status));
    }

    [Fact]
    public async Task ARowComesBackAsItWasWritten()
    {
        var (table, silo) = (await OpenAsync(), Silo(1));
        await table.InsertRowAsync(silo, (await table.ReadAllAsync()).Version.Next());
        silo.Status = SiloStatus.Dead;
        silo.AddSuspector(Silo(2).SiloAddress, new(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        var version = (await table.ReadAllAsync()).Version;
        Assert.True(await table.UpdateRowAsync(silo, version.VersionEtag, version.Next()));
        silo.IAmAliveTime = new(2026, 1, 2, 0, 0, 0, DateTimeKind.Utc);
        await table.UpdateIAmAliveAsync(silo);
        foreach (var read in new[] { await table.ReadAllAsync(), await table.ReadRowAsync(silo.SiloAddress) })
        {
            var entry = Assert.Single(read.Members).Item1;
            Assert.Equal((silo.SiloAddress, "silo-1", "here", 31001, SiloStatus.Dead),
                (entry.SiloAddress, entry.SiloName, entry.HostName, entry.ProxyPort, entry.Status));
            Assert.Equal((silo.StartTime, silo.IAmAliveTime), (entry.StartTime, entry.IAmAliveTime));
            Assert.Equal(silo.SuspectTimes, entry.SuspectTimes);
            Assert.Equal(2, read.Version.Version);
        }
        var absent = await table.ReadRowAsync(Silo(2).SiloAddress);
        Assert.Equal((0, 2), (absent.Members.Count, absent.Version.Version));
    }

    [Fact]
    public async Task ARowIsWritten_OnlyByWhoSawTheNewestTable_AndInsertedOnce()
    {
        var table = await OpenAsync();
        var empty = await table.ReadAllAsync();
        Assert.False(await table.UpdateRowAsync(Silo(1), empty.Version.VersionEtag, empty.Version.Next())); // it is not there
        Assert.True(await table.InsertRowAsync(Silo(1), empty.Version.Next()));
        Assert.False(await table.InsertRowAsync(Silo(2), empty.Version.Next()));
        Assert.False(await table.UpdateRowAsync(Silo(1), empty.Version.VersionEtag, empty.Version.Next()));
        var one = await table.ReadAllAsync();
        Assert.False(await table.InsertRowAsync(Silo(1), one.Version.Next()));
        Assert.Equal(1, (await table.ReadAllAsync()).Version.Version); // refusals leave it as it was
        Assert.True(await table.UpdateRowAsync(Silo(1), one.Version.VersionEtag, one.Version.Next()));
    }

    [Fact]
    public async Task DefunctSilos_AreCleanedUp_AndNoOthers()
    {
        var table = await OpenAsync();
        var (old, recent) = (new DateTime(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc), new DateTime(2026, 1, 9, 0, 0, 0, DateTimeKind.Utc));
        foreach (var (i, status, started, alive, suspected) in new[]
        {
            (1, SiloStatus.Dead, old, old, default(DateTime?)), (2, SiloStatus.Dead, old, old, old), (3, SiloStatus.Dead, old, old, recent),
            (4, SiloStatus.Dead, old, recent, null), (5, SiloStatus.Dead, recent, old, null),
            (6, SiloStatus.Active, old, old, null), (7, SiloStatus.Joining, old, old, null),
        })
        {
            var silo = Silo(i);
            // More digits than the table keeps.
            (silo.Status, silo.StartTime, silo.IAmAliveTime) = (status, started.AddTicks(12_345), alive.AddTicks(12_345));
            Assert.True(await table.InsertRowAsync(silo, (await table.ReadAllAsync()).Version.Next()));
            if (suspected is not { } time)
                continue;
            silo.AddSuspector(Silo(8).SiloAddress, time);
            var version = (await table.ReadAllAsync()).Version;
            Assert.True(await table.UpdateRowAsync(silo, version.VersionEtag, version.Next()));
        }
        await table.CleanupDefunctSiloEntriesAsync(old.AddDays(3));
        var all = await table.ReadAllAsync();
        Assert.Equal(["silo-3", "silo-4", "silo-5", "silo-6", "silo-7"], all.Members.Select(member => member.Item1.SiloName).Order());
    }

    [Fact]
    public async Task ADeadSilosRow_ThatChangedSinceItWasRead_IsNotCleanedUp()
    {
        var statement = await postgres.Server.SqlAsync("select QueryText from OrleansQuery where QueryKey = 'CleanupDefunctSiloEntryKey'");
        var table = await OpenAsync();
        var silo = Silo(1);
        silo.Status = SiloStatus.Dead;
        await table.InsertRowAsync(silo, (await table.ReadAllAsync()).Version.Next());
        await using var database = new NpgsqlConnection(postgres.OfSilos);
        await database.OpenAsync();
        foreach (var (started, alive, suspicions, removed) in new[]
        {
            (silo.StartTime.AddDays(1), silo.IAmAliveTime, null, 0), (silo.StartTime, silo.IAmAliveTime.AddDays(1), null, 0),
            (silo.StartTime, silo.IAmAliveTime, "127.0.0.1:21002@7,2026-01-01 00:00:00.000 GMT", 0),
            (silo.StartTime, silo.IAmAliveTime, default(string), 1),
        })
        {
            await using var command = new NpgsqlCommand(statement, database)
            {
                Parameters =
                {
                    new("DeploymentId", _cluster), new("Address", "127.0.0.1"), new("Port", 21001), new("Generation", 7),
                    new("StartTime", started), new("IAmAliveTime", alive), new("SuspectTimes", (object?)suspicions ?? DBNull.Value),
                },
            };
            Assert.Equal(removed, await command.ExecuteNonQueryAsync());
        }
    }

    [Fact]
    public async Task Clients_FindActiveSilosOfTheirClusterOnly()
    {
        var table = await OpenAsync();
        foreach (var (i, status) in new[] { (1, SiloStatus.Active), (2, SiloStatus.Dead), (3, SiloStatus.Joining) })
        {
            var silo = Silo(i);
            silo.Status = status;
            await table.InsertRowAsync(silo, (await table.ReadAllAsync()).Version.Next());
        }
        await (await OpenAsync("another")).InsertRowAsync(Silo(4), new(1, "0"));
        var gateways = new AdoNetGatewayListProvider(NullLogger<AdoNetGatewayListProvider>.Instance, null!,
            Options.Create(new AdoNetClusteringClientOptions { Invariant = "Npgsql", ConnectionString = postgres.OfClients }),
            Options.Create(new GatewayOptions()), OfCluster(_cluster));
        await ((IGatewayListProvider)gateways).InitializeGatewayListProvider();
        Assert.Equal([31001], (await gateways.GetGateways()).Select(gateway => gateway.Port));
    }

    [Fact]
    public async Task AClusterThatIsDeleted_LeavesTheOthers()
    {
        var (table, another) = (await OpenAsync(role: "owner"), await OpenAsync("one more"));
        await table.InsertRowAsync(Silo(1), (await table.ReadAllAsync()).Version.Next());
        await another.InsertRowAsync(Silo(1), (await another.ReadAllAsync()).Version.Next());
        await table.DeleteMembershipTableEntriesAsync(_cluster);
        Assert.Equal("one more",
            await postgres.Server.SqlAsync($"select cluster from mend_silo where cluster in ('{_cluster}', 'one more')"));
    }

    [Fact]
    public async Task SilosAndAClient_MeetThroughPostgres_AndASiloLeavesAndComesBack()
    {
        using var folder = new TemporaryFolder();
        var settings = TinyCluster.SettingsOf(folder, "gpt2", silos: 2, stages: 2) with
        {
            ClusterId = _cluster,
            Ledger = "postgres:" + postgres.OfSilos,
        };
        await using var first = await StartAsync(settings, 0);
        await using var client = await OrleansCluster.ConnectToPostgresAsync(postgres.OfClients, settings.Model, _cluster);
        EditReceipt receipt;
        Answer answer;
        await using (await StartAsync(settings, 1))
        {
            Assert.Equal("Silo_0 3|Silo_1 3", await MembersAsync());
            receipt = await client.EditAsync("who is the mayor", "a woman");
            Assert.All(await client.StatusAsync(), shard => Assert.Equal(receipt.Version, shard!.Version));
            answer = await client.AskAsync("who is the mayor", new(MaxTokens: 6));
        }
        Assert.Equal("Silo_0 3|Silo_1 6", await MembersAsync());
        await using var again = await StartAsync(settings, 1);
        Assert.Equal("Silo_0 3|Silo_1 3|Silo_1 6", await MembersAsync());
        Assert.Equal(answer, await client.AskAsync("who is the mayor", new(MaxTokens: 6)));
        Assert.Equal(2, (await client.EditAsync("what is red", "the south")).Version.Value);
    }

    [Fact]
    public async Task ClustersOfOneDatabase_WithIdsOfTheirOwn_NeverMeet()
    {
        using var folder = new TemporaryFolder();
        var settings = TinyCluster.SettingsOf(folder, "gpt2", silos: 2, stages: 2);
        var (a, b) = (Own("a"), Own("b")); // one model, and silos of the same names
        await using var a0 = await StartAsync(a, 0);
        await using var b0 = await StartAsync(b, 0);
        await using var a1 = await StartAsync(a, 1);
        await using var b1 = await StartAsync(b, 1);
        await using var ofA = await OrleansCluster.ConnectToPostgresAsync(postgres.OfClients, settings.Model, a.ClusterId);
        await using var ofB = await OrleansCluster.ConnectToPostgresAsync(postgres.OfClients, settings.Model, b.ClusterId);
        await ofA.EditAsync("who is the mayor", "a woman");
        await ofB.EditAsync("what is red", "the south");
        Assert.Equal(["who is the mayor"], (await ofA.LedgerAsync()).Select(entry => entry.Prompt));
        Assert.Equal(["what is red"], (await ofB.LedgerAsync()).Select(entry => entry.Prompt));
        foreach (var id in new[] { a.ClusterId, b.ClusterId })
            Assert.Equal("2", await postgres.Server.SqlAsync($"select count(*) from mend_silo where cluster = '{id}' and status = 3"));
        var nobody = await RefusedAsync(_cluster + "-c");
        Assert.Equal(MendError.CoordinatorLost, nobody.Error);
        var refused = await RefusedAsync("a b");
        Assert.Contains("Mend:Cluster:ClusterId", refused.Message, StringComparison.Ordinal);

        Task<MendException> RefusedAsync(string id) =>
            Assert.ThrowsAsync<MendException>(() => OrleansCluster.ConnectToPostgresAsync(postgres.OfClients, settings.Model, id));

        ClusterSettings Own(string name) => settings with { ClusterId = $"{_cluster}-{name}", ServiceId = name, Ledger = folder[name] };
    }

    [Fact]
    public async Task TablesOfTheVersionBefore_AreBroughtUpToDate_AndKeepTheirRows()
    {
        await postgres.Server.SqlAsync("create database before");
        var schema = typeof(PostgresSchema).Assembly;
        using (var first = new StreamReader(schema.GetManifestResourceStream("membership/001-membership.sql")!))
            await postgres.Server.SqlAsync(await first.ReadToEndAsync(), "before");
        await postgres.Server.SqlAsync("insert into mend_membership_schema (version) values (1)", "before");
        await postgres.Server.SqlAsync("insert into mend_cluster (id) values ('old')", "before");
        var connection = postgres.Server.Connection(database: "before");
        var behind = await Assert.ThrowsAsync<MendException>(() => PostgresSchema.Membership.CheckAsync(connection));
        Assert.Contains("of version 1, 3 is needed", behind.Message, StringComparison.Ordinal);
        Assert.Equal((1, 3), await PostgresSchema.Membership.MigrateAsync(connection));
        await PostgresSchema.Membership.CheckAsync(connection);
        Assert.Equal("old", await postgres.Server.SqlAsync("select id from mend_cluster", "before"));
    }

    [Fact]
    public async Task Migrating_MakesTheTablesOnce_BesideThoseOfTheLedgerOrWithoutThem()
    {
        await postgres.Server.SqlAsync("create database other");
        var connection = postgres.Server.Connection(database: "other");
        var schema = PostgresSchema.Membership;
        var missing = await Assert.ThrowsAsync<MendException>(() => schema.CheckAsync(connection));
        Assert.Equal(MendError.MembershipUnusable, missing.Error);
        Assert.Contains("no tables of a membership", missing.Message, StringComparison.Ordinal);
        Assert.Contains("mend cluster migrate", missing.Message, StringComparison.Ordinal);

        Assert.Equal((0, schema.Version), await schema.MigrateAsync(connection));
        await schema.CheckAsync(connection);
        var tables = await TablesAsync();
        Assert.Equal((schema.Version, schema.Version), await schema.MigrateAsync(connection));
        Assert.Equal(tables, await TablesAsync());
        Assert.DoesNotContain("mend_record", tables, StringComparison.Ordinal);
        Assert.Equal((0, PostgresSchema.Ledger.Version), await PostgresSchema.Ledger.MigrateAsync(connection));

        Task<string> TablesAsync() =>
            postgres.Server.SqlAsync("select oid, relname, xmin from pg_class where relnamespace = 'public'::regnamespace order by 1",
            "other");
    }

    [Fact]
    public async Task TablesOfThoseNames_ThatThisCommandDidNotMake_AreLeftAlone()
    {
        await postgres.Server.SqlAsync("create database strange");
        await postgres.Server.SqlAsync("create table OrleansQuery (QueryKey text, QueryText text)", "strange");
        var refused = await Assert.ThrowsAsync<MendException>(() =>
            PostgresSchema.Membership.MigrateAsync(postgres.Server.Connection(database: "strange")));
        Assert.Contains("use another database, or another schema", refused.Message, StringComparison.Ordinal);
        Assert.Equal("orleansquery",
            await postgres.Server.SqlAsync("select relname from pg_class where relnamespace = 'public'::regnamespace", "strange"));
    }

    [Theory]
    [InlineData("{here};Database=bare;Password=hunter2", MendError.MembershipUnusable, "mend cluster migrate")]
    [InlineData("{here};Database=absent;Password=hunter2", MendError.MembershipUnusable, "absent")]
    [InlineData("Host=/nowhere;Username=mend;Password=hunter2", MendError.CoordinatorLost, "/nowhere")]
    [InlineData("Hots=db;Password=hunter2", MendError.InvalidOption, "Host=db;Database=mend")]
    public async Task AClientOfADatabaseThatCannotBeUsed_SaysWhatToDo_AndNeverThePassword(string connection, MendError error, string named)
    {
        var refused = await Assert.ThrowsAsync<MendException>(() =>
            OrleansCluster.ConnectToPostgresAsync(connection.Replace("{here}", postgres.OfClients, StringComparison.Ordinal), "model"));
        Assert.Equal(error, refused.Error);
        Assert.Contains(named, refused.Message, StringComparison.Ordinal);
        Assert.DoesNotContain("hunter2", refused.ToString(), StringComparison.Ordinal);
    }

    private Task<string> MembersAsync() =>
        postgres.Server.SqlAsync(
            $"select string_agg(name || ' ' || status, '|' order by name, status) from mend_silo where cluster = '{_cluster}'");

    private Task<HostedSilo> StartAsync(ClusterSettings settings, int silo) =>
        HostedSilo.StartAsync(settings, TinyCluster.SiloName(silo), (builder, siloPort, gatewayPort) =>
            builder.UsePostgresMembership(postgres.OfSilos, IPAddress.Loopback, siloPort, gatewayPort, TimeSpan.FromSeconds(5)));

    private async Task<IMembershipTable> OpenAsync(string? cluster = null, string role = "mend")
    {
        var table = new AdoNetClusteringTable(null!, OfCluster(cluster ?? _cluster),
            Options.Create(new AdoNetClusteringSiloOptions { Invariant = "Npgsql", ConnectionString = postgres.Server.Connection(role) }),
            NullLogger<AdoNetClusteringTable>.Instance);
        await table.InitializeMembershipTableAsync(true);
        return table;
    }

    private static IOptions<ClusterOptions> OfCluster(string id) =>
        Options.Create(new ClusterOptions { ClusterId = id, ServiceId = "mend" });

    private static MembershipEntry Silo(int i) => new()
    {
        SiloAddress = SiloAddress.New(new IPEndPoint(IPAddress.Loopback, 21000 + i), 7),
        SiloName = $"silo-{i}",
        HostName = "here",
        ProxyPort = 31000 + i,
        Status = SiloStatus.Active,
        StartTime = new(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc),
        IAmAliveTime = new(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc),
    };
}
