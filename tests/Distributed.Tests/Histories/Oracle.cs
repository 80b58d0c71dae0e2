using MendCluster.Contracts;
using MendCluster.Distributed.Editing;
using MendCluster.Testing;

namespace MendCluster.Distributed.Tests.Histories;

/// <summary>Knows what a model with given edits answers, from the base weights alone and with no fault in between.</summary>
internal sealed class Oracle : IAsyncDisposable
{
    private readonly ModelText _text;
    private readonly IReadOnlyList<IModelShard> _shards;

    private Oracle(ModelText text, IReadOnlyList<IModelShard> shards) => (_text, _shards) = (text, shards);

    public static async Task<Oracle> OpenAsync(ClusterOfTinyModel model)
    {
        List<IModelShard> shards =
            [.. Enumerable.Range(0, FaultyCluster.Stages)
            .Select(stage => new ModelShard(new(model.Model, model.Editor, stage, FaultyCluster.Stages), TimeProvider.System))];
        foreach (var shard in shards)
            await shard.LoadAsync();
        return new(ModelText.Open(model.Model).Text, shards);
    }

    /// <summary>What is computed with after some records, as if all of it were edits, each with its changes as they are then.</summary>
    public static IReadOnlyList<LedgerRecord> InForce(IEnumerable<LedgerRecord> records)
    {
        List<LedgerRecord> active = [], consolidations = [];
        foreach (var record in records)
        {
            if (record.Entry.Kind == LedgerKind.Edit)
                active.Add(record);
            else if (record.Entry.Kind == LedgerKind.Consolidate)
                consolidations.Add(record);
            else
            {
                active = [.. active.Where(edit => edit.Entry.Edit != record.Entry.Edit).Select(edit =>
                    record.Changes.Where(change => change.Replaces == edit.Entry.Edit).ToList() is { Count: > 0 } anew
                    ? edit with { Changes = anew } : edit)];
                consolidations.RemoveAll(other => other.Entry.Edit == record.Entry.Edit || other.Entry.Consolidated!.Edits.Any(edit =>
                    edit == record.Entry.Edit || record.Changes.Any(change => change.Replaces == edit)));
            }
        }
        foreach (var record in consolidations.AsEnumerable().Reverse())
        {
            var members = active.Where(edit => record.Entry.Consolidated!.Edits.Contains(edit.Entry.Edit)).ToList();
            if (members.Count < record.Entry.Consolidated!.Edits.Count)
                continue; // a newer one stands for some of them
            active[active.IndexOf(members[0])] = record with { Entry = record.Entry with { Kind = LedgerKind.Edit } };
            active.RemoveAll(members.Contains);
        }
        return active;
    }

    /// <summary>
    /// Of routed edits, the one that is seen by a question in the same words, as if it were none: the newest, and of its scope before one
    /// for everybody. The routers of tiny models know nothing of other words.
    /// </summary>
    public static IReadOnlyList<LedgerRecord> Routed(IReadOnlyList<LedgerRecord> inForce, string prompt, string? scope) =>
        [.. inForce.Where(edit => edit.Entry.Prompt == prompt && (edit.Entry.Scope is null || edit.Entry.Scope == scope))
            .OrderBy(edit => edit.Entry.Scope is not null).ThenBy(edit => edit.Entry.Edit.Value).TakeLast(1)
            .Select(edit => edit with { Entry = edit.Entry with { Route = null } })];

    public async Task<string> AnswerAsync(IReadOnlyList<LedgerRecord> edits, string prompt, AskOptions options)
    {
        var generation = _text.Generation(prompt, options);
        foreach (var shard in _shards)
            await shard.BranchAsync(new(1, ModelVersion.Base, true, [], edits));
        long position = 0;
        while (!generation.IsDone)
        {
            var tokens = ModelText.Next(generation);
            GenerateReply reply = new(new(Boundary.None, 0));
            foreach (var shard in _shards)
                reply = await shard.GenerateAsync(new(new(1, ModelVersion.Base, tokens, reply.Result.Above, options.Scope, edits.Count),
                    position, options));
            generation.Take(reply.NextToken!.Value);
            position += tokens.InputIds.Shape[1];
        }
        foreach (var shard in _shards)
            await shard.EndAsync(1);
        return _text.Decode(generation.Tokens);
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var shard in _shards)
            await shard.DisposeAsync();
    }
}
