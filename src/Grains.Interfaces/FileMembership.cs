using System.Net;
using System.Text.Json;
using Orleans.Messaging;

namespace MendCluster.Grains.Interfaces;

/// <summary>
/// Membership of a cluster whose processes share one machine, in a file. No process is special: any of them may be killed. Readers take the
/// file as it is, since it is only ever replaced whole; writers take turns at a lock that the system takes back when its holder dies.
/// </summary>
/// <param name="path">Of the file; made if it does not exist.</param>
public sealed class FileMembershipTable(string path) : IMembershipTable
{
    private static readonly TimeSpan LockPause = TimeSpan.FromMilliseconds(5);
    private const int LockAttempts = 1000;

    public Task InitializeMembershipTable(bool tryInitTableVersion)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(Path.GetFullPath(path))!);
        return Task.CompletedTask;
    }

    public async Task<MembershipTableData> ReadAll()
    {
        var table = await ReadAsync(path).ConfigureAwait(false);
        return new([.. table.Rows.Select(row => Tuple.Create(row.Entry, row.ETag))], table.TableVersion);
    }

    public async Task<MembershipTableData> ReadRow(SiloAddress key)
    {
        var table = await ReadAsync(path).ConfigureAwait(false);
        return table.Row(key) is { } row ? new(Tuple.Create(row.Entry, row.ETag), table.TableVersion) : new(table.TableVersion);
    }

    public Task<bool> InsertRow(MembershipEntry entry, TableVersion tableVersion) =>
        ChangeAsync(table => table.ETag == tableVersion.VersionEtag && table.Row(entry.SiloAddress) is null
            ? table.With(entry, tableVersion.Version) : null);

    public Task<bool> UpdateRow(MembershipEntry entry, string etag, TableVersion tableVersion) =>
        ChangeAsync(table => table.ETag == tableVersion.VersionEtag && table.Row(entry.SiloAddress)?.ETag == etag
            ? table.With(entry, tableVersion.Version) : null);

    public Task UpdateIAmAlive(MembershipEntry entry) => ChangeAsync(table =>
    {
        if (table.Row(entry.SiloAddress) is { } row)
            row.Entry.IAmAliveTime = entry.IAmAliveTime;
        return table;
    });

    public Task CleanupDefunctSiloEntries(DateTimeOffset beforeDate) => ChangeAsync(table => table with
    {
        Rows = [.. table.Rows.Where(row => row.Entry.Status == SiloStatus.Active || row.Entry.IAmAliveTime >= beforeDate.UtcDateTime
            || row.Entry.StartTime >= beforeDate.UtcDateTime)],
    });

    public Task DeleteMembershipTableEntries(string clusterId)
    {
        File.Delete(path);
        return Task.CompletedTask;
    }

    internal static async Task<MembershipFile> ReadAsync(string path)
    {
        try
        {
            return JsonSerializer.Deserialize<MembershipFile>(await File.ReadAllBytesAsync(path).ConfigureAwait(false))
                ?? MembershipFile.Empty;
        }
        catch (FileNotFoundException)
        {
            return MembershipFile.Empty;
        }
    }

    /// <param name="change">Null: the caller has seen an older table and must look again.</param>
    private async Task<bool> ChangeAsync(Func<MembershipFile, MembershipFile?> change)
    {
        using var turn = await LockAsync().ConfigureAwait(false);
        if (change(await ReadAsync(path).ConfigureAwait(false)) is not { } table)
            return false;
        var next = path + ".next";
        await File.WriteAllBytesAsync(next, JsonSerializer.SerializeToUtf8Bytes(table)).ConfigureAwait(false);
        File.Move(next, path, overwrite: true);
        return true;
    }

    private async Task<FileStream> LockAsync()
    {
        for (var attempt = 1; ; attempt++)
            try
            {
                return new(path + ".lock", FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (attempt < LockAttempts)
            {
                await Task.Delay(LockPause).ConfigureAwait(false);
            }
    }
}

/// <summary>Where clients find a cluster of one machine.</summary>
public sealed class FileGateways(string path) : IGatewayListProvider
{
    public TimeSpan MaxStaleness => TimeSpan.FromSeconds(5);

    public bool IsUpdatable => true;

    public Task InitializeGatewayListProvider() => Task.CompletedTask;

    public async Task<IList<Uri>> GetGateways() =>
        [.. (await FileMembershipTable.ReadAsync(path).ConfigureAwait(false)).Rows.Select(row => row.Entry)
        .Where(entry => entry.Status == SiloStatus.Active && entry.ProxyPort > 0)
        .Select(entry => SiloAddress.New(new IPEndPoint(entry.SiloAddress.Endpoint.Address, entry.ProxyPort), entry.SiloAddress.Generation)
            .ToGatewayUri())];
}

/// <summary>What the file holds. The tag changes with every change of a row's state, not with signs of life.</summary>
internal sealed record MembershipFile(int Version, IReadOnlyList<MembershipRow> Rows)
{
    public static readonly MembershipFile Empty = new(0, []);

    public string ETag => Version.ToString(System.Globalization.CultureInfo.InvariantCulture);

    public TableVersion TableVersion => new(Version, ETag);

    public MembershipRow? Row(SiloAddress silo) => Rows.FirstOrDefault(row => row.Entry.SiloAddress.Equals(silo));

    public MembershipFile With(MembershipEntry entry, int version) =>
        new(version, [.. Rows.Where(row => !row.Entry.SiloAddress.Equals(entry.SiloAddress)),
        new(version.ToString(System.Globalization.CultureInfo.InvariantCulture), entry)]);
}

internal sealed record MembershipRow(string ETag, MembershipEntry Entry);
