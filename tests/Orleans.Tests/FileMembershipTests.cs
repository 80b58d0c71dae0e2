using System.Net;
using MendCluster.Grains.Interfaces;
using MendCluster.Testing;

namespace MendCluster.Orleans.Tests;

public sealed class FileMembershipTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task OfWritersThatSawTheSameTable_OneWins()
    {
        var table = await OpenAsync();
        var seen = await table.ReadAll();
        var won = await Task.WhenAll(Enumerable.Range(0, 8)
            .Select(i => Task.Run(() => new FileMembershipTable(_folder["members"]).InsertRow(Silo(i), seen.Version.Next()))));
        Assert.Single(won, true);
        Assert.Single((await table.ReadAll()).Members);
    }

    [Fact]
    public async Task WritersThatLookAgain_AllGetTheirRow()
    {
        await OpenAsync();
        await Task.WhenAll(Enumerable.Range(0, 8).Select(i => Task.Run(async () =>
        {
            var table = new FileMembershipTable(_folder["members"]);
            while (!await table.InsertRow(Silo(i), (await table.ReadAll()).Version.Next()))
            {
            }
        })));
        var all = await new FileMembershipTable(_folder["members"]).ReadAll();
        Assert.Equal((8, 8), (all.Members.Count, all.Version.Version));
    }

    [Fact]
    public async Task ARowIsUpdated_OnlyByWhoSawItLast()
    {
        var table = await OpenAsync();
        await table.InsertRow(Silo(1), (await table.ReadAll()).Version.Next());
        var seen = await table.ReadRow(Silo(1).SiloAddress);
        var dead = Silo(1);
        dead.Status = SiloStatus.Dead;
        dead.AddSuspector(Silo(2).SiloAddress, new(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc));
        Assert.False(await table.UpdateRow(dead, "another", seen.Version.Next()));
        Assert.True(await table.UpdateRow(dead, seen.Members[0].Item2, seen.Version.Next()));
        Assert.False(await table.UpdateRow(Silo(1), seen.Members[0].Item2, seen.Version.Next()));
        var entry = (await table.ReadRow(Silo(1).SiloAddress)).Members[0].Item1;
        Assert.Equal((SiloStatus.Dead, Silo(2).SiloAddress), (entry.Status, Assert.Single(entry.SuspectTimes!).Item1));
    }

    [Fact]
    public async Task Clients_FindActiveSilosOnly()
    {
        var table = await OpenAsync();
        foreach (var (i, status) in new[] { (1, SiloStatus.Active), (2, SiloStatus.Dead), (3, SiloStatus.Joining) })
        {
            var silo = Silo(i);
            silo.Status = status;
            await table.InsertRow(silo, (await table.ReadAll()).Version.Next());
        }
        Assert.Equal([31001], (await new FileGateways(_folder["members"]).GetGateways()).Select(gateway => gateway.Port));
    }

    private async Task<FileMembershipTable> OpenAsync()
    {
        var table = new FileMembershipTable(_folder["members"]);
        await table.InitializeMembershipTable(true);
        return table;
    }

    private static MembershipEntry Silo(int i) => new()
    {
        SiloAddress = SiloAddress.New(new IPEndPoint(IPAddress.Loopback, 21000 + i), 7),
        SiloName = $"silo-{i}",
        HostName = "here",
        ProxyPort = 31000 + i,
        Status = SiloStatus.Active,
        StartTime = new(2026, 1, 1, 0, 0, 0, DateTimeKind.Utc),
    };
}
