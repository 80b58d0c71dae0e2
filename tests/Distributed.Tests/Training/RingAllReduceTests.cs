using System.Collections.Concurrent;
using MendCluster.Contracts;
using MendCluster.Distributed.Training;
using MendCluster.Engine.Checkpoints;
using MendCluster.Engine.Data;

namespace MendCluster.Distributed.Tests.Training;

public class RingAllReduceTests
{
    public static TheoryData<int> Peers => [.. Enumerable.Range(1, 7)];

    [Theory]
    [MemberData(nameof(Peers))]
    public void Chunks_HoldEveryElementOnceAndAreEven(int peers)
    {
        foreach (var most in new[] { 1, 3, 64, 1000 })
            for (var length = 0; length <= 1000; length++)
            {
                var chunks = new Chunks(length, peers, most);
                long next = 0;
                for (long column = 0; column < chunks.Columns; column++)
                    for (var chunk = 0; chunk < peers; chunk++)
                    {
                        var (start, count) = chunks.Of(column, chunk);
                        Assert.Equal(next, start);
                        Assert.InRange(count, 0, most);
                        Assert.InRange(count, length / (chunks.Columns * peers), length / (chunks.Columns * peers) + 1);
                        next += count;
                    }
                Assert.Equal(length, next);
            }
    }

    /// <summary>
    /// What one sends in a step is what the next receives in it, and each chunk is added once by every peer but the one it begins at.
    /// </summary>
    [Theory]
    [MemberData(nameof(Peers))]
    public void Steps_AreTheSameOnBothSides(int peers)
    {
        var chunks = new Chunks(100, peers, 10);
        Assert.Equal(2 * (peers - 1), chunks.Steps);
        for (var rank = 0; rank < peers; rank++)
        {
            for (var step = 0; step < chunks.Steps; step++)
                Assert.Equal(chunks.Sent(rank, step), chunks.Received((rank + 1) % peers, step));
            Assert.Equal(peers - 1, Enumerable.Range(0, chunks.Steps).Where(chunks.Adds).Select(step => chunks.Received(rank, step))
                .Distinct().Count());
            if (peers > 1)
                Assert.Equal(chunks.Finished(rank), chunks.Received(rank, peers - 2));
        }
    }

    [Theory]
    [MemberData(nameof(Peers))]
    public async Task TheSum_IsKeptAndEqualEverywhere(int peers)
    {
        for (var length = 0; length <= 1000; length = length < 20 ? length + 1 : length + 97)
        {
            var given = Given(peers, length, whole: true);
            var sums = await ReduceAsync(given, bfloat16: false);
            for (var i = 0; i < length; i++)
                Assert.All(sums, sum => Assert.Equal(given.Sum(values => values[i]), sum[i]));
        }
    }

    [Theory]
    [InlineData(false, 1e-6)]
    [InlineData(true, 2e-2)] // a bfloat16 has 8 bits; each hop rounds once
    public async Task SumsOfAnyNumbers_AreEqualToTheBitAndTheSameTheNextTime(bool bfloat16, double tolerance)
    {
        var given = Given(5, 1003, whole: false);
        var sums = await ReduceAsync(given, bfloat16);
        Assert.All(sums, sum => Assert.Equal(sums[0], sum));
        Assert.Equal(sums[0], (await ReduceAsync(given, bfloat16))[3]);
        for (var i = 0; i < 1003; i++)
            Assert.Equal(given.Sum(values => (double)values[i]), sums[0][i], tolerance * given.Sum(values => Math.Abs(values[i])));
    }

    [Theory]
    [InlineData(1f, 0x3F80)]
    [InlineData(-2.5f, 0xC020)]
    [InlineData(1.00390625f, 0x3F80)] // half-way: to even
    [InlineData(1.01171875f, 0x3F82)]
    [InlineData(float.PositiveInfinity, 0x7F80)]
    [InlineData(float.MaxValue, 0x7F80)]
    [InlineData(0f, 0)]
    public void BFloat16_IsTheNearest(float value, int bits)
    {
        foreach (var length in new[] { 1, 7, 64, 77 }) // with and without whole vectors
        {
            var encoded = BFloat16.Encode(Enumerable.Repeat(value, length).ToArray());
            Assert.Equal(Enumerable.Repeat((ushort)bits, length).SelectMany(BitConverter.GetBytes), encoded);
            Assert.All(BFloat16.Decode(encoded), decoded => Assert.Equal(bits << 16, BitConverter.SingleToInt32Bits(decoded)));
        }
    }

    /// <summary>Chunks are sent in the type that was asked for, and no more columns are under way than memory was planned for.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Columns_WaitForThoseBeforeThem(bool bfloat16)
    {
        var type = bfloat16 ? DType.BFloat16 : DType.Float32;
        var (sent, arrives) = (new ConcurrentBag<WireTensor>(), new TaskCompletionSource());
        var sum = new RingAllReduce(0, 2, bfloat16, (_, _, chunk) =>
        {
            sent.Add(chunk);
            return Task.CompletedTask;
        }, async (_, _) =>
        {
            await arrives.Task;
            return new WireTensor(type, [1], new byte[type.ElementSize()]);
        }, maxElements: 1).RunAsync(new float[20]); // 10 columns of two chunks
        Assert.Equal(4, sent.Count);
        arrives.SetResult();
        await sum;
        Assert.Equal(20, sent.Count); // each column sends the chunk that it adds to and the one that is finished
        Assert.All(sent, chunk => Assert.Equal((type, type.ElementSize()), (chunk.Type, chunk.Bytes.Length)));
    }

    [Fact]
    public async Task AChunkOfAnotherSize_IsRefused()
    {
        var peer = new RingAllReduce(0, 2, false, (_, _, _) => Task.CompletedTask,
            (_, _) => Task.FromResult(new WireTensor(DType.Float32, [1], new byte[4])));
        Assert.Equal(MendError.InvalidOption, (await Assert.ThrowsAsync<MendException>(() => peer.RunAsync(new float[10]))).Error);
    }

    private static float[][] Given(int peers, int length, bool whole)
    {
        var rng = Prng.At(5, (ulong)(peers * 10_000 + length));
        return [.. Enumerable.Range(0, peers)
            .Select(_ => Enumerable.Range(0, length).Select(_ => whole ? rng.Next(1000) - 500 : rng.Next(1 << 20) / 1e5f - 5).ToArray())];
    }

    private static async Task<float[][]> ReduceAsync(float[][] given, bool bfloat16)
    {
        var peers = given.Length;
        var mail = given.Select(_ => new RingMail()).ToList();
        float[][] values = [.. given.Select(own => own.ToArray())];
        await Task.WhenAll(Enumerable.Range(0, peers).Select(rank => Task.Run(() => new RingAllReduce(rank, peers, bfloat16,
            (column, step, chunk) =>
            {
                mail[(rank + 1) % peers].Put(new(0, "g", column, step, chunk));
                return Task.CompletedTask;
            },
            (column, step) => mail[rank].TakeAsync("g", column, step, default), maxElements: 16).RunAsync(values[rank]))));
        return values;
    }
}
