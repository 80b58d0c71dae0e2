namespace MendCluster.Engine.Data;

/// <summary>Reads the Natural Questions that the paper asks to see whether an edit of a question answerer stays local.</summary>
public static class NaturalQuestions
{
    private const string Prefix = "nq question: ";

    /// <summary>
    /// The paper's Natural Questions form: {"questions": [...], "answers": [...]}. An answer is a string or a list of short
    /// answers, of which the shortest counts.
    /// </summary>
    public static IReadOnlyList<QaPair> Read(string path)
    {
        using var document = DataFile.Parse(path);
        var file = new JsonAt(path, "the file", document.RootElement);
        var questions = file.Field("questions").Texts();
        var answers = file.Field("answers").Items().Select(answer => answer.IsList ? Shortest(answer.Texts()) : answer.Text()).ToList();
        if (questions.Count != answers.Count)
        {
            throw new InvalidDataException(
                $"{path}: found {questions.Count} questions and {answers.Count} answers. Write one answer for each question.");
        }
        return DataFile.NotEmpty(path, questions.Select(Question).Zip(answers, (question, answer) => new QaPair(question, answer))
            .Where(row => row.Question.Length > 0 && row.Answer.Length > 0));

        static string Shortest(IReadOnlyList<string> answers) => answers.MinBy(answer => answer.Length) ?? "";
    }

    // The exports carry NQ's raw text, the paper's files a proper question. Models are asked the same in both cases.
    internal static string Question(string text)
    {
        if (text.StartsWith(Prefix, StringComparison.Ordinal))
            text = text[Prefix.Length..];
        if (text.Length == 0)
            return text;
        text = char.ToUpperInvariant(text[0]) + text[1..];
        return text.EndsWith('?') ? text : text + "?";
    }
}
