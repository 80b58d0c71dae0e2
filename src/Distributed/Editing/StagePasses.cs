using MendCluster.Contracts;
using MendCluster.Engine.Models;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// Trips through one stage, from what the wire brings to what it takes away: the same for an edit and for training. On the compute thread.
/// B examples, T tokens, C hidden, N scored rows, V vocabulary.
/// </summary>
internal sealed class StagePasses(Stage stage)
{
    /// <summary>What a pass reads of a batch.</summary>
    public static ModelInput Input(TokenBatch tokens) =>
        new(WireTensorCodec.Decode(tokens.InputIds), WireTensorCodec.Decode(tokens.AttentionMask),
        WireTensorCodec.DecodeOrNull(tokens.DecoderInputIds), WireTensorCodec.DecodeOrNull(tokens.DecoderAttentionMask));

    /// <summary>The same with its labels.</summary>
    public static LabelledInput Labelled(TokenBatch tokens) => new(Input(tokens), WireTensorCodec.Decode(tokens.Labels!));

    /// <summary>Some examples of a batch.</summary>
    /// <param name="rows">[N] int64, on the host.</param>
    public static TokenBatch Rows(TokenBatch tokens, Tensor rows)
    {
        WireTensor? Of(WireTensor? part) => part is null ? null : WireTensorCodec.Encode(WireTensorCodec.Decode(part).index_select(0, rows));
        return new(Of(tokens.InputIds)!, Of(tokens.AttentionMask)!, Of(tokens.DecoderInputIds), Of(tokens.DecoderAttentionMask),
            Of(tokens.Labels));
    }

    /// <inheritdoc cref="Rows(TokenBatch, Tensor)"/>
    public static Activations Rows(Activations activations, Tensor rows)
    {
        Tensor? Of(Tensor? part) => part?.index_select(0, rows.On(part.device));
        return new(Of(activations.Hidden), Of(activations.Memory));
    }

    /// <summary>A batch as it travels.</summary>
    public static TokenBatch Encode(LabelledInput batch) =>
        new(WireTensorCodec.Encode(batch.Input.InputIds), WireTensorCodec.Encode(batch.Input.AttentionMask),
        WireTensorCodec.EncodeOrNull(batch.Input.DecoderInputIds), WireTensorCodec.EncodeOrNull(batch.Input.DecoderAttentionMask),
            WireTensorCodec.Encode(batch.Labels));

    /// <summary>A boundary [B, T, C] as tensors of the stage's device.</summary>
    /// <param name="requiresGradient">Whether the stage below will be asked for the rest of the gradient.</param>
    public Activations Decode(Boundary boundary, bool requiresGradient = false)
    {
        Tensor? Of(WireTensor? wire) => wire is null ? null : WireTensorCodec.Decode(wire, stage.Device).requires_grad_(requiresGradient);
        return new(Of(boundary.Hidden), Of(boundary.Memory));
    }

    public static Boundary Encode(Activations activations) =>
        new(WireTensorCodec.EncodeOrNull(activations.Hidden), WireTensorCodec.EncodeOrNull(activations.Memory));

    /// <summary>The forward half of an edit's own pass, with a graph from the lowest place that the backward half has to reach.</summary>
    /// <param name="needsInputGradient">Whether a stage below has editable weights.</param>
    /// <param name="edits">In force; null: none.</param>
    /// <param name="replay">What the last stage is held against in the place of the labels; null: the labels.</param>
    /// <param name="belowHighest">It begins at the highest editable layer, with this; null: with the boundary.</param>
    public RecordedPass Record(TokenBatch tokens, Boundary boundary, bool needsInputGradient, WeightUpdates? edits = null,
        ReplayLoss? replay = null, Activations? belowHighest = null)
    {
        var keeps = needsInputGradient || stage.HasEditable;
        var (below, recording) = (Decode(boundary, needsInputGradient), new Recording());
        var pass = new ForwardContext(Input(tokens), edits, recording);
        var frozen = belowHighest;
        if (frozen is null)
            using (set_grad_enabled(needsInputGradient))
                frozen = stage.ForwardFrozen(below, pass);
        using var _ = set_grad_enabled(keeps);
        var top = belowHighest is null ? stage.ForwardEditable(frozen, pass) : stage.ForwardFromHighest(frozen, pass);
        if (stage.Head is null)
            return new(below, frozen, top, recording, keeps, null, null, null);
        var scored = Scored(tokens);
        if (replay is not null)
        {
            var (all, ofLabels) = EveryLogit(top, pass.Input, scored);
            return new(below, frozen, top, recording, keeps, replay.Of(all, scored.BatchSize), ofLabels, scored);
        }
        var logits = stage.Logits(top, scored.Rows); // [N, V]
        return new(below, frozen, top, recording, keeps, Losses.SummedNll(logits, scored), logits, scored);
    }

    /// <summary>The logits at all positions that locality is measured on, [M, V], and those of the labelled ones among them, [N, V].</summary>
    public (Tensor All, Tensor OfLabels) EveryLogit(Activations top, ModelInput input, ScoredPositions scored)
    {
        var rows = Losses.LocalityRows(input, stage.Family);
        var logits = stage.Logits(top, rows);
        var places = scored.Among(rows, top.Hidden!.shape[0] * top.Hidden.shape[1]);
        return (logits, logits.index_select(0, places.On(logits.device)));
    }

    /// <summary>What editable layers were given at the positions that locality is measured on. [M, m] each, by weight.</summary>
    public IEnumerable<(string Weight, Tensor u)> Inputs(Recording recording, ModelInput input)
    {
        var rows = Losses.LocalityRows(input, stage.Family).On(stage.Device);
        return recording.Inputs.Select(kept => (kept.Weight, kept.u.reshape(-1, kept.u.shape[^1]).index_select(0, rows)));
    }

    /// <summary>The labelled positions of a batch.</summary>
    public ScoredPositions Scored(TokenBatch tokens) =>
        ScoredPositions.Of(WireTensorCodec.Decode(tokens.Labels!), stage.Family.ShiftsLabels);

    /// <summary>How well the labels of each example are predicted.</summary>
    /// <param name="logits">[N, V], of the labelled rows.</param>
    public static List<ExampleScore> Scores(Tensor logits, ScoredPositions labels)
    {
        var targets = labels.Targets.On(logits.device); // [N]
        var numbers = Devices.Numbers(logits.argmax(1).eq(targets).to_type(ScalarType.Float32),
            logits.log_softmax(-1).gather(1, targets.unsqueeze(1)).squeeze(1));
        var (right, logProbabilities) = (numbers[..(numbers.Length / 2)], numbers[(numbers.Length / 2)..]);
        var rows = labels.Sequences.Host().data<long>().ToArray().Select((sequence, row) => (sequence, row))
            .ToLookup(entry => entry.sequence, entry => entry.row);
        return [.. Enumerable.Range(0, (int)labels.BatchSize).Select(i =>
            new ExampleScore(rows[i].All(row => right[row] == 1), rows[i].Any() ? rows[i].Average(row => (double)logProbabilities[row])
            : 0))];
    }
}

/// <summary>A pass is to say what another said.</summary>
/// <param name="Reference">Logits of the other pass, on the last stage; null on the others. [M, V].</param>
internal sealed record ReplayLoss(Tensor? Reference, double Weight)
{
    /// <param name="logits">[M, V].</param>
    /// <param name="examples">Of the batch: the loss is summed over them, as that of labels is.</param>
    public Tensor Of(Tensor logits, long examples) => Losses.LocalityKl(Reference!, logits).Times(Weight * examples);
}

/// <summary>The forward half of an edit's own pass on one stage.</summary>
/// <param name="Below">What the stage was given.</param>
/// <param name="Frozen">What is below its lowest editable layer.</param>
/// <param name="Top">What it gives to the one above.</param>
/// <param name="Recording">u and z of its editable layers.</param>
/// <param name="Keeps">Whether there is a graph: this stage or one below has editable weights.</param>
/// <param name="Loss">On the last stage. [].</param>
/// <param name="Logits">On the last stage, of <paramref name="Scored"/>. [N, V].</param>
internal sealed record RecordedPass(
    Activations Below, Activations Frozen, Activations Top, Recording Recording, bool Keeps, Tensor? Loss, Tensor? Logits,
    ScoredPositions? Scored)
{
    /// <summary>The graph that waits for the backward half, with all that it needs.</summary>
    public StageGraph Graph()
    {
        var graph = new StageGraph([(Below, Top)], Loss);
        graph.Own(Recording.Tensors);
        return graph;
    }
}
