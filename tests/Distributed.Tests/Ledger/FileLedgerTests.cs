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

    /// <summary>
    /// A file system may have made the file longer before the bytes reached the disk; what is missing then reads as zeros.
    /// </summary>
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

    /// <summary>A change with keys: the type says that they follow.</summary>
    [Theory]
    [InlineData(DType.Float32)]
    [InlineData(DType.BFloat16)]
    public async Task KeysFollowTheFactors_AndComeBack(DType type)
    {
        var size = type == DType.Float32 ? 4 : 2;
        WireTensor Tensor(long rows, long columns, byte first) =>
            new(type, [rows, columns], Enumerable.Range(first, (int)(rows * columns) * size).Select(i => (byte)i).ToArray());
        WeightChange[] changes = [new("a", Tensor(1, 2, 1), Tensor(1, 3, 20), 0.5f, Keys: Tensor(2, 2, 40)), new("b", Tensor(1, 1, 60), Tensor(1, 1, 70), 1)];
        await using (var ledger = FileLedger.Open(File, Model))
            await ledger.AppendAsync(new LedgerRecord(Record(1).Entry, changes));
        var bytes = System.IO.File.ReadAllBytes(File);
        byte[] first = [0, 0, 0, 0, 0, 0, 0, 0, (byte)type, 1, 0, 0, .. BitConverter.GetBytes(0.5f), .. BitConverter.GetBytes(1L), .. BitConverter.GetBytes(2L),
            .. BitConverter.GetBytes(3L), .. changes[0].UTilde.Bytes.Span, .. changes[0].DeltaTilde.Bytes.Span, .. BitConverter.GetBytes(2L), .. changes[0].Keys!.Bytes.Span];
        Assert.NotEqual(-1, bytes.AsSpan().IndexOf(first));
        await using var again = FileLedger.Open(File, Model);
        var read = Assert.Single(await again.ReadAfterAsync(ModelVersion.Base)).Changes;
        Assert.Equal(changes[0].Keys!.Bytes.ToArray(), read[0].Keys!.Bytes.ToArray());
        Assert.Equal([2, 2], read[0].Keys!.Shape);
        Assert.Null(read[1].Keys);
        Assert.Equal(changes[1].DeltaTilde.Bytes.ToArray(), read[1].DeltaTilde.Bytes.ToArray());
    }

    /// <summary>Without probes nothing is measured, and the entry says nothing of it; before, it had 0. Neither form may change.</summary>
    [Fact]
    public async Task WhatWasNotMeasured_IsLeftOut_AndOlderLedgersHaveItAsZero()
    {
        var entry = Record(1).Entry with { Figures = new(true, 0.25, 0.5, 0, null, null) };
        await using (var ledger = FileLedger.Open(File, Model))
            await ledger.AppendAsync(new LedgerRecord(entry, []));
        var measured = """
            {"Version":1,"Time":"2026-01-02T03:04:01+00:00","Kind":"Edit","Edit":1,"Prompt":"prompt 1","Target":"\u03A9target",
            "Author":"author","IdempotencyKey":"key 1",
            "Figures":{"Success":true,"ProbabilityBefore":0.25,"ProbabilityAfter":0.5,"Probes":0,"Drawdown":0,"Kl":0}}
            """.ReplaceLineEndings("");
        var unmeasured = measured.Replace(",\"Drawdown\":0,\"Kl\":0", "", StringComparison.Ordinal);
        Assert.Equal(WithOne(unmeasured), System.IO.File.ReadAllBytes(File));

        var older = WithOne(measured);
        System.IO.File.WriteAllBytes(File, older);
        await using (var ledger = FileLedger.Open(File, Model))
            Assert.Equal(entry, Assert.Single(ledger.Entries));
        Assert.Equal(older, System.IO.File.ReadAllBytes(File));
    }

    /// <summary>The bytes of a ledger with one record that changes no weight, as docs/formats.md draws them.</summary>
    private byte[] WithOne(string entry)
    {
        var json = System.Text.Encoding.UTF8.GetBytes(entry);
        byte[] payload = [.. BitConverter.GetBytes(json.Length), .. json, .. BitConverter.GetBytes(0)];
        return [.. "MENDLEDG"u8, 1, 0, 0, 0, 0, 0, 0, 0, .. Model, .. BitConverter.GetBytes(payload.Length),
            .. BitConverter.GetBytes(LedgerRecordFormat.Checksum(payload)), .. payload];
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
