using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Engine.Data;

/// <summary>Text to token ids with labels, as each family reads it; padded on the right.</summary>
/// <param name="family">Decides where the target goes: after the prompt, or to the decoder.</param>
/// <param name="tokenizer">The model's.</param>
/// <param name="maxLength">Longer prompts and targets are cut to this many tokens.</param>
public sealed class TextBatch(ModelFamily family, ITokenizer tokenizer, int maxLength = 32)
{
    /// <param name="rows">Prompt and target, at least one.</param>
    /// <exception cref="ModelException">A prompt or a target without tokens.</exception>
    public LabelledInput Of(IReadOnlyList<(string Prompt, string Target)> rows)
    {
        var prompts = rows.Select(row => Cut(tokenizer.Encode(row.Prompt), row.Prompt, "prompt")).ToList();
        if (family.IsEncoderDecoder)
        {
            var targets = rows.Select(row => Cut(tokenizer.Encode(row.Target), row.Target, "target")).ToList();
            var decoder = targets.Select(target => (int[])[family.DecoderStartId!.Value, .. target[..^1]]).ToList();
            return new(new(Ids(prompts, family.PadId), Mask(prompts), Ids(decoder, family.PadId), Mask(decoder)), Ids(targets, LabelRows.Ignored));
        }
        var answers = rows.Select(row => Cut(tokenizer.Encode(" " + row.Target.TrimStart()), row.Target, "target")).ToList();
        var whole = prompts.Zip(answers, (prompt, answer) => (int[])[.. prompt, .. answer]).ToList();
        var labels = prompts.Zip(answers, (prompt, answer) => (IEnumerable<long>)[.. prompt.Select(_ => LabelRows.Ignored), .. answer.Select(id => (long)id)]);
        return new(new(Ids(whole, family.PadId), Mask(whole)), Padded([.. labels.Select(row => row.ToArray())], LabelRows.Ignored));
    }

    private int[] Cut(IReadOnlyList<int> ids, string text, string what) =>
        ids.All(id => id == family.EosId) ? throw new ModelException(what, $"\"{text}\"", "has no tokens")
        : ids.Count <= maxLength ? [.. ids]
        : ids[^1] == family.EosId ? [.. ids.Take(maxLength - 1), family.EosId]
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
