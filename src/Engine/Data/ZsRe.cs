using System.Text;
using System.Text.Json;

namespace MendCluster.Engine.Data;

/// <summary>
/// Reads the forms in which zsRE question answering and its NQ locality questions are published.
/// A file that is not in the named form is refused with <see cref="InvalidDataException"/>, which names the file, the row,
/// the field and what was found there. Rows that a form allows but that cannot serve as an edit (no answer to edit to, no
/// rephrase) are left out, as the reference does; a file of nothing but such rows is refused.
/// </summary>
public static class ZsRe
{
    private const string NqPrefix = "nq question: ";

    /// <summary>
    /// The ROME, EasyEdit and MzsRE form: a JSON array of {subject, src, rephrase, alt, loc, loc_ans} and perhaps {answers}.
    /// Other fields are ignored.
    /// </summary>
    public static IReadOnlyList<EditExample> ReadExport(string path)
    {
        using var document = Parse(path);
        var rows = new List<EditExample>();
        foreach (var row in new Json(path, "the file", document.RootElement).Items())
        {
            var locality = new QaPair(NqQuestion(row.Text("loc")), row.Text("loc_ans"));
            var answer = row.Has("answers") && row.Field("answers").Texts() is [var first, ..] ? first : null;
            rows.Add(new EditExample(
                row.Text("src"), row.Text("alt"), [row.Text("rephrase")], [locality], answer, row.Text("subject")));
        }
        return NotEmpty(path, rows.Where(row => row.Prompt.Length > 0 && row.Target.Length > 0 && row.Rephrases[0].Length > 0));
    }

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
        foreach (var (number, line) in Lines(path))
        {
            using var document = ParseLine(path, number, line);
            var row = new Json(path, $"line {number}", document.RootElement);
            var prompt = row.Text("input");
            var targets = row.Field("alternatives").Texts().Where(text => text.Length > 0).ToList();
            var rephrases = row.Field("filtered_rephrases").Texts().ToList();
            rephrases.Remove(prompt); // its first occurrence only: the reference's rule
            var answer = row.Field("output").Items().FirstOrDefault()
                ?? throw row.Field("output").Wrong("an empty list", "put {\"answer\": ...} in it");
            if (targets.Count > 0 && rephrases.Count > 0)
                rows.Add(new EditExample(prompt, rng.Pick(targets), rephrases, [], answer.Text("answer")));
        }
        return NotEmpty(path, rows);
    }

    /// <summary>Lines of question, tab, answer, in UTF-8.</summary>
    public static IReadOnlyList<QaPair> ReadTsv(string path)
    {
        var rows = new List<QaPair>();
        foreach (var (number, line) in Lines(path))
        {
            var fields = line.Split('\t');
            if (fields.Length != 2)
            {
                throw new InvalidDataException(
                    $"{path}, line {number}: found {fields.Length - 1} tabs, wanted question, one tab, answer. Mend the line or delete it.");
            }
            rows.Add(new QaPair(fields[0].Trim(), fields[1].Trim()));
        }
        return NotEmpty(path, rows.Where(row => row.Question.Length > 0 && row.Answer.Length > 0));
    }

    /// <summary>
    /// The paper's Natural Questions form: {"questions": [...], "answers": [...]}. An answer is a string or a list of short
    /// answers, of which the shortest counts.
    /// </summary>
    public static IReadOnlyList<QaPair> ReadNq(string path)
    {
        using var document = Parse(path);
        var file = new Json(path, "the file", document.RootElement);
        var questions = file.Field("questions").Texts();
        var answers = file.Field("answers").Items().Select(answer => answer.IsList ? Shortest(answer.Texts()) : answer.Text()).ToList();
        if (questions.Count != answers.Count)
        {
            throw new InvalidDataException(
                $"{path}: found {questions.Count} questions and {answers.Count} answers. Write one answer for each question.");
        }
        return NotEmpty(path, questions.Select(NqQuestion).Zip(answers, (question, answer) => new QaPair(question, answer))
            .Where(row => row.Question.Length > 0 && row.Answer.Length > 0));

        static string Shortest(IReadOnlyList<string> answers) => answers.MinBy(answer => answer.Length) ?? "";
    }

    // The exports carry NQ's raw text, the paper's files a proper question. Models are asked the same in both cases.
    private static string NqQuestion(string text)
    {
        if (text.StartsWith(NqPrefix, StringComparison.Ordinal))
            text = text[NqPrefix.Length..];
        if (text.Length == 0)
            return text;
        text = char.ToUpperInvariant(text[0]) + text[1..];
        return text.EndsWith('?') ? text : text + "?";
    }

    private static IReadOnlyList<T> NotEmpty<T>(string path, IEnumerable<T> rows)
    {
        var list = rows.ToList();
        return list.Count > 0 ? list : throw new InvalidDataException($"{path}: found no usable row. Is it the right file, and whole?");
    }

    private static IEnumerable<(int Number, string Text)> Lines(string path)
    {
        using var reader = new StreamReader(path, new UTF8Encoding(false, throwOnInvalidBytes: true));
        for (var number = 1; Read(number) is { } line; number++)
        {
            if (line.Trim().Length > 0)
                yield return (number, line);
        }

        string? Read(int number)
        {
            try
            {
                return reader.ReadLine();
            }
            catch (DecoderFallbackException e)
            {
                // The reader decodes a block ahead, so the line is the first that the bad bytes can be in.
                throw new InvalidDataException($"{path}, at or after line {number}: found bytes that are not UTF-8. Save the file as UTF-8.", e);
            }
        }
    }

    private static JsonDocument Parse(string path)
    {
        using var stream = File.OpenRead(path);
        try
        {
            return JsonDocument.Parse(stream);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}, line {e.LineNumber + 1}: not JSON: {e.Message} Is the file whole?", e);
        }
    }

    private static JsonDocument ParseLine(string path, int number, string line)
    {
        try
        {
            return JsonDocument.Parse(line);
        }
        catch (JsonException e)
        {
            throw new InvalidDataException($"{path}, line {number}: not JSON: {e.Message} Is the file whole, with one object a line?", e);
        }
    }

    /// <summary>A JSON value that knows where it was found.</summary>
    private sealed record Json(string Path, string Place, JsonElement Value)
    {
        public bool IsList => Value.ValueKind == JsonValueKind.Array;

        public bool Has(string field) => Value.ValueKind == JsonValueKind.Object && Value.TryGetProperty(field, out _);

        public Json Field(string field)
        {
            if (Value.ValueKind != JsonValueKind.Object)
                throw Wrong(Found, $"write an object with the field \"{field}\"");
            return Value.TryGetProperty(field, out var value)
                ? new Json(Path, $"{Place}, field \"{field}\"", value)
                : throw Wrong($"an object without the field \"{field}\"", "add it, or check that the file is in this form");
        }

        public IEnumerable<Json> Items() => IsList
            ? Value.EnumerateArray().Select((item, i) => new Json(Path, $"{Place}, item {i}", item))
            : throw Wrong(Found, "write a list");

        public IReadOnlyList<string> Texts() => Items().Select(item => item.Text()).ToList();

        public string Text(string field) => Field(field).Text();

        public string Text()
        {
            if (Value.ValueKind != JsonValueKind.String)
                throw Wrong(Found, "write a string");
            try
            {
                return Value.GetString()!.Trim();
            }
            catch (InvalidOperationException e)
            {
                throw new InvalidDataException($"{Path}, {Place}: found bytes that are not UTF-8. Save the file as UTF-8.", e);
            }
        }

        private string Found => Value.ValueKind switch
        {
            JsonValueKind.Object => "an object",
            JsonValueKind.Array => "a list",
            _ => Value.GetRawText(),
        };

        public InvalidDataException Wrong(string found, string remedy) => new($"{Path}, {Place}: found {found}; {remedy}.");
    }
}
