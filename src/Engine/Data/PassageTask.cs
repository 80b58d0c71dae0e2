namespace MendCluster.Engine.Data;

/// <summary>
/// Generation by the published sampling rules (mend-spec 6.4): an edit is a passage whose last tokens the model is to write; its rephrase
/// is the same with some of its first tokens left out, up to half of what there is; unrelated are other texts, scored on every token.
/// </summary>
public sealed class PassageTask : IEditTask
{
    private readonly TextBatch _text;
    private readonly (Continuations Edits, IReadOnlyList<string> Texts) _training;
    private readonly (Continuations Edits, IReadOnlyList<string> Texts) _validation;
    private readonly (Continuations Edits, IReadOnlyList<string> Texts) _cases;
    private readonly EditSampler _order;
    private readonly ulong _seed;
    private readonly LocalityRows _locality;
    private readonly int _mostTokens;

    /// <param name="text">Of the model.</param>
    /// <param name="training">Edits and unrelated texts to train on.</param>
    /// <param name="validation">The same to choose the editor by that a training keeps.</param>
    /// <param name="seed">Of all draws.</param>
    /// <param name="locality">Unrelated texts a step.</param>
    /// <param name="mostTokens">Unrelated texts are cut to this: OpenWebText, to 200.</param>
    /// <param name="cases">The same to measure on; null: those of validation, as in the authors' code.</param>
    public PassageTask(TextBatch text, (Continuations Edits, IReadOnlyList<string> Texts) training,
        (Continuations Edits, IReadOnlyList<string> Texts) validation, ulong seed, LocalityRows? locality = null,
        int mostTokens = int.MaxValue, (Continuations Edits, IReadOnlyList<string> Texts)? cases = null)
    {
        _cases = cases ?? validation;
        (_text, _training, _validation, _seed, _locality, _mostTokens) = (text, training, validation, seed, locality ?? new(), mostTokens);
        _order = new(seed, training.Edits.Completions.Count, 0, sameRows: false, 1, 0);
    }

    public string Digest => DataFile.Digest(new
    {
        _training.Edits,
        _training.Texts,
        ForValidation = new { _validation.Edits, _validation.Texts },
        _mostTokens
    });

    public int ValidationCount => _validation.Edits.Completions.Count;

    public int CaseCount => _cases.Edits.Completions.Count;

    public EditRows Training(long iteration) =>
        Rows(_training, _order.At(iteration).Edits[0], _locality.Training, Prng.At(~_seed, (ulong)iteration));

    public EditRows Validation(int i) => Rows(_validation, i, _locality.Validation, Prng.At(~_seed - 1, (ulong)i));

    public EditRows Case(int i) => Rows(_cases, i, _locality.Validation, Prng.At(~_seed - 1, (ulong)i));

    private EditRows Rows((Continuations Edits, IReadOnlyList<string> Texts) data, int index, int unrelated, Prng rng)
    {
        var (scored, completion) = (data.Edits.Tokens, data.Edits.Completions[index]);
        // a passage that is too long for the model loses its beginning, never what is scored
        var ids = _text.Tokens(completion, fromEnd: true);
        if (ids.Length <= scored)
            throw new InvalidDataException(
                $"completion {index} has {ids.Length} tokens, of which {scored} are the continuation: nothing is left to continue. Delete it: \"{completion}\"");
        var dropped = rng.Next((ids.Length - scored) / 2 + 1);
        var edit = _text.Passage(ids, scored) with { Condition = ids };
        return new(edit, [_text.Passage(ids[dropped..], scored)],
            [.. Enumerable.Range(0, unrelated).Select(_ => Whole(rng.Pick(data.Texts)))], [edit.Prompt]);
    }

    /// <summary>Scored on all its tokens; the first is given, for nothing stands before it.</summary>
    private TokenRow Whole(string text)
    {
        var ids = _text.Tokens(text, _mostTokens);
        return _text.Passage(ids, ids.Length);
    }
}
