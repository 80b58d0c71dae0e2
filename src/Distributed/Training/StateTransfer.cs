using MendCluster.Contracts;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Training;

/// <summary>Carries the editor's state between the trainer's copy and the shards that own it, tensor by tensor in slices.</summary>
/// <param name="state">The trainer's copy of the whole editor.</param>
internal sealed class StateTransfer(EditorState state)
{
    /// <summary>Elements of a tensor that travel at once: a MiB.</summary>
    private const int SliceElements = 1 << 18;

    /// <summary>Brings the copy up to date from living owners. Statistics it has.</summary>
    public async Task<bool> CollectAsync(Attempt attempt)
    {
        foreach (var group in state.Parameters.Keys)
        {
            var (owner, stage) = attempt.Live.SelectMany(replica =>
                replica.Groups.Select((groups, stage) => (Groups: groups, Replica: replica, Stage: stage)))
                .Where(owner => owner.Groups.Contains(group)).Select(owner => (owner.Replica, owner.Stage)).First();
            foreach (var (name, value) in state.TensorsOf(group))
                foreach (var slice in Slices(name, value))
                    Write(value, slice, await owner.CallAsync(stage, shard => shard.ReadAsync(slice, attempt.Token), attempt.Token)
                        .ConfigureAwait(false));
            var mark = await owner.CallAsync(stage, shard => shard.MarkAsync(attempt.Token), attempt.Token).ConfigureAwait(false);
            state.Mark(mark.AdamSteps, mark.AverageSteps);
        }
        return true;
    }

    /// <summary>Gives a replica's shards the state of their groups.</summary>
    /// <param name="step">That comes next.</param>
    public async Task DistributeAsync(Replica replica, long step, CancellationToken cancellation)
    {
        var statistics = state.Mend.Shapes.Select(shape => RowStatisticsCodec.Encode(shape.Key, shape.U, shape.Delta)).ToList();
        var mark = new OptimizerProgress(step, state.Adam.Steps, state.Average?.Steps ?? 0, statistics);
        await Task.WhenAll(Enumerable.Range(0, replica.Stages).Select(async stage =>
        {
            foreach (var group in replica.Groups[stage])
                foreach (var (name, value) in state.TensorsOf(group))
                    foreach (var slice in Slices(name, value))
                    {
                        var values = Read(value, slice);
                        await replica.CallAsync(stage, shard => shard.WriteAsync(slice, values, cancellation), cancellation)
                            .ConfigureAwait(false);
                    }
            await replica.CallAsync(stage, shard => shard.RestoreAsync(mark, cancellation), cancellation).ConfigureAwait(false);
        })).ConfigureAwait(false);
    }

    private static IEnumerable<StateSlice> Slices(string name, Tensor value)
    {
        var length = value.numel();
        for (long offset = 0; offset < length; offset += SliceElements)
            yield return new(name, offset, (int)Math.Min(SliceElements, length - offset));
    }

    private static WireTensor Read(Tensor value, StateSlice slice)
    {
        using var scope = NewDisposeScope();
        return WireTensorCodec.Encode(value.detach().reshape(-1).narrow(0, slice.Offset, slice.Count));
    }

    private static void Write(Tensor value, StateSlice slice, WireTensor values)
    {
        using var _ = no_grad();
        using var scope = NewDisposeScope();
        value.detach().reshape(-1).narrow(0, slice.Offset, slice.Count).copy_(WireTensorCodec.Decode(values));
    }
}
