namespace MendCluster.Engine.Data;

/// <summary>
/// Question answering and fact checking by the published sampling rules (mend-spec 6.1 to 6.3): the rephrase is drawn at each visit, and so
/// are the unrelated rows: other rows' prompts with their true answers, unless an edit has its own or <c>otherQuestions</c> are given.
/// Unlike the authors' code it never draws a row that asks for the edited fact in another wording.
/// </summary>
public sealed class QuestionTask : IEditTask
{
    private readonly TextBatch _text;
    private readonly IReadOnlyList<EditExample> _training, _validation, _cases;
    private readonly ulong _seed;
    private readonly LocalityRows _locality;
    private readonly bool _halfUnchanged;
    private readonly IReadOnlyList<QaPair>? _otherQuestions;
    private readonly Wordings _wordings;
    private readonly EditSampler _order;

    /// <param name="text">Of the model.</param>
    /// <param name="training">Edits to train on.</param>
    /// <param name="validation">Edits that choose the editor which a training keeps.</param>
    /// <param name="seed">Of all draws.</param>
    /// <param name="locality">Unrelated rows a step, where they are drawn.</param>
    /// <param name="halfUnchanged">Every second edit, at random, asks for the model's own prediction: fact checking.</param>
    /// <param name="otherQuestions">What validation and cases ask as unrelated: Natural Questions.</param>
    /// <param name="cases">Edits to measure on; null: those of validation, as in the authors' code.</param>
    /// <exception cref="InvalidDataException">Too few rows to draw unrelated ones from.</exception>
    public QuestionTask(TextBatch text, IReadOnlyList<EditExample> training, IReadOnlyList<EditExample> validation, ulong seed,
        LocalityRows? locality = null, bool halfUnchanged = false, IReadOnlyList<QaPair>? otherQuestions = null,
        IReadOnlyList<EditExample>? cases = null)
    {
        (_text, _training, _validation, _cases) = (text, training, validation, cases ?? validation);
        (_seed, _locality, _halfUnchanged, _otherQuestions) = (seed, locality ?? new(), halfUnchanged, otherQuestions);
        _wordings = new([.. training, .. validation, .. _cases]);
        RequireUnrelated(training, "training", null);
        RequireUnrelated(validation, "validation", otherQuestions);
        RequireUnrelated(_cases, "measured", otherQuestions);
        _order = new(seed, training.Count, 0, sameRows: false, 1, 0);
    }

    public string Digest => DataFile.Digest(new
    {
        training = _training,
        validation = _validation,
        otherQuestions = _otherQuestions,
        halfUnchanged = _halfUnchanged,
        distinct = "by fact", // a run that was begun on batches of another kind is not gone on with
    });

    public int ValidationCount => _validation.Count;

    public int CaseCount => _cases.Count;

    public EditRows Training(long iteration) =>
        Rows(_training, _order.At(iteration).Edits[0], _locality.Training, null, Prng.At(~_seed, (ulong)iteration));

    public EditRows Validation(int i) => Rows(_validation, i, _locality.Validation, _otherQuestions, Prng.At(~_seed - 1, (ulong)i));

    public EditRows Case(int i) => Rows(_cases, i, _locality.Validation, _otherQuestions, Prng.At(~_seed - 1, (ulong)i));

    private EditRows Rows(IReadOnlyList<EditExample> edits, int index, int unrelated, IReadOnlyList<QaPair>? others, Prng rng)
    {
        var edit = edits[index];
        var wordings = _wordings.Of(edit.Prompt);
        var rephrase = rng.Pick(edit.Rephrases);
        if (_halfUnchanged && rng.Next(2) == 0)
            edit = edit with { Target = edit.Prediction! };
        var asked = others is null && edit.Locality.Count > 0 ? edit.Locality : Enumerable.Range(0, unrelated).Select(_ => Unrelated());
        return edit.Read(() => new EditRows(_text.EditRow(edit), [_text.Row(rephrase, edit.Target)],
            [.. asked.Select(pair => _text.Row(pair.Question, pair.Answer))], wordings));

        QaPair Unrelated()
        {
            QaPair drawn;
            do
                drawn = others is null ? Other(edits, index, rng) : rng.Pick(others);
            while (wordings.Contains(drawn.Question));
            return drawn;
        }
    }

    private static QaPair Other(IReadOnlyList<EditExample> edits, int index, Prng rng)
    {
        var other = rng.Next(edits.Count - 1);
        var row = edits[other < index ? other : other + 1];
        return new(row.Prompt, row.Answer!);
    }

    /// <summary>Every edit needs a question about something else, or drawing one would never end.</summary>
    private void RequireUnrelated(IReadOnlyList<EditExample> edits, string part, IReadOnlyList<QaPair>? others)
    {
        if (edits.Count == 0)
            throw new InvalidDataException($"the {part} set has 0 edits; give it at least 2");
        var drawn = edits.Where(edit => others is not null || edit.Locality.Count == 0).ToList();
        if (others is null && drawn.FirstOrDefault(edit => edit.Answer is null) is { } unanswered)
            throw new InvalidDataException($"the {part} set's \"{unanswered.Prompt}\" has neither locality questions nor a true answer; give it one of them");
        var asked = others?.Select(pair => pair.Question).ToList() ?? [.. edits.Select(edit => edit.Prompt)];
        if (drawn.FirstOrDefault(edit => asked.All(_wordings.Of(edit.Prompt).Contains)) is { } alone)
            throw new InvalidDataException($"the {part} set has {edits.Count} edit(s), and all that could be asked as unrelated "
                + $"({asked.Count} question(s)) asks what \"{alone.Prompt}\" asks; give it edits of at least 2 facts");
    }
}
