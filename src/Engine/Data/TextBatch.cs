using MendCluster.Contracts;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Torch;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Data;

/// <summary>One row of a batch: what a model reads and what it is scored on.</summary>
/// <param name="Prompt">As text, for reports.</param>
/// <param name="Target">The scored part as text, for reports.</param>
/// <param name="DecoderIds">Of encoder-decoder models.</param>
/// <param name="Labels">As <see cref="LabelledInput.Labels"/>.</param>
public sealed record TokenRow(string Prompt, string Target, int[] Ids, int[]? DecoderIds, long[] Labels)
{
    /// <summary>Of an edit: what the KnowledgeEditor reads of it.</summary>
    public int[]? Condition { get; init; }
}

/// <summary>Text to token ids with labels, as each family reads it; padded on the right.</summary>
/// <param name="family">Decides where the target goes: after the prompt, to the decoder, or to the classes of a classifier.</param>
/// <param name="tokenizer">The model's.</param>
/// <param name="maxLength">Longer prompts and targets are cut to this many tokens.</param>
public sealed class TextBatch(ModelFamily family, ITokenizer tokenizer, int maxLength = 32)
{
    /// <summary>
    /// White space at the ends of a prompt, a target, a question or an answer is no part of it: in data, in training, in edits and in
    /// questions to the model alike. (Passages of the generation task are texts as they stand; theirs is kept.)
    /// </summary>
    public static string WithoutEnds(string text) => text.Trim();

    /// <summary>What the tokenizer puts around every text.</summary>
    private readonly IReadOnlyList<int> _frame = tokenizer.Encode("");

    /// <summary>A text's tokens.</summary>
    /// <exception cref="MendException">
    /// The tokenizer gives one that the model has no row for: the two belong to different models.
    /// </exception>
    public IReadOnlyList<int> Encode(string text)
    {
        var ids = tokenizer.Encode(text);
        foreach (var id in ids)
            if (id >= family.VocabularySize)
                throw Fault.Model("tokenizer", $"\"{tokenizer.TokenOf(id)}\"",
                    $"has id {id}, the model's embedding has {family.VocabularySize} rows; "
                    + "the tokenizer belongs to another model, or its new tokens were never added to this one");
        return ids;
    }

    /// <summary>Most tokens of a prompt and of a target.</summary>
    public int MaxLength { get; } = maxLength;

    /// <summary>Whether a text has tokens of its own.</summary>
    public bool HasTokens(IReadOnlyList<int> ids) => ids.Any(id => !family.EosIds.Contains(id) && !_frame.Contains(id));

    /// <param name="rows">Prompt and target, at least one.</param>
    /// <exception cref="MendException">A prompt or a target without tokens, or a target that is none of a classifier's labels.</exception>
    public LabelledInput Of(IReadOnlyList<(string Prompt, string Target)> rows) => Of([.. rows.Select(row => Row(row.Prompt, row.Target))]);

    /// <param name="rows">Of this model, at least one.</param>
    public LabelledInput Of(IReadOnlyList<TokenRow> rows)
    {
        int[][] ids = [.. rows.Select(row => row.Ids)];
        int[][]? decoder = rows[0].DecoderIds is null ? null : [.. rows.Select(row => row.DecoderIds!)];
        return new(new(Ids(ids), Mask(ids), decoder is null ? null : Ids(decoder), decoder is null ? null : Mask(decoder)),
            Padded([.. rows.Select(row => row.Labels)], ScoredPositions.Ignored))
        {
            Condition = rows is [{ Condition: { } condition }] ? Ids([condition]) : null,
        };
    }

    /// <summary>What a step or a measurement reads of a case.</summary>
    public EditBatch Of(EditRows rows) => new(Of([rows.Edit]), Of(rows.Rephrases), Of(rows.Locality));

    /// <summary>A prompt and its answer.</summary>
    /// <exception cref="MendException">A prompt or a target without tokens, or a target that is none of a classifier's labels.</exception>
    public TokenRow Row(string prompt, string target) => Row(prompt, Encode(WithoutEnds(prompt)), target, Written(target));

    /// <summary>The same of a text that is in tokens already.</summary>
    /// <param name="ids">Of the prompt.</param>
    /// <param name="written">Of the target, as <see cref="Written"/> makes them.</param>
    public TokenRow Row(string prompt, IReadOnlyList<int> ids, string target, IReadOnlyList<int> written)
    {
        (prompt, target) = (WithoutEnds(prompt), WithoutEnds(target));
        var read = Cut(ids, prompt, "prompt", prompt);
        if (family.Labels is not null)
        {
            var label = family.ClassOf(target)
                ?? throw Fault.Model("target", $"\"{target}\" of \"{prompt}\"",
                    $"is no label of this model; it has {string.Join(", ", family.Labels)}");
            return new(prompt, target, read, null, [label]);
        }
        var answer = Cut(written, target, "target", prompt);
        if (!family.IsEncoderDecoder)
            return new(prompt, target, [.. read, .. answer], null,
                [.. read.Select(_ => ScoredPositions.Ignored), .. answer.Select(id => (long)id)]);
        var given = family.DecoderPrefix;
        // Position t predicts label t, or label t + 1 in a family that shifts: there the labels stand at the decoder's own inputs.
        int[] decoder = [.. given, .. family.ShiftsLabels ? answer : answer[..^1]];
        var ignored = Enumerable.Repeat(ScoredPositions.Ignored, family.ShiftsLabels ? given.Count : given.Count - 1);
        return new(prompt, target, read, decoder, [.. ignored, .. answer.Select(id => (long)id)]);
    }

    /// <summary>
    /// A target's tokens as the model has to write them: after a space where it goes on from the prompt; where a decoder writes it, to the
    /// end of sequence and without what the tokenizer begins a text with. Empty for a classifier, which writes none.
    /// </summary>
    public IReadOnlyList<int> Written(string target)
    {
        target = WithoutEnds(target);
        if (family.Labels is not null)
            return [];
        if (!family.IsEncoderDecoder)
            return Encode(" " + target);
        var ids = Encode(target);
        return [.. ids.Skip(_frame.Count > 1 && ids[0] == _frame[0] ? 1 : 0)];
    }

    /// <summary>An edit with the text that the KnowledgeEditor reads of it: "old answer >> new answer || prompt".</summary>
    public TokenRow EditRow(EditExample edit) => Row(edit.Prompt, edit.Target) with
    {
        Condition = [.. Encode($"{edit.Prediction ?? edit.Answer} >> {edit.Target} || {edit.Prompt}")],
    };

    /// <summary>An edit with all its rephrases and all its locality questions.</summary>
    public EditRows Rows(EditExample edit) =>
        edit.Read(() => new EditRows(EditRow(edit), [.. edit.Rephrases.Select(rephrase => Row(rephrase, edit.Target))],
        [.. edit.Locality.Select(pair => Row(pair.Question, pair.Answer))], [.. edit.Wordings]));

    /// <summary>A text as a decoder-only model reads it, at most as long as the model allows.</summary>
    /// <param name="most">Tokens to keep.</param>
    /// <param name="fromEnd">Drops the beginning of a longer text; otherwise its end.</param>
    public int[] Tokens(string text, int most = int.MaxValue, bool fromEnd = false)
    {
        if (family.IsEncoderDecoder || family.Labels is not null)
            throw Fault.Model("model", family.Type,
                "writes no continuations of a text; this task needs a decoder-only model such as gpt2");
        var ids = Encode(text);
        most = (int)Math.Min(most, family.MaxPositions ?? int.MaxValue);
        return [.. fromEnd ? ids.TakeLast(most) : ids.Take(most)];
    }

    /// <summary>A passage that is scored on its last tokens.</summary>
    /// <param name="ids">At least <paramref name="scored"/>.</param>
    public TokenRow Passage(int[] ids, int scored) => new(tokenizer.Decode(ids[..^scored]), tokenizer.Decode(ids[^scored..]), ids, null,
        [.. ids.Select((id, i) => i < ids.Length - scored ? ScoredPositions.Ignored : id)]);

    /// <param name="row">Whose part the text is, for errors: its prompt.</param>
    private int[] Cut(IReadOnlyList<int> ids, string text, string what, string row) =>
        !HasTokens(ids) ? throw Fault.Model(what, $"\"{text}\"{(what == "prompt" ? "" : $" of \"{row}\"")}", "has no tokens")
        : ids.Count <= MaxLength ? [.. ids]
        : _frame.Count > 0 && ids[^1] == _frame[^1] ? [.. ids.Take(MaxLength - 1), ids[^1]]
        : [.. ids.Take(MaxLength)];

    private Tensor Ids(int[][] rows) => Padded([.. rows.Select(row => Array.ConvertAll(row, id => (long)id))], family.PadId);

    private static Tensor Mask(int[][] rows) => Padded([.. rows.Select(row => row.Select(_ => 1L).ToArray())], 0);

    private static Tensor Padded(long[][] rows, long pad)
    {
        var width = rows.Max(row => row.Length);
        var flat = new long[rows.Length * width];
        Array.Fill(flat, pad);
        for (var i = 0; i < rows.Length; i++)
            rows[i].CopyTo(flat, i * width);
        return NewTensor.Of(flat, rows.Length, width);
    }
}
