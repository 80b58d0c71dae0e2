using MendCluster.Contracts;
using MendCluster.Engine.Models;
using MendCluster.Engine.Routing;
using MendCluster.Engine.Torch;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>An answer that waits for its next token on a stage.</summary>
/// <param name="Edits">In force where it is computed.</param>
internal sealed record WaitingAnswer(GenerateRequest Request, ShardSession Session, WeightUpdates Edits)
{
    public TokenBatch Tokens => Request.Trip.Tokens;

    /// <summary>That the decoder reads in this pass.</summary>
    public long OwnTokens => (Tokens.DecoderInputIds ?? Tokens.InputIds).Shape[1];

    /// <summary>Whether its prompt is read; otherwise it goes on.</summary>
    public bool Begins => Request.Position == 0;
}

/// <summary>
/// One pass of a stage for several answers, a row each. A product with many rows reads the weights once for all of them. Rows end together:
/// a decoder's shorter rows begin with padding, which no token sees; a source is padded behind. Each row's numbers are those that it has
/// alone but for the rounding of products, whose sums are taken in another order for another number of rows; a single row has exactly them.
/// On the compute thread.
/// </summary>
internal static class AnswerPass
{
    /// <summary>Answers that may share a pass: on the same edits, all at their prompts or all past them.</summary>
    /// <param name="answers">Each of another session.</param>
    public static IEnumerable<IReadOnlyList<WaitingAnswer>> Groups(IEnumerable<WaitingAnswer> answers) => answers
        .GroupBy(answer => (answer.Edits, answer.Begins, Tokens: answer.Begins ? 0 : answer.OwnTokens))
        .SelectMany(group => group.Key.Begins ? OfLikeLength(group) : [[.. group]]);

    /// <param name="answers">One of <see cref="Groups"/>.</param>
    /// <param name="epoch">Of the shard.</param>
    /// <returns>A reply for each.</returns>
    public static IEnumerable<(WaitingAnswer Answer, GenerateReply Reply)> Run(LoadedStage loaded, IReadOnlyList<WaitingAnswer> answers,
        long epoch)
    {
        using var _ = no_grad();
        var stage = loaded.Stage;
        // rows of one cache beside each other and in its order: where all are there, it is gone on with as it is
        List<WaitingAnswer> rows = answers[0].Begins ? [.. answers]
            : [.. answers.GroupBy(answer => answer.Session.Cache!.Cache).SelectMany(group => group.OrderBy(answer => answer.Session.Cache!.Index))];
        var cache = rows[0].Begins ? Begun(stage.Family, rows) : KeyValueCache.Of([.. rows.Select(row => row.Session.Cache!)]);
        foreach (var (row, own) in rows.Zip(cache.Rows))
            row.Session.Cache = own;
        var top = stage.Forward(loaded.Passes.Decode(Boundary(stage.Family, rows)),
            new ForwardContext(StagePasses.Input(Tokens(stage.Family, rows, cache)), rows[0].Edits, cache: cache));
        var replies = stage.Head is null ? Above(stage, rows, StagePasses.Encode(top)).Select(above => new GenerateReply(new(above, epoch)))
            : Picked(stage, rows, top).Select((token, row) => new GenerateReply(new(Contracts.Boundary.None, epoch), token,
                rows[row].Request.WantsState ? State(top, row, rows[row]) : null));
        return [.. rows.Zip(replies)];
    }

    private static List<int> Picked(Stage stage, IReadOnlyList<WaitingAnswer> rows, Activations top)
    {
        var T = top.Hidden!.shape[1];
        var logits = stage.Logits(top, NewTensor.Of([.. rows.Select((_, row) => row * T + T - 1)], rows.Count)); // [B, V]
        var likeliest = logits.argmax(1).Host().data<long>().ToArray();
        return [.. rows.Select((row, i) => row.Request.Sampling.Temperature <= 0 ? (int)likeliest[i]
            : (row.Session.Sampler ??= new(row.Request.Sampling)).Pick(logits.select(0, i)))];
    }

    /// <summary>Of a row at its prompt. [2 C] float32.</summary>
    private static WireTensor State(Activations top, int row, WaitingAnswer answer)
    {
        var (hidden, end) = (top.Hidden!.select(0, row), top.Hidden.shape[1]); // the row ends where all do
        var tokens = top.Memory is { } memory ? memory.select(0, row).narrow(0, 0, answer.Tokens.InputIds.Shape[1])
            : hidden.narrow(0, end - answer.OwnTokens, answer.OwnTokens);
        return WireTensorCodec.Encode(QuestionState.Of(tokens, hidden.select(0, end - 1)));
    }

    private static KeyValueCache Begun(ModelFamily family, IReadOnlyList<WaitingAnswer> rows)
    {
        var tokens = rows.Select(row => row.OwnTokens).ToList();
        return new([.. tokens.Select(own => EndTogether(family) ? tokens.Max() - own : 0)],
            [.. rows.Select(row => family.IsEncoderDecoder ? row.Tokens.InputIds.Shape[1] : 0)]);
    }

    private static TokenBatch Tokens(ModelFamily family, IReadOnlyList<WaitingAnswer> rows, KeyValueCache cache)
    {
        WireTensor? Of(Func<TokenBatch, WireTensor?> part) => WireRows.StackOrNull(rows.Select(row => part(row.Tokens)), EndTogether(family));
        var decoder = Of(tokens => tokens.DecoderInputIds);
        return new(Of(tokens => tokens.InputIds)!, Of(tokens => tokens.AttentionMask)!, decoder,
            decoder is null || cache.Padding.All(slots => slots == 0) ? null : Mask(cache.Padding, cache.Length + decoder.Shape[1]), null);
    }

    /// <summary>[B, S] int64: 0 before each row's first token.</summary>
    private static WireTensor Mask(IReadOnlyList<long> padding, long length)
    {
        using var scope = NewDisposeScope();
        return WireTensorCodec.Encode(NewTensor.Of([.. padding.SelectMany(slots => Enumerable.Range(0, (int)length)
            .Select(slot => slot < slots ? 0L : 1))], padding.Count, length));
    }

    private static Boundary Boundary(ModelFamily family, IReadOnlyList<WaitingAnswer> rows) =>
        new(WireRows.StackOrNull(rows.Select(row => row.Request.Trip.Below.Hidden), EndTogether(family)),
            WireRows.StackOrNull(rows.Select(row => row.Request.Trip.Below.Memory), atEnd: false));

    /// <summary>What a stage made, row by row and without the padding.</summary>
    private static IEnumerable<Boundary> Above(Stage stage, IReadOnlyList<WaitingAnswer> rows, Boundary made)
    {
        var atEnd = EndTogether(stage.Family);
        for (var i = 0; i < rows.Count; i++)
        {
            var source = rows[i].Tokens.InputIds.Shape[1];
            var tokens = stage.EndsInEncoder ? source : rows[i].OwnTokens;
            yield return new(made.Hidden is null ? null : WireRows.Row(made.Hidden, i, tokens, atEnd),
                made.Memory is null ? null : WireRows.Row(made.Memory, i, source, atEnd: false));
        }
    }

    /// <summary>Where a prompt is what the decoder reads first, its last token has to be in the last slot; a source may end before.</summary>
    private static bool EndTogether(ModelFamily family) => !family.IsEncoderDecoder && family.Labels is null;

    /// <summary>Prompts so that at most a third of what is computed is padding.</summary>
    private static IEnumerable<IReadOnlyList<WaitingAnswer>> OfLikeLength(IEnumerable<WaitingAnswer> answers)
    {
        var (group, tokens) = (new List<WaitingAnswer>(), 0L);
        foreach (var answer in answers.OrderBy(answer => answer.Tokens.InputIds.Shape[1]))
        {
            var own = answer.Tokens.InputIds.Shape[1];
            if (group.Count > 0 && 2 * own * (group.Count + 1) > 3 * (tokens + own))
            {
                yield return group;
                (group, tokens) = ([], 0);
            }
            group.Add(answer);
            tokens += own;
        }
        if (group.Count > 0)
            yield return group;
    }
}
