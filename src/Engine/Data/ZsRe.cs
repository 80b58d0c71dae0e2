namespace MendCluster.Engine.Data;

/// <summary>
/// Reads the forms in which zsRE question answering is published.
/// A file that is not in the named form is refused with <see cref="InvalidDataException"/>, which names the file, the row,
/// the field and what was found there. Rows that a form allows but that cannot serve as an edit (no answer to edit to, no
/// rephrase) are left out, as the reference does; a file of nothing but such rows is refused.
/// </summary>
public static class ZsRe
{
    /// <summary>
    /// A JSON array in the form of ROME, EasyEdit and MzsRE, {subject, src, rephrase, alt, loc, loc_ans} and perhaps {answers}, or in
    /// that of EasyEdit's newer files (KnowEdit): see <see cref="OfKnowEdit"/>. Other fields are ignored.
    /// </summary>
    public static IReadOnlyList<EditExample> ReadExport(string path) =>
        DataFile.NotEmpty(path, ExportRows(path).Where(row => row.Prompt.Length > 0 && row.Target.Length > 0 && row.Rephrases[0].Length > 0));

    /// <summary>All rows of the file, also those that cannot serve as an edit.</summary>
    internal static IReadOnlyList<EditExample> ExportRows(string path)
    {
        using var document = DataFile.Parse(path);
        return [.. new JsonAt(path, "the file", document.RootElement).Items()
            .Select(row => row.Has("target_new") ? OfKnowEdit(row) : OfRome(row))];
    }

    private static EditExample OfRome(JsonAt row)
    {
        if (row.IsObject && !row.Has("src"))
            throw row.Wrong("an object with neither \"src\" (as zsRE is exported) nor \"target_new\" (as in EasyEdit's KnowEdit)",
                "give it in one of these forms");
        var locality = new QaPair(NaturalQuestions.Question(row.Required("loc")), row.Required("loc_ans"));
        var answer = row.Has("answers") && row.Field("answers").Texts() is [var first, ..] ? first : null;
        return new(row.Text("src"), row.Text("alt"), [row.Text("rephrase")], [locality], answer, row.Text("subject"),
            row.OptionalText("pred"), row.Where);
    }

    /// <summary>
    /// {subject, prompt, target_new, ground_truth, rephrase_prompt, locality: {kind: [{prompt, ground_truth}]}}, or with locality_prompt
    /// and locality_ground_truth for the last. All kinds of locality count alike; where there is none, a training keeps other rows'
    /// true answers, as with the paper's form.
    /// </summary>
    private static EditExample OfKnowEdit(JsonAt row)
    {
        List<QaPair> locality = row.HasValue("locality_prompt")
            ? [new(row.Required("locality_prompt"), Truth(row.Field("locality_ground_truth")))] : [];
        if (row.HasValue("locality"))
            locality.AddRange(row.Field("locality").Members().SelectMany(kind => kind.Items())
                .Select(asked => new QaPair(asked.Required("prompt"), Truth(asked.Field("ground_truth")))));
        return new(row.Text("prompt"), row.Text("target_new"), [row.Text("rephrase_prompt")], locality,
            row.HasValue("ground_truth") ? Truth(row.Field("ground_truth")) : null, row.OptionalText("subject"), Place: row.Where);
    }

    /// <summary>A text, or a list of texts that mean the same, or of such lists: the first counts.</summary>
    private static string Truth(JsonAt answer) => !answer.IsList ? answer.Required()
        : Truth(answer.Items().FirstOrDefault() ?? throw answer.Wrong("an empty list", "write an answer, or delete the row"));

    /// <summary>
    /// The MEND paper's own form (De Cao et al.'s files): one JSON object a line with input, alternatives,
    /// filtered_rephrases and output[].answer. There is no locality field: the reference takes other rows' prompts with
    /// their true answers.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="rng">
    /// Picks one of a row's alternatives as its target. The reference picks anew at each visit, and visits a row about twice.
    /// </param>
    public static IReadOnlyList<EditExample> ReadPaper(string path, Prng rng)
    {
        var rows = new List<EditExample>();
        foreach (var row in DataFile.PaperRows(path).Where(row => row.IsUsable))
            rows.Add(new EditExample(row.Prompt, rng.Pick(row.Targets), row.Rephrases, [], row.Answer,
                Prediction: row.Row.OptionalText("prediction"), Place: row.Row.Where));
        return DataFile.NotEmpty(path, rows);
    }

    /// <summary>Lines of question, tab, answer, in UTF-8.</summary>
    public static IReadOnlyList<QaPair> ReadTsv(string path) => DataFile.NotEmpty(path,
        TsvRows(path).Select(row => row.Pair).Where(pair => pair.Question.Length > 0 && pair.Answer.Length > 0));

    /// <summary>The same with their places, also those with an empty side.</summary>
    internal static IEnumerable<(string Place, QaPair Pair)> TsvRows(string path)
    {
        foreach (var (number, line) in DataFile.Lines(path))
        {
            var place = $"{path}, line {number}";
            yield return line.Split('\t') is [var question, var answer]
                ? (place, new(TextBatch.WithoutEnds(question), TextBatch.WithoutEnds(answer)))
                : throw new InvalidDataException(
                    $"{place}: found {line.Count(letter => letter == '\t')} tabs, wanted question, one tab, answer. Mend the line or delete it.");
        }
    }
}
