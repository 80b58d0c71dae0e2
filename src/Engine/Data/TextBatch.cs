using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Data;

/// <summary>Text to token ids with labels, as each family reads it; padded on the right.</summary>
/// <param name="family">Decides where the target goes: after the prompt, to the decoder, or to the classes of a classifier.</param>
/// <param name="tokenizer">The model's.</param>
/// <param name="maxLength">Longer prompts and targets are cut to this many tokens.</param>
public sealed class TextBatch(ModelFamily family, ITokenizer tokenizer, int maxLength = 32)
{
    /// <summary>What the tokenizer puts around every text.</summary>
    private readonly IReadOnlyList<int> _frame = tokenizer.Encode("");

    /// <summary>Whether a text has tokens of its own.</summary>
    public bool HasTokens(IReadOnlyList<int> ids) => ids.Any(id => id != family.EosId && !_frame.Contains(id));

    /// <param name="rows">Prompt and target, at least one.</param>
    /// <exception cref="ModelException">A prompt or a target without tokens, or a target that is none of a classifier's labels.</exception>
    public LabelledInput Of(IReadOnlyList<(string Prompt, string Target)> rows)
    {
        var prompts = rows.Select(row => Cut(tokenizer.Encode(row.Prompt), row.Prompt, "prompt")).ToList();
        if (family.Labels is not null)
        {
            var classes = rows.Select(row => (long[])[family.ClassOf(row.Target)
                ?? throw new ModelException("target", $"\"{row.Target}\"", $"is no label of this model; it has {string.Join(", ", family.Labels)}")]);
            return new(new(Ids(prompts, family.PadId), Mask(prompts)), Padded([.. classes], LabelRows.Ignored));
        }
        if (family.IsEncoderDecoder)
        {
            var targets = rows.Select(row => Cut(Answer(row.Target), row.Target, "target")).ToList();
            var given = family.DecoderPrefix;
            // Position t predicts label t, or label t + 1 in a family that shifts: there the labels stand at the decoder's own inputs.
            var decoder = targets.Select(target => (int[])[.. given, .. family.ShiftsLabels ? target : target[..^1]]).ToList();
            var ignored = Enumerable.Repeat(LabelRows.Ignored, family.ShiftsLabels ? given.Count : given.Count - 1);
            var scored = targets.Select(target => (long[])[.. ignored, .. target.Select(id => (long)id)]);
            return new(new(Ids(prompts, family.PadId), Mask(prompts), Ids(decoder, family.PadId), Mask(decoder)), Padded([.. scored], LabelRows.Ignored));
        }
        var answers = rows.Select(row => Cut(tokenizer.Encode(" " + row.Target.TrimStart()), row.Target, "target")).ToList();
        var whole = prompts.Zip(answers, (prompt, answer) => (int[])[.. prompt, .. answer]).ToList();
        var labels = prompts.Zip(answers, (prompt, answer) => (IEnumerable<long>)[.. prompt.Select(_ => LabelRows.Ignored), .. answer.Select(id => (long)id)]);
        return new(new(Ids(whole, family.PadId), Mask(whole)), Padded([.. labels.Select(row => row.ToArray())], LabelRows.Ignored));
    }

    /// <summary>A target as the decoder has to write it: to the end of sequence, without what the tokenizer begins a text with.</summary>
    private List<int> Answer(string target)
    {
        var ids = tokenizer.Encode(target);
        return [.. ids.Skip(_frame.Count > 1 && ids[0] == _frame[0] ? 1 : 0)];
    }

    private int[] Cut(IReadOnlyList<int> ids, string text, string what) =>
        !HasTokens(ids) ? throw new ModelException(what, $"\"{text}\"", "has no tokens")
        : ids.Count <= maxLength ? [.. ids]
        : _frame.Count > 0 && ids[^1] == _frame[^1] ? [.. ids.Take(maxLength - 1), ids[^1]]
        : [.. ids.Take(maxLength)];

    private static Tensor Ids(List<int[]> rows, long pad) => Padded([.. rows.Select(row => Array.ConvertAll(row, id => (long)id))], pad);

    private static Tensor Mask(List<int[]> rows) => Padded([.. rows.Select(row => row.Select(_ => 1L).ToArray())], 0);

    private static Tensor Padded(long[][] rows, long pad)
    {
        var width = rows.Max(row => row.Length);
        var flat = new long[rows.Length * width];
        Array.Fill(flat, pad);
        for (var i = 0; i < rows.Length; i++)
            rows[i].CopyTo(flat, i * width);
        return tensor(flat, [rows.Length, width]);
    }
}
