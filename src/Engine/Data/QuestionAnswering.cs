
namespace MendCluster.Engine.Data;

/// <summary>Question answering on files of real questions, in whatever form they are.</summary>
public static class QuestionAnswering
{
    /// <summary>Edits of an evaluation or training set, in any of the published forms (mend-spec 6.2, 6.6).</summary>
    /// <param name="path">
    /// <c>.json</c>: the export form; <c>.jsonl</c>: the paper's; <c>.tsv</c>: questions and answers, from which edits are made: the target
    /// is another question's answer, the rephrases are <see cref="CorpusRewordings"/>, the locality is other questions.
    /// </param>
    public static IReadOnlyList<EditExample> ReadEdits(string path, ulong seed)
    {
        return FormOf(path) switch
        {
            ".json" => ZsRe.ReadExport(path),
            ".jsonl" => ZsRe.ReadPaper(path, Prng.At(seed, 0)),
            _ => EditsOf(ReadTsv(path), path, seed),
        };
    }

    /// <summary>All questions of the files with their answers: what a model is to know before it is edited.</summary>
    /// <param name="withRewordings">Each question also in another wording of <see cref="CorpusRewordings"/>.</param>
    /// <exception cref="InvalidDataException">None of them has an answer.</exception>
    public static IReadOnlyList<QaPair> ReadQuestions(IReadOnlyList<string> paths, bool withRewordings, ulong seed)
    {
        var pairs = DataFile.NotEmpty(string.Join(", ", paths), paths.SelectMany(path => IsReworded(path)
            ? ReadTsv(path)
            : ReadEdits(path, seed).SelectMany(edit => edit.Answer is { } answer ? edit.Locality.Append(new(edit.Prompt, answer))
                : edit.Locality))
            .DistinctBy(pair => pair.Question));
        if (!withRewordings)
            return pairs;
        var (known, rewordings) = (pairs.Select(pair => pair.Question).ToHashSet(), RewordingsOf(paths, seed));
        return [.. pairs, .. pairs.Select((pair, i) => (pair, i)).Where(asked => rewordings.Of(asked.pair.Question).Count > 0)
            .Select(asked => asked.pair with { Question = Prng.At(seed, (ulong)asked.i).Pick(rewordings.Of(asked.pair.Question)) })
            .Where(pair => known.Add(pair.Question))];
    }

    /// <summary>Whether the edits of a file are given rephrases: its form has none.</summary>
    public static bool IsReworded(string path) => FormOf(path) == ".tsv";

    /// <summary>What <see cref="ReadEdits"/> of a .tsv and <see cref="ReadQuestions"/> reword by.</summary>
    public static CorpusRewordings RewordingsOf(IReadOnlyList<string> paths, ulong seed) => new(ReadQuestions(paths, false, seed),
        paths.Where(path => !IsReworded(path)).SelectMany(path => ReadEdits(path, seed))
            .SelectMany(edit => edit.Answer is { } answer ? edit.Rephrases.Select(rephrase => new QaPair(rephrase, answer)) : []));

    /// <summary>Training and validation from one file's edits.</summary>
    /// <param name="edits">The last tenth, at most 200, is kept for validation, and training has none of its facts.</param>
    public static IEditTask Task(TextBatch text, IReadOnlyList<EditExample> edits, ulong seed)
    {
        // validation asks other edits' questions, so one is too few
        var kept = Math.Clamp(edits.Count / 10, Math.Min(2, edits.Count / 2), 200);
        var wordings = new Wordings(edits);
        var validated = edits.TakeLast(kept).SelectMany(edit => wordings.Of(edit.Prompt)).ToHashSet();
        return new QuestionTask(text, [.. edits.SkipLast(kept).Where(edit => !validated.Contains(edit.Prompt))],
            [.. edits.TakeLast(kept)], seed);
    }

    /// <summary>By the ending of its name: .json, .jsonl or .tsv.</summary>
    internal static string FormOf(string path) => Path.GetExtension(path).ToLowerInvariant() is (".json" or ".jsonl" or ".tsv") and var form
        ? form : throw new InvalidDataException($"{path}: the form of a {Path.GetExtension(path)} file is not known; known: .json, .jsonl, .tsv");

    /// <summary>A question has one answer: nobody could say which of two a model is to know.</summary>
    private static List<QaPair> ReadTsv(string path)
    {
        var pairs = ZsRe.ReadTsv(path);
        return DataCheck.Of(path).FirstOrDefault(finding => finding.Fault == DataFault.Contradiction) is { } contradiction
            ? throw new InvalidDataException($"{contradiction} Delete one of the lines.")
            : [.. pairs.Distinct()];
    }

    private static IReadOnlyList<EditExample> EditsOf(IReadOnlyList<QaPair> pairs, string path, ulong seed)
    {
        const int locality = 4;
        if (pairs.Count <= locality)
            throw new InvalidDataException($"{path}: {pairs.Count} question(s) are too few to make edits of; at least {locality + 1} are needed");
        var rewordings = new CorpusRewordings(pairs);
        var wordings = new Wordings(pairs.Select(pair => new EditExample(pair.Question, "", rewordings.Of(pair.Question), [])));
        if (pairs.All(pair => wordings.Of(pairs[0].Question).Contains(pair.Question)))
            throw new InvalidDataException($"{path}: all {pairs.Count} questions are wordings of \"{pairs[0].Question}\"; give questions about other things too");
        return DataFile.NotEmpty(path, pairs.Select((pair, i) =>
        {
            var rng = Prng.At(seed, (ulong)i);
            QaPair Other()
            {
                QaPair other;
                do
                    other = rng.Pick(pairs);
                while (wordings.Of(pair.Question).Contains(other.Question));
                return other;
            }
            string target;
            do
                target = Other().Answer;
            while (target == pair.Answer && pairs.Any(other => other.Answer != pair.Answer));
            return new EditExample(pair.Question, target, rewordings.Of(pair.Question),
                [.. Enumerable.Range(0, locality).Select(_ => Other())], pair.Answer);
        }).Where(edit => edit.Rephrases.Count > 0));
    }
}
