namespace MendCluster.Engine.Data;

/// <summary>
/// Question answering and fact checking by the published sampling rules (mend-spec 6.1 to 6.3): the rephrase is drawn at each visit, and so
/// are the unrelated rows: other rows' prompts with their true answers, unless an edit has its own or <paramref name="otherQuestions"/> is
/// given.
/// </summary>
/// <param name="text">Of the model.</param>
/// <param name="training">Edits to train on.</param>
/// <param name="validation">Edits to validate and evaluate on.</param>
/// <param name="seed">Of all draws.</param>
/// <param name="locality">Unrelated rows a step, where they are drawn.</param>
/// <param name="halfUnchanged">Every second edit, at random, asks for the model's own prediction: fact checking.</param>
/// <param name="otherQuestions">What validation asks as unrelated: Natural Questions.</param>
/// <exception cref="InvalidDataException">Too few rows to draw unrelated ones from.</exception>
public sealed class QuestionTask(
    TextBatch text, IReadOnlyList<EditExample> training, IReadOnlyList<EditExample> validation, ulong seed, LocalityRows? locality = null,
    bool halfUnchanged = false, IReadOnlyList<QaPair>? otherQuestions = null) : IEditTask
{
    private readonly LocalityRows _locality = locality ?? new();

    private readonly EditSampler _order = new(seed, Enough(training, "training").Count, 0, sameRows: false, 1, 0);

    public string Digest => DataFile.Digest(new { training, validation, otherQuestions, halfUnchanged });

    public int ValidationCount { get; } = (otherQuestions is null ? Enough(validation, "validation") : validation).Count;

    public EditRows Training(long iteration) =>
        Rows(training, _order.At(iteration).Edits[0], _locality.Training, null, Prng.At(~seed, (ulong)iteration));

    public EditRows Validation(int i) => Rows(validation, i, _locality.Validation, otherQuestions, Prng.At(~seed - 1, (ulong)i));

    private EditRows Rows(IReadOnlyList<EditExample> edits, int index, int unrelated, IReadOnlyList<QaPair>? others, Prng rng)
    {
        var edit = edits[index];
        var rephrase = rng.Pick(edit.Rephrases);
        if (halfUnchanged && rng.Next(2) == 0)
            edit = edit with { Target = edit.Prediction! };
        var asked = others is not null ? Enumerable.Range(0, unrelated).Select(_ => rng.Pick(others))
            : edit.Locality.Count > 0 ? edit.Locality
            : Enumerable.Range(0, unrelated).Select(_ => Other(edits, index, rng));
        return edit.Read(() => new EditRows(text.EditRow(edit), [text.Row(rephrase, edit.Target)],
            [.. asked.Select(pair => text.Row(pair.Question, pair.Answer))]));
    }

    private static QaPair Other(IReadOnlyList<EditExample> edits, int index, Prng rng)
    {
        var other = rng.Next(edits.Count - 1);
        var row = edits[other < index ? other : other + 1];
        return new(row.Prompt, row.Answer!);
    }

    private static IReadOnlyList<EditExample> Enough(IReadOnlyList<EditExample> edits, string part)
    {
        var needs = edits.Count == 0 || (edits.Count == 1 && edits[0].Locality.Count == 0);
        if (needs)
            throw new InvalidDataException($"the {part} set has {edits.Count} edit(s), and unrelated rows are other edits' questions; give it at least 2");
        return edits.FirstOrDefault(edit => edit.Locality.Count == 0 && edit.Answer is null) is { } unanswered
            ? throw new InvalidDataException($"the {part} set's \"{unanswered.Prompt}\" has neither locality questions nor a true answer; give it one of them")
            : edits;
    }
}
