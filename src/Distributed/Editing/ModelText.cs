using MendCluster.Contracts;
using MendCluster.Distributed.Deployment;
using MendCluster.Engine.Data;
using MendCluster.Engine.Models;
using MendCluster.Engine.Tokenizers;
using MendCluster.Engine.Training;
using static TorchSharp.torch;

namespace MendCluster.Distributed.Editing;

/// <summary>
/// The words of a model's users as its tokens: the one place where text is checked. White space at the ends of prompts and targets is no
/// part of them (<see cref="TextBatch.WithoutEnds"/>), here as in training.
/// </summary>
public sealed class ModelText(ModelFamily family, ITokenizer tokenizer)
{
    /// <summary>Tokens of a prompt or target where positions are relative and the model sets no limit.</summary>
    public const int MaxTokens = 1024;

    private readonly TextBatch _text = new(family, tokenizer, int.MaxValue);

    public ModelFamily Family => family;

    /// <summary>Reads family and tokenizer of a model, and its fingerprint; no weights.</summary>
    /// <exception cref="MendException">The model cannot be read.</exception>
    public static (ModelText Text, byte[] Fingerprint) Open(string directory) =>
        Reading(() => (new ModelText(ModelFamily.FromDirectory(directory), TokenizerFiles.Load(directory)),
        ModelFingerprint.Of(directory)));

    /// <summary>The fingerprint alone.</summary>
    /// <exception cref="MendException">The model cannot be read.</exception>
    public static byte[] FingerprintOf(string directory) => Reading(() => ModelFingerprint.Of(directory));

    /// <summary>Looks whether an editor is this model's.</summary>
    /// <exception cref="MendException">It is not, or cannot be read.</exception>
    public void CheckEditor(string file) => Reading(() =>
    {
        using var checkpoint = EditorCheckpoint.Open(file);
        checkpoint.RequireFit(family);
        return true;
    }, $"The editor {file} cannot be used", "Name an editor that was trained for this model, or train one: mend train.");

    internal static T Reading<T>(Func<T> read, string what = "The model cannot be read",
        string hint = "A model is a Hugging Face directory: config.json, weights, tokenizer.")
    {
        try
        {
            return read();
        }
        catch (Exception e) when (e is MendException { Error: MendError.ModelUnusable } or IOException or UnauthorizedAccessException)
        {
            throw e.Because(MendError.ModelUnusable, what, hint);
        }
    }

    private long Limit => family.MaxPositions ?? MaxTokens;

    /// <summary>A prompt with its target in tokens.</summary>
    /// <exception cref="MendException">One of them has no tokens or too many.</exception>
    public TokenRow Row(string prompt, string target)
    {
        var ids = Tokens(prompt, MendError.EmptyPrompt, "prompt", _text.Encode);
        IReadOnlyList<int> written = [];
        if (family.Labels is not null)
            CheckLabel(target);
        else
            written = Tokens(target, MendError.EmptyTarget, "target", _text.Written);
        CheckLength(family.IsEncoderDecoder ? Math.Max(ids.Count, written.Count + family.DecoderPrefix.Count) : ids.Count + written.Count);
        return Known(() => _text.Row(prompt, ids, target, written));
    }

    /// <summary>Prompts with their targets, as one batch with labels.</summary>
    /// <exception cref="MendException">As of <see cref="Row(string, string)"/>.</exception>
    public TokenBatch Batch(IReadOnlyList<(string Prompt, string Target)> rows) =>
        Batch([.. rows.Select(row => Row(row.Prompt, row.Target))]);

    /// <param name="rows">Of this model.</param>
    public TokenBatch Batch(IReadOnlyList<TokenRow> rows)
    {
        using var scope = NewDisposeScope();
        return StagePasses.Encode(_text.Of(rows));
    }

    /// <summary>The bookkeeping of an answer.</summary>
    public Generation Generation(string prompt, AskOptions options)
    {
        if (options.MaxTokens < 1 || !(options.Temperature >= 0) || double.IsInfinity(options.Temperature) || options.TopK < 0
            || options.TopP is not (> 0 and <= 1))
            throw new MendException(MendError.InvalidOption, $"Sampling options are out of range: {options}.",
                "MaxTokens is at least 1, Temperature and TopK at least 0, TopP above 0 and at most 1.");
        var ids = Tokens(prompt, MendError.EmptyPrompt, "prompt", _text.Encode);
        CheckLength(ids.Count + (family.IsEncoderDecoder || family.Labels is not null ? 0 : 1));
        return Known(() => new Generation(family, ids, options));
    }

    /// <summary>What the next pass of an answer reads.</summary>
    public static TokenBatch Next(Generation generation)
    {
        var (ids, decoderIds, keys) = generation.Next();
        var mask = new long[keys];
        Array.Fill(mask, 1);
        return new(Row(Array.ConvertAll(ids, id => (long)id)), Row(mask), decoderIds is null ? null
            : Row(Array.ConvertAll(decoderIds, id => (long)id)), null, null);
    }

    /// <summary>The text of an answer; a classifier's is the class's label.</summary>
    public string Decode(IReadOnlyList<int> ids) => family.Labels is { } labels ? labels[ids[0]] : tokenizer.Decode(ids).Trim();

    /// <exception cref="MendException">It has no UTF-8 form: the ledger would give back another text than it was given.</exception>
    public static void CheckUnicode(string? text, string what)
    {
        for (var i = 0; i < text?.Length; i++)
            if (char.IsSurrogate(text[i]) && !(i + 1 < text.Length && char.IsSurrogatePair(text[i], text[++i])))
                throw new MendException(MendError.InvalidText, $"The {what} holds half of a surrogate pair.",
                    "Correct the text; it may have been cut in the middle of a character.");
    }

    private IReadOnlyList<int> Tokens(string text, MendError error, string what, Func<string, IReadOnlyList<int>> encode)
    {
        CheckUnicode(text, what);
        var ids = string.IsNullOrWhiteSpace(text) ? [] : Read(TextBatch.WithoutEnds(text));
        return _text.HasTokens(ids) ? ids
            : throw new MendException(error, $"The {what} \"{text}\" has no tokens.", $"Give a {what} with at least one word.");

        IReadOnlyList<int> Read(string text)
        {
            try
            {
                return encode(text);
            }
            catch (MendException e) when (e.Error == MendError.ModelUnusable)
            {
                throw e.Because(e.Error, "The text cannot be read",
                    "Give the model its own tokenizer, or leave the token out of the text.");
            }
        }
    }

    private void CheckLabel(string target)
    {
        CheckUnicode(target, "target");
        if (string.IsNullOrWhiteSpace(target))
            throw new MendException(MendError.EmptyTarget, "The target is empty.",
                $"Give one of this classifier's labels: {string.Join(", ", family.Labels!)}.");
        if (family.ClassOf(target) is null)
            throw new MendException(MendError.UnknownLabel, $"The target \"{target}\" is no label of this classifier.",
                $"Give one of {string.Join(", ", family.Labels!)}.");
    }

    /// <summary>What the model refuses, with what a caller can do.</summary>
    private static T Known<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (MendException e) when (e.Error == MendError.ModelUnusable)
        {
            throw new MendException(e.Error, e.What,
                "Correct the text or the model's files; sent again, the request is refused again.", e);
        }
    }

    private void CheckLength(long tokens)
    {
        if (tokens > Limit)
            throw new MendException(MendError.TooLong, $"The text has {tokens} tokens, the model reads at most {Limit}.", "Shorten it.");
    }

    private static WireTensor Row(long[] values)
    {
        var bytes = new byte[values.Length * sizeof(long)];
        Buffer.BlockCopy(values, 0, bytes, 0, bytes.Length);
        return new(DType.Int64, [1, values.Length], bytes);
    }
}
