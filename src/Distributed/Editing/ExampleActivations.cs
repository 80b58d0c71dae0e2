using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// What lies below a layer, of many examples, each by its number and without its padding; in host memory, of which there is more. On the
/// compute thread. B examples, T tokens of the layer's stack, S source tokens, C hidden.
/// </summary>
internal sealed class ExampleActivations : IDisposable
{
    private readonly Dictionary<int, Activations> _examples = [];

    /// <param name="examples">Their numbers. Of one that is kept already the first stays.</param>
    /// <param name="below">[B, T, C], and [B, S, C] or none.</param>
    /// <param name="input">Says what is padding.</param>
    public void Keep(IReadOnlyList<int> examples, Activations below, ModelInput input)
    {
        var source = Lengths(input.AttentionMask);
        var own = below.Memory is null ? source : input.DecoderAttentionMask is { } mask ? Lengths(mask)
            : [.. source.Select(_ => below.Hidden!.shape[1])];
        foreach (var (i, example) in examples.Index())
            if (!_examples.ContainsKey(example))
                _examples[example] = new(Row(below.Hidden, i, own[i]), Row(below.Memory, i, source[i]));

        static long[] Lengths(Tensor mask) => mask.sum(1).Host().data<long>().ToArray();
        static Tensor? Row(Tensor? all, int i, long length) =>
            all?.select(0, i).narrow(0, 0, length).On(CPU).clone().DetachFromDisposeScope();
    }

    /// <returns>A batch, padded to the longest. Null: one is not kept.</returns>
    public Activations? Of(IReadOnlyList<int> examples, Device device)
    {
        List<Activations?> found = [.. examples.Select(_examples.GetValueOrDefault)];
        return found.Contains(null) ? null
            : new(Batch([.. found.Select(example => example!.Hidden)]), Batch([.. found.Select(example => example!.Memory)]));

        Tensor? Batch(IReadOnlyList<Tensor?> rows)
        {
            if (rows[0] is null)
                return null;
            using var _ = no_grad();
            var batch = zeros([rows.Count, rows.Max(row => row!.shape[0]), rows[0]!.shape[1]], device: CPU);
            foreach (var (i, row) in rows.Index())
                batch.select(0, i).narrow(0, 0, row!.shape[0]).copy_(row);
            return batch.On(device);
        }
    }

    public void Dispose()
    {
        foreach (var example in _examples.Values)
        {
            example.Hidden?.Dispose();
            example.Memory?.Dispose();
        }
        _examples.Clear();
    }
}
