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

    private readonly Option<int> _consolidate = new Option<int>("--consolidate-every")
    {
        Description = "edits after which those of their scope are consolidated in the background; 0: only when asked (mend consolidate)",
        DefaultValueFactory = _ => 0
    }.Within(0);

    public IReadOnlyList<Option> All => [_batch, _group, _consolidate];

    public int BatchOf(ParseResult parsed) => parsed.GetValue(_batch);

    public int GroupOf(ParseResult parsed) => parsed.GetValue(_group);

    public int ConsolidateEvery(ParseResult parsed) => parsed.GetValue(_consolidate);
}
