using System.Security.Cryptography;
using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests.Ledger;

public sealed class FileLedgerTests : EditLedgerPromises, IDisposable
{
    private readonly TemporaryFolder _folder = new();

    private string File => _folder["ledger"];

    protected override Task<IEditLedger> OpenAsync() => Task.FromResult<IEditLedger>(FileLedger.Open(File, Model));

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task LedgerCutAtAnyByte_ReopensAtTheLastWholeRecord()
    {
        var ends = await Write(3);
        var whole = System.IO.File.ReadAllBytes(File);
        for (var length = 0; length <= whole.Length; length++)
        {
            System.IO.File.WriteAllBytes(File, whole[..length]);
            await using (var ledger = FileLedger.Open(File, Model))
            {
                Assert.Equal(ends.Count(end => end <= length), ledger.Entries.Count);
                await ledger.AppendAsync(Record(ledger.Entries.Count + 1)); // what follows is whole again
            }
            await using var again = FileLedger.Open(File, Model);
            Assert.Equal(ends.Count(end => end <= length) + 1, again.Entries.Count);
        }
    }

    /// <summary>A file system may have made the file longer before the bytes reached the disk; what is missing then reads as zeros.</summary>
    [Fact]
    public async Task ARecordThatIsZerosFromAnyByteOn_IsCutOff()
    {
        var ends = await Write(3);
        var whole = System.IO.File.ReadAllBytes(File);
        for (var from = (int)ends[1]; from < whole.Length - 1; from++)
        {
            var torn = (byte[])whole.Clone();
            torn.AsSpan(from).Clear();
            System.IO.File.WriteAllBytes(File, torn);
            await using var ledger = FileLedger.Open(File, Model);
            Assert.Equal(torn.SequenceEqual(whole) ? 3 : 2, ledger.Entries.Count); // a revert ends in zeros of its own
            Assert.Equal(ends[ledger.Entries.Count - 1], new FileInfo(File).Length);
        }
    }

    [Fact]
    public async Task AByteFlippedAnywhere_IsNoticed()
    {
        var ends = await Write(3);
        var whole = System.IO.File.ReadAllBytes(File);
        for (var at = 0; at < whole.Length; at++)
        {
            if (at is >= 12 and < 16)
                continue; // unused bytes of the header
            var damaged = (byte[])whole.Clone();
            damaged[at] ^= 0x20;
            System.IO.File.WriteAllBytes(File, damaged);
            if (at >= ends[1]) // in the last record it looks like a torn append
            {
                await using var cut = FileLedger.Open(File, Model);
                Assert.Equal(2, cut.Entries.Count);
                continue;
            }
            var refused = Assert.Throws<MendException>(() => FileLedger.Open(File, Model));
            Assert.Equal(MendError.LedgerUnusable, refused.Error);
            Assert.Equal(damaged, System.IO.File.ReadAllBytes(File)); // nothing was changed
        }
    }

    [Fact]
    public async Task AnotherModelsLedger_IsRefused()
    {
        await Write(1);
        var refused = Assert.Throws<MendException>(() => FileLedger.Open(File, SHA256.HashData("another"u8)));
        Assert.Equal(MendError.LedgerUnusable, refused.Error);
        Assert.Contains("belongs to the model", refused.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFileThatIsNoLedger_IsRefusedAndKept()
    {
        System.IO.File.WriteAllText(File, "important notes");
        Assert.Equal(MendError.LedgerUnusable, Assert.Throws<MendException>(() => FileLedger.Open(File, Model)).Error);
        Assert.Equal("important notes", System.IO.File.ReadAllText(File));
    }

    [Fact]
    public async Task TwoWriters_AreRefused()
    {
        await using var first = FileLedger.Open(File, Model);
        Assert.Equal(MendError.LedgerInUse, Assert.Throws<MendException>(() => FileLedger.Open(File, Model)).Error);
    }

    /// <summary>The format is frozen: ledgers that were written must be readable for ever.</summary>
    [Fact]
    public async Task TheBytes_AreThoseOfVersionOne()
    {
        await Write(2);
        Assert.Equal(GoldenBytes, Convert.ToHexString(SHA256.HashData(System.IO.File.ReadAllBytes(File))));
    }

    private const string GoldenBytes = "5829C1D919BD6A31B0C270D0DC509F147DCB4DDB190BF18E9D6D562918EE8AC8";

    private async Task<List<long>> Write(int records)
    {
        var ends = new List<long>();
        await using var ledger = FileLedger.Open(File, Model);
        for (var i = 1; i <= records; i++)
        {
            await ledger.AppendAsync(Record(i));
            ends.Add(new FileInfo(File).Length);
        }
        return ends;
    }
}
