using static TorchSharp.torch;

namespace MendCluster.Engine;

/// <summary>
/// The updates of many edits of one weight, in their order, as one.
///
/// As many first updates as have m n / (m + n) rows together, where factors begin to be larger than the weight itself, are a block: its dense
/// [n, m] product is added up with those of the blocks before it. What is left over is kept as factors. So however many edits there are, they
/// cost a pass at most twice what the weight itself does, and one more edit costs its own rows.
///
/// Where blocks end and in which order they are added follows from the list of updates alone: two stacks of the same list have the same bits,
/// whether one was made from an earlier stack or not.
/// </summary>
public sealed record UpdateStack : WeightUpdate
{
    private readonly IReadOnlyList<LowRankUpdate> _summed;
    private readonly Tensor? _sum; // [n, m]
    private readonly LowRankUpdate? _rest;

    private UpdateStack(IReadOnlyList<LowRankUpdate> summed, Tensor? sum, LowRankUpdate? rest) => (_summed, _sum, _rest) = (summed, sum, rest);

    /// <param name="updates">At least one; all of the same m and n.</param>
    /// <param name="earlier">Saves adding up its blocks again when the list begins with the same updates as its own.</param>
    public static UpdateStack Of(IReadOnlyList<LowRankUpdate> updates, UpdateStack? earlier = null)
    {
        var (m, n) = (updates[0].uTilde.shape[1], updates[0].deltaTilde.shape[1]);
        var isContinued = earlier is not null && earlier._summed.Count <= updates.Count && !earlier._summed.Where((update, i) => !ReferenceEquals(update, updates[i])).Any();
        var (sum, summed) = isContinued ? (earlier!._sum, earlier._summed.Count) : (null, 0);
        var (first, rows) = (summed, 0L);
        for (var i = first; i < updates.Count; i++)
        {
            rows += updates[i].Rank;
            if (rows * (m + n) < m * n)
                continue;
            var block = LowRankUpdate.Stack([.. updates.Skip(summed).Take(i + 1 - summed)]).ToDense();
            (sum, summed, rows) = (sum is null ? block : sum + block, i + 1, 0);
        }
        return new([.. updates.Take(summed)], sum, summed == updates.Count ? null : LowRankUpdate.Stack([.. updates.Skip(summed)]));
    }

    /// <inheritdoc />
    public override Tensor Of(Tensor x)
    {
        if (_sum is null)
            return _rest!.Of(x);
        var taken = -nn.functional.linear(x, _sum);
        return _rest is null ? taken : taken + _rest.Of(x);
    }

    /// <summary>The same with every tensor replaced, for whoever keeps it beyond a dispose scope.</summary>
    public UpdateStack With(Func<Tensor, Tensor> replaced) => new(_summed, _sum is null ? null : replaced(_sum),
        _rest is null ? null : new(replaced(_rest.uTilde), replaced(_rest.deltaTilde), replaced(_rest.alpha)));
}
