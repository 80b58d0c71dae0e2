using System.Runtime.InteropServices;
using MendCluster.Contracts;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Training;

/// <summary>
/// One shard's side of a round's sums: each group's gradient around the ring of its owners (<see cref="RingAllReduce"/>), all at once.
/// </summary>
/// <param name="place">Of the shard.</param>
/// <param name="round">Has the shard's gradients, which become the sums, and the mail of its neighbours.</param>
/// <param name="bfloat16">Gradients travel rounded to 16 bits.</param>
/// <param name="peers">Finds the other shards of the run.</param>
internal sealed class RingReduction(ShardPlace place, Round round, bool bfloat16, Func<ShardPlace, ITrainingShard> peers)
{
    /// <summary>Ends when this shard has every sum, or misses a neighbour.</summary>
    /// <param name="rings">Those that the shard is in.</param>
    public async Task<ReduceReply> RunAsync(IReadOnlyList<Ring> rings, CancellationToken cancellation)
    {
        try
        {
            return new(await Task.WhenAll(rings.Select(ring => RunAsync(ring, cancellation))).ConfigureAwait(false));
        }
        catch (NeighbourLostException e)
        {
            return new([], e.Place, e.Message);
        }
    }

    private async Task<GradientNorm> RunAsync(Ring ring, CancellationToken cancellation)
    {
        var sum = round.Sums.GetValueOrDefault(ring.Group)
            ?? throw new MendException(MendError.ShardLost, $"The training shard of {place} does not have the gradient of {ring.Group}.",
                "It was restarted in between; the step is repeated.");
        var rank = ring.Owners.ToList().IndexOf(place);
        var next = ring.Owners[(rank + 1) % ring.Owners.Count];
        var neighbour = peers(next);
        await new RingAllReduce(rank, ring.Owners.Count, bfloat16,
            async (column, step, values) =>
            {
                try
                {
                    await neighbour.PutAsync(new(round.Number, ring.Group, column, step, values), cancellation).ConfigureAwait(false);
                }
                catch (Exception e) when (e is not OperationCanceledException || !cancellation.IsCancellationRequested)
                {
                    throw new NeighbourLostException(next, e);
                }
            },
            (column, step) => round.Mail.TakeAsync(ring.Group, column, step, cancellation)).RunAsync(sum).ConfigureAwait(false);
        var squares = 0.0;
        foreach (var value in sum)
            squares += (double)value * value;
        return new(ring.Group, squares);
    }

    private sealed class NeighbourLostException(ShardPlace place, Exception inner) : Exception(inner.Message, inner)
    {
        public ShardPlace Place { get; } = place;
    }
}

/// <summary>The gradients of a group's parameters as one array, for the ring.</summary>
internal static class FlatGradient
{
    /// <summary>One after another; zeros where there is none.</summary>
    public static float[] Join(IReadOnlyList<(string Name, Tensor Value)> parameters, IReadOnlyDictionary<string, Tensor> gradients)
    {
        var flat = new float[parameters.Sum(parameter => parameter.Value.numel())];
        var start = 0;
        foreach (var (name, value) in parameters)
        {
            if (gradients.TryGetValue(name, out var gradient))
                MemoryMarshal.Cast<byte, float>(gradient.contiguous().Host().bytes).CopyTo(flat.AsSpan(start));
            start += (int)value.numel();
        }
        return flat;
    }

    /// <summary>Each parameter's gradient, on its device.</summary>
    public static IEnumerable<(string Name, Tensor Value)> Split(IReadOnlyList<(string Name, Tensor Value)> parameters, float[] flat,
        double scale)
    {
        var start = 0;
        foreach (var (name, value) in parameters)
        {
            var part = empty(value.shape, ScalarType.Float32, CPU);
            var count = (int)value.numel();
            MemoryMarshal.AsBytes(flat.AsSpan(start, count)).CopyTo(part.bytes);
            start += count;
            part = part.On(value.device);
            yield return (name, scale == 1 ? part : part.Mul_(scale));
        }
    }
}
