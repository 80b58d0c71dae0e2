using System.Collections.Concurrent;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using MendCluster.Contracts;
using MendCluster.Distributed.Telemetry;

namespace MendCluster.Distributed.Training;

/// <summary>
/// Sums arrays of equal length over the peers of a ring; at the end every peer has the sum, to the last bit the same.
///
/// Each peer sends to the next one and to no other. In the first half (reduce-scatter) a chunk goes once around and every peer adds its
/// own numbers on the way; the peer where it ends has its sum. In the second half (all-gather) the sums go around and are copied. So
/// every peer sends and receives 2 (P - 1) / P of the array, whatever the number of peers, and no machine carries the sum of
/// all traffic (Patarasuk and Yuan, 2009; in Baidu's ring-allreduce for neural networks).
///
/// Equal bits: a chunk is summed along one path in one order, and what the others have are copies of it. Floating-point addition is not
/// associative, so another number or order of peers gives other last bits; the same peers in the same order always give the same.
/// With bfloat16 on the wire the partial sums are rounded at every hop and the finished sum once more, at its own peer too.
///
/// Columns are independent; a few are under way at once, so that a chunk is added while another travels. A peer can not run ahead: to
/// send it needs what it received the step before. What is sent is put down at the neighbour and waited for there (<see cref="RingMail"/>);
/// no call waits inside another.
///
/// A peer that is lost: the one before it cannot send and says whom it missed; those after it wait until they are told to stop. The array
/// is then worth nothing, and the step that it belongs to is repeated without that peer.
/// </summary>
/// <param name="rank">Of this peer in the ring.</param>
/// <param name="send">To the next peer.</param>
/// <param name="receive">What the peer before sent for a column and step.</param>
public sealed class RingAllReduce(
    int rank, int peers, bool bfloat16, Func<long, int, WireTensor, Task> send, Func<long, int, Task<WireTensor>> receive,
    int maxElements = RingAllReduce.MaxElements)
{
    /// <summary>
    /// Of a chunk: a message of 64 KiB. Larger arrays are collected with the oldest generation only, which costs more than the calls.
    /// </summary>
    public const int MaxElements = 1 << 14;

    private const int ColumnsUnderWay = 4;

    /// <summary>Sums in place.</summary>
    public async Task RunAsync(float[] values)
    {
        var chunks = new Chunks(values.Length, peers, maxElements);
        if (chunks.Steps == 0)
            return;
        using var places = new SemaphoreSlim(ColumnsUnderWay);
        var columns = new List<Task>();
        for (long column = 0; column < chunks.Columns && !columns.Any(task => task.IsFaulted); column++)
        {
            await places.WaitAsync().ConfigureAwait(false);
            columns.RemoveAll(task => task.IsCompletedSuccessfully);
            columns.Add(ColumnAsync(values, chunks, column, places));
        }
        await Task.WhenAll(columns).ConfigureAwait(false);
    }

    private async Task ColumnAsync(float[] values, Chunks chunks, long column, SemaphoreSlim places)
    {
        try
        {
            for (var step = 0; step < chunks.Steps; step++)
            {
                var outgoing = Part(values, chunks.Of(column, chunks.Sent(rank, step)));
                if (outgoing.Length > 0)
                {
                    var sent = Encode(outgoing.Span);
                    MendMetrics.Sent(sent.Bytes.Length);
                    await send(column, step, sent).ConfigureAwait(false);
                }
                var incoming = Part(values, chunks.Of(column, chunks.Received(rank, step)));
                if (incoming.Length > 0)
                    Take(await receive(column, step).ConfigureAwait(false), incoming.Span, chunks.Adds(step));
                if (bfloat16 && step == peers - 2) // the sum is finished here: the others will have it rounded
                    Round(Part(values, chunks.Of(column, chunks.Finished(rank))).Span);
            }
        }
        finally
        {
            places.Release();
        }
    }

    private static Memory<float> Part(float[] values, (long Start, int Count) chunk) => values.AsMemory((int)chunk.Start, chunk.Count);

    private WireTensor Encode(ReadOnlySpan<float> values) => bfloat16
        ? new(DType.BFloat16, [values.Length], BFloat16.Encode(values))
        : new(DType.Float32, [values.Length], MemoryMarshal.AsBytes(values).ToArray());

    private static void Take(WireTensor wire, Span<float> into, bool adds)
    {
        ReadOnlySpan<float> arrived = wire.Type switch
        {
            DType.BFloat16 when wire.Bytes.Length == 2L * into.Length => BFloat16.Decode(wire.Bytes.Span),
            DType.Float32 when wire.Bytes.Length == 4L * into.Length => MemoryMarshal.Cast<byte, float>(wire.Bytes.Span),
            _ => throw new MendException(MendError.InvalidOption,
                $"A chunk of {into.Length} numbers arrived as {wire.Bytes.Length} bytes of {wire.Type}.",
                "All shards must be of the same version."),
        };
        if (adds)
            Add(arrived, into);
        else
            arrived.CopyTo(into);
    }

    private static void Round(Span<float> values) => BFloat16.Decode(BFloat16.Encode(values)).CopyTo(values);

    private static void Add(ReadOnlySpan<float> values, Span<float> into)
    {
        var left = MemoryMarshal.Cast<float, Vector<float>>(into);
        var right = MemoryMarshal.Cast<float, Vector<float>>(values);
        for (var i = 0; i < left.Length; i++)
            left[i] += right[i];
        for (var i = left.Length * Vector<float>.Count; i < into.Length; i++)
            into[i] += values[i];
    }
}

/// <summary>The upper half of a float32, rounded to the nearest, ties to even. Infinity stays; NaN must not come.</summary>
internal static class BFloat16
{
    // a run calls it seldom, on much: it must not wait to be found worth compiling well
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static byte[] Encode(ReadOnlySpan<float> values)
    {
        var bytes = new byte[2 * values.Length];
        var halves = MemoryMarshal.Cast<byte, ushort>(bytes.AsSpan());
        var bits = MemoryMarshal.Cast<float, uint>(values);
        var (both, i) = (2 * Vector<uint>.Count, 0);
        for (; i + both <= bits.Length; i += both)
            Vector.Narrow(Upper(new(bits[i..])), Upper(new(bits[(i + Vector<uint>.Count)..]))).CopyTo(halves[i..]);
        for (; i < halves.Length; i++)
            halves[i] = (ushort)((bits[i] + 0x7FFF + (bits[i] >> 16 & 1)) >> 16);
        return bytes;

        static Vector<uint> Upper(Vector<uint> bits) => (bits + new Vector<uint>(0x7FFF) + (bits >>> 16 & Vector<uint>.One)) >>> 16;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static float[] Decode(ReadOnlySpan<byte> bytes)
    {
        var halves = MemoryMarshal.Cast<byte, ushort>(bytes);
        var values = new float[halves.Length];
        var bits = MemoryMarshal.Cast<float, uint>(values.AsSpan());
        var i = 0;
        for (; i + Vector<ushort>.Count <= halves.Length; i += Vector<ushort>.Count)
        {
            Vector.Widen(new Vector<ushort>(halves[i..]), out var low, out var high);
            (low << 16).CopyTo(bits[i..]);
            (high << 16).CopyTo(bits[(i + Vector<uint>.Count)..]);
        }
        for (; i < bits.Length; i++)
            bits[i] = (uint)halves[i] << 16;
        return values;
    }
}

/// <summary>Where the peer before puts chunks down until this one takes them. They may come in either order.</summary>
public sealed class RingMail
{
    private readonly ConcurrentDictionary<(string Group, long Column, int Step), TaskCompletionSource<WireTensor>> _places = new();

    public void Put(RingChunk chunk) => Place(chunk.Group, chunk.Column, chunk.Step).TrySetResult(chunk.Values);

    public async Task<WireTensor> TakeAsync(string group, long column, int step, CancellationToken cancellation)
    {
        var values = await Place(group, column, step).Task.WaitAsync(cancellation).ConfigureAwait(false);
        _places.TryRemove((group, column, step), out _);
        return values;
    }

    private TaskCompletionSource<WireTensor> Place(string group, long column, int step) =>
        _places.GetOrAdd((group, column, step), _ => new(TaskCreationOptions.RunContinuationsAsynchronously));
}
