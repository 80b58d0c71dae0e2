using System.Runtime.InteropServices;
using System.Security.Cryptography;
using MendCluster.Contracts;
using MendCluster.Distributed.Ledger;

namespace MendCluster.Distributed.Tests.Ledger;

/// <summary>What every ledger promises, wherever it keeps its records.</summary>
public abstract class EditLedgerPromises
{
    protected byte[] Model { get; init; } = SHA256.HashData("model"u8);

    /// <summary>Opens one and the same ledger.</summary>
    protected abstract Task<IEditLedger> OpenAsync();

    [Fact]
    public async Task WhatWasAppended_IsThereAfterReopening()
    {
        await AppendAsync(3);
        await using var ledger = await OpenAsync();
        Assert.Equal([Record(1).Entry, Record(2).Entry, Record(3).Entry], ledger.Entries);
        var records = await ledger.ReadAfterAsync(new(1));
        AssertSame(Record(2), records[0]);
        AssertSame(Record(3), records[1]);
        Assert.Equal(2, records.Count);
        Assert.Empty(await ledger.ReadAfterAsync(new(3)));
    }

    [Fact]
    public async Task WhatWasAppended_IsThereAtOnce()
    {
        await using var ledger = await OpenAsync();
        Assert.Empty(ledger.Entries);
        for (var version = 1; version <= 3; version++)
        {
            await ledger.AppendAsync(Record(version));
            Assert.Equal(Record(version).Entry, ledger.Entries[^1]);
            AssertSame(Record(version), Assert.Single(await ledger.ReadAfterAsync(new(version - 1))));
        }
    }

    [Fact]
    public async Task AVersionOutOfOrder_IsNotAppended()
    {
        await using (var ledger = await OpenAsync())
        {
            await ledger.AppendAsync(Record(1));
            foreach (var version in new[] { 1, 3 })
                await Assert.ThrowsAsync<InvalidOperationException>(() => ledger.AppendAsync(Record(version)));
            Assert.Single(ledger.Entries);
        }
        await using var again = await OpenAsync();
        Assert.Single(again.Entries);
    }

    [Fact]
    public async Task SeveralRecords_AreThereTogether()
    {
        await using (var ledger = await OpenAsync())
        {
            await ledger.AppendAsync([Record(1), Record(2), Record(3)]);
            Assert.Equal([Record(1).Entry, Record(2).Entry, Record(3).Entry], ledger.Entries);
            Assert.Equal(2, (await ledger.ReadAfterAsync(new(1))).Count);
            foreach (var second in new[] { 4, 6 })
                await Assert.ThrowsAsync<InvalidOperationException>(() => ledger.AppendAsync([Record(4), Record(second)]));
            Assert.Equal(3, ledger.Entries.Count);
            await ledger.AppendAsync([Record(4), Record(5)]);
        }
        await using var again = await OpenAsync();
        foreach (var (i, record) in (await again.ReadAfterAsync(ModelVersion.Base)).Index())
            AssertSame(Record(i + 1), record);
        Assert.Equal(5, again.Entries.Count);
    }

    [Fact]
    public async Task AThousandRecords_AreReadInTheirOrder()
    {
        await AppendAsync(1000);
        await using var ledger = await OpenAsync();
        Assert.Equal(Enumerable.Range(1, 1000).Select(version => Record(version).Entry), ledger.Entries);
        foreach (var (record, i) in (await ledger.ReadAfterAsync(ModelVersion.Base)).Select((record, i) => (record, i)))
            AssertSame(Record(i + 1), record);
    }

    [Fact]
    public async Task AnyTextAndAnyNumber_ComeBackAsTheyWere()
    {
        var text = "\0 a\u0000b 'quoted' \"twice\" \\x41 ; drop table -- \r\n\t Ω 漢字 🙂 \uFFFD " + new string('é', 20_000);
        var entry = Record(1).Entry with
        {
            Prompt = text,
            Target = text + "1",
            Author = "",
            IdempotencyKey = text + "2",
            Time = new DateTimeOffset(2026, 1, 2, 3, 4, 5, TimeSpan.FromHours(2)).AddTicks(1)
        };
        var floats = Floats(2, 3, 0);
        var values = MemoryMarshal.AsMemory(floats.Bytes).Span;
        BitConverter.TryWriteBytes(values, float.NaN);
        BitConverter.TryWriteBytes(values[4..], float.NegativeInfinity);
        BitConverter.TryWriteBytes(values[8..], -0f);
        var record = new LedgerRecord(entry,
            [new("", floats, Floats(2, 100_000, 1), float.Epsilon), new("Ω", Floats(0, 3, 0), Floats(0, 2, 0), 0)]);
        await using (var ledger = await OpenAsync())
            await ledger.AppendAsync(record);
        await using var again = await OpenAsync();
        Assert.Equal(entry, Assert.Single(again.Entries));
        AssertSame(record, Assert.Single(await again.ReadAfterAsync(ModelVersion.Base)));
    }

    [Fact]
    public async Task ACancelledAppend_AppendsNothing()
    {
        await using var ledger = await OpenAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => ledger.AppendAsync(Record(1), new(canceled: true)));
        Assert.Empty(ledger.Entries);
        await ledger.AppendAsync(Record(1));
    }

    protected async Task AppendAsync(int records)
    {
        await using var ledger = await OpenAsync();
        for (var version = 1; version <= records; version++)
            await ledger.AppendAsync(Record(version));
    }

    internal static LedgerRecord Record(long version) => version % 3 == 0
        ? new(new(new(version), Time(version), LedgerKind.Revert, new(version - 1)), [])
        : new(new(new(version), Time(version), LedgerKind.Edit, new(version), $"prompt {version}", "Ωtarget", "author", $"key {version}",
            new(true, 0.25, 0.5, 4, 0.25, 0.125)),
            [new("w", Floats(2, 3, version), Floats(2, 2, -version), 0.5f * version)]);

    internal static void AssertSame(LedgerRecord expected, LedgerRecord found)
    {
        Assert.Equal(expected.Entry, found.Entry);
        Assert.Equal(expected.Changes.Count, found.Changes.Count);
        foreach (var (one, other) in expected.Changes.Zip(found.Changes))
        {
            Assert.Equal((one.Weight, one.Alpha), (other.Weight, other.Alpha));
            foreach (var (a, b) in new[] { (one.UTilde, other.UTilde), (one.DeltaTilde, other.DeltaTilde) })
            {
                Assert.Equal(a.Shape, b.Shape);
                Assert.Equal(a.Bytes.ToArray(), b.Bytes.ToArray());
            }
        }
    }

    private static DateTimeOffset Time(long version) => new DateTimeOffset(2026, 1, 2, 3, 4, 0, TimeSpan.Zero).AddSeconds(version);

    private static WireTensor Floats(long rows, long columns, float first)
    {
        var bytes = new byte[rows * columns * 4];
        for (var i = 0; i < rows * columns; i++)
            BitConverter.TryWriteBytes(bytes.AsSpan(4 * i), first + i);
        return new(DType.Float32, [rows, columns], bytes);
    }
}
