using System.CommandLine;
using MendCluster.Distributed.Editing;

namespace MendCluster.Cli;

/// <summary>How many requests of a model that many ask at once are carried out together.</summary>
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

    public IReadOnlyList<Option> All => [_batch, _group];

    public int BatchOf(ParseResult parsed) => parsed.GetValue(_batch);

    public int GroupOf(ParseResult parsed) => parsed.GetValue(_group);
}
