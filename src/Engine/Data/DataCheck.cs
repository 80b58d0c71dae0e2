using MendCluster.Contracts;

namespace MendCluster.Engine.Data;

/// <summary>What may be wrong with a row of a data file.</summary>
public enum DataFault
{
    /// <summary>A question has another true answer elsewhere in the file, or is to stay although the row edits it.</summary>
    Contradiction,

    /// <summary>The model cannot be asked one of its texts.</summary>
    Unusable,

    /// <summary>A text that the row needs is empty, so that the row is left out.</summary>
    Empty,

    /// <summary>The same row is in the file before.</summary>
    Duplicate,

    /// <summary>The target is the answer that is right already.</summary>
    NoChange,

    /// <summary>A text has more tokens than are read of it, so that its end is left out.</summary>
    OverLong,
}

/// <summary>One of them.</summary>
/// <param name="Place">File and line, or item.</param>
/// <param name="Said">What was found there.</param>
public sealed record DataFinding(DataFault Fault, string Place, string Said)
{
    public override string ToString() => $"{Place}: {Said}.";
}

/// <summary>Looks through a file of questions or edits before anything is made of it.</summary>
public static class DataCheck
{
    /// <summary>All that is found, in the file's order.</summary>
    /// <param name="path">In a form that <see cref="QuestionAnswering.ReadEdits"/> reads.</param>
    /// <param name="text">Of the model that is to read it; null: its texts are not looked at as tokens.</param>
    /// <exception cref="InvalidDataException">It is not in its form.</exception>
    public static IReadOnlyList<DataFinding> Of(string path, TextBatch? text = null)
    {
        var (answers, rows) = (new Dictionary<string, (string Answer, string Place)>(), new Dictionary<string, string>());
        return [.. Rows(path).SelectMany(row => InRow(row, answers, rows, text))];
    }

    /// <summary>How many of each: "2 contradictions, 1 duplicate".</summary>
    public static string Summary(IReadOnlyList<DataFinding> findings) => string.Join(", ", findings.CountBy(finding => finding.Fault)
        .OrderBy(count => count.Key).Select(count => $"{count.Value} {Name(count.Key)}{(count.Value == 1 ? "" : "s")}"));

    private static string Name(DataFault fault) => fault switch
    {
        DataFault.Contradiction => "contradiction",
        DataFault.Unusable => "unusable text",
        DataFault.Empty => "incomplete row",
        DataFault.Duplicate => "duplicate",
        DataFault.NoChange => "idle edit",
        _ => "over-long text",
    };

    private static IEnumerable<DataFinding> InRow(Row row, Dictionary<string, (string Answer, string Place)> answers,
        Dictionary<string, string> rows, TextBatch? text)
    {
        DataFinding Found(DataFault fault, string said) => new(fault, row.Place, said);

        if (row.Missing is { } missing)
        {
            yield return Found(DataFault.Empty, $"has no {missing}; the row is left out");
            yield break;
        }
        var digest = DataFile.Digest(row with { Place = "" });
        if (!rows.TryAdd(digest, row.Place))
        {
            yield return Found(DataFault.Duplicate, $"is the same as {rows[digest]}");
            yield break;
        }
        var known = row.Answer is { } right ? row.Questions.Select(question => new QaPair(question, right)) : [];
        foreach (var (question, answer) in known.Concat(row.Locality))
            if (!answers.TryAdd(question, (answer, row.Place)) && answers[question] is var other && other.Answer != answer)
                yield return Found(DataFault.Contradiction,
                    $"\"{question}\" has two answers, \"{answer}\" here and \"{other.Answer}\" in {other.Place}");
        foreach (var (question, _) in row.Locality.Where(pair => row.Questions.Contains(pair.Question)))
            yield return Found(DataFault.Contradiction, $"\"{question}\" is edited and is to stay as it is");
        if (row.Targets.Contains(row.Answer))
            yield return Found(DataFault.NoChange, $"\"{row.Questions[0]}\" is to be answered \"{row.Answer}\", which is its answer already");
        if (text is null)
            yield break;
        foreach (var (what, texts) in new[] { ("question", row.Questions.Concat(row.Locality.Select(pair => pair.Question))),
            ("answer", row.Targets.Concat(known.Concat(row.Locality).Select(pair => pair.Answer))) })
            foreach (var said in texts.Distinct())
                if (InText(text, what, said) is { } fault)
                    yield return Found(fault.Fault, fault.Said);
    }

    private static (DataFault Fault, string Said)? InText(TextBatch text, string what, string said)
    {
        try
        {
            var ids = what == "question" ? text.Encode(said) : text.Written(said);
            return what == "question" && !text.HasTokens(ids) ? (DataFault.Unusable, $"the question \"{said}\" has no tokens")
                : ids.Count > text.MaxLength
                ? (DataFault.OverLong, $"the {what} \"{said}\" has {ids.Count} tokens, of which the first {text.MaxLength} are read") : null;
        }
        catch (MendException e) when (e.Error == MendError.ModelUnusable)
        {
            return (DataFault.Unusable, e.What.TrimEnd('.'));
        }
    }

    private static IEnumerable<Row> Rows(string path) => QuestionAnswering.FormOf(path) switch
    {
        ".tsv" => ZsRe.TsvRows(path).Select(row => new Row(row.Place, [row.Pair.Question], row.Pair.Answer, [], [])
        {
            Missing = Empty(("question", row.Pair.Question), ("answer", row.Pair.Answer)),
        }),
        ".json" => ZsRe.ExportRows(path).Select(row => new Row(row.Place!, [.. row.Wordings], row.Answer, [row.Target], row.Locality)
        {
            Missing = Empty(("question", row.Prompt), ("target", row.Target), ("rephrase", row.Rephrases[0])),
        }),
        _ => DataFile.PaperRows(path).Select(row => new Row(row.Row.Where, [row.Prompt, .. row.Rephrases], row.Answer, row.Targets, [])
        {
            Missing = Empty(("question", row.Prompt), ("answer", row.Answer), ("target", row.Targets.FirstOrDefault("")),
                ("rephrase", row.Rephrases.FirstOrDefault(""))),
        }),
    };

    private static string? Empty(params (string Name, string Text)[] texts) =>
        texts.Where(text => text.Text.Length == 0).Select(text => text.Name).FirstOrDefault();

    /// <param name="Questions">All wordings of the fact, the prompt first.</param>
    /// <param name="Answer">The true one, where the file names it.</param>
    /// <param name="Targets">What the edit may ask for; none in a file of questions.</param>
    private sealed record Row(string Place, IReadOnlyList<string> Questions, string? Answer, IReadOnlyList<string> Targets,
        IReadOnlyList<QaPair> Locality)
    {
        /// <summary>What the row lacks; null: it is whole.</summary>
        public string? Missing { get; init; }
    }
}
