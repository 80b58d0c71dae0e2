using System.CommandLine;
using MendCluster.Distributed.Editing;

namespace MendCluster.Cli;

/// <summary>What a model that many use is to do by itself: carry requests out together, and consolidate edits.</summary>
internal sealed class AtOnceOptions
{
    private readonly Option<int> _batch = new Option<int>("--max-batch")
    {
        Description = "answers that a stage computes together at most; 1: each alone, to the bits that it has alone",
        DefaultValueFactory = _ => ShardOptions.DefaultMaxBatch
    }.Within(1);

    private readonly Option<int> _group = new Option<int>("--max-group")
    {
        Description = "edits that wait at once and are made together at most; 1: each alone",
        DefaultValueFactory = _ => EditCoordinator.DefaultMaxGroup
    }.Within(1);

    private readonly Option<int> _every = new Option<int>("--consolidate-every")
    {
        Description = "edits after which those of their scope are consolidated in the background; 0: only when asked (mend consolidate)",
        DefaultValueFactory = _ => 0
    }.Within(0);

    private readonly Option<long> _rank = new Option<long>("--consolidate-at-rank")
    {
        Description = "the same once the edits since the last consolidation have so many rows together; 0: whatever they have",
        DefaultValueFactory = _ => 0
    }.Within(0);

    private readonly Option<double?> _drawdown = new Option<double?>("--consolidate-at-drawdown")
    {
        Description = "the same once all edits together cost more than this fraction of the probes that the base model answers"
    }.Within(0, 1);

    public IReadOnlyList<Option> All => [_batch, _group, _every, _rank, _drawdown];

    public int BatchOf(ParseResult parsed) => parsed.GetValue(_batch);

    public int GroupOf(ParseResult parsed) => parsed.GetValue(_group);

    public ConsolidationTriggers TriggersOf(ParseResult parsed) =>
        new(parsed.GetValue(_every), parsed.GetValue(_rank), parsed.GetValue(_drawdown));
}
