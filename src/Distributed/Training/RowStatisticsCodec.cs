using MendCluster.Contracts;
using MendCluster.Engine.Editors;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Training;

/// <summary>Running statistics to messages and back.</summary>
internal static class RowStatisticsCodec
{
    public static RowStatistics Encode(string name, RunningStatistics u, RunningStatistics delta) => new(name, u.Count,
        WireTensorCodec.Encode(u.Mean), WireTensorCodec.Encode(u.Squares), WireTensorCodec.Encode(delta.Mean),
        WireTensorCodec.Encode(delta.Squares));

    public static void Set(EditorShape shape, RowStatistics statistics)
    {
        using var scope = NewDisposeScope();
        shape.U.Set(statistics.Count, WireTensorCodec.Decode(statistics.UMean), WireTensorCodec.Decode(statistics.USquares));
        shape.Delta.Set(statistics.Count, WireTensorCodec.Decode(statistics.DeltaMean), WireTensorCodec.Decode(statistics.DeltaSquares));
    }

    /// <summary>A shape's statistics after each of some edits, whose rows are taken in exactly and in the given order.</summary>
    /// <param name="edits">Of each edit: its rows at the shape's weights.</param>
    public static IReadOnlyList<RowStatistics> Merge(EditorShape shape, IEnumerable<IEnumerable<RowStatistics>> edits)
    {
        using var scope = NewDisposeScope();
        using var u = new RunningStatistics(shape.U.Count, shape.U.Mean, shape.U.Squares);
        using var delta = new RunningStatistics(shape.Delta.Count, shape.Delta.Mean, shape.Delta.Squares);
        List<RowStatistics> after = [];
        foreach (var rows in edits)
        {
            foreach (var added in rows)
            {
                u.Merge(added.Count, WireTensorCodec.Decode(added.UMean), WireTensorCodec.Decode(added.USquares));
                delta.Merge(added.Count, WireTensorCodec.Decode(added.DeltaMean), WireTensorCodec.Decode(added.DeltaSquares));
            }
            after.Add(Encode(shape.Key, u, delta));
        }
        return after;
    }
}
