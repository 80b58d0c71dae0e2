namespace MendCluster.Engine.Data;

/// <summary>Texts with a continuation that a language model is to write instead of its own.</summary>
/// <param name="Tokens">How many tokens at the end of each completion are the continuation.</param>
/// <param name="Completions">Passage and continuation in one text.</param>
public sealed record Continuations(int Tokens, IReadOnlyList<string> Completions);

/// <summary>
/// Reads the generation task's files: edits in the paper's own form, and the texts that must stay as likely as they were, from Wikitext-103
/// (raw) or OpenWebText.
/// </summary>
public static class Wikitext
{
    /// <summary>Shorter paragraphs of Wikitext are left out: headings, captions, lists.</summary>
    public const int MinWords = 50;

    private const int TrainingTenths = 9;

    /// <summary>
    /// <c>self_sample/train.json</c>: {"n_tokens": 10, "original": [...], "completions": [...]}. The originals are the passages' true
    /// continuations, which no edit needs.
    /// </summary>
    /// <exception cref="InvalidDataException">Naming field and index, and what was found.</exception>
    public static Continuations ReadContinuations(string path)
    {
        using var document = DataFile.Parse(path);
        var file = new JsonAt(path, "the file", document.RootElement);
        var tokens = file.Field("n_tokens").Whole();
        if (tokens < 1)
            throw file.Field("n_tokens").Wrong($"{tokens}", "write how many tokens a continuation has, at least 1");
        // white space at the end is of the continuation
        var completions = file.Field("completions").Items().Select(item => item.Raw()).ToList();
        if (file.Field("original").Items().Count() is var originals && originals != completions.Count)
        {
            throw new InvalidDataException(
                $"{path}: found {originals} originals and {completions.Count} completions. Write one completion for each original; is the file whole?");
        }
        return new(tokens, DataFile.NotEmpty(path, completions.Where(text => !string.IsNullOrWhiteSpace(text))));
    }

    /// <summary>
    /// <c>wiki.train.raw</c> and its like: a paragraph a line. Kept are those of <see cref="MinWords"/> words, parted by spaces, or more
    /// that are ASCII throughout.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="share">Only the first so much of the paragraphs; the paper trains on a tenth.</param>
    public static IReadOnlyList<string> ReadParagraphs(string path, double share = 1)
    {
        var lines = DataFile.Lines(path).Select(line => line.Text).ToList();
        return DataFile.NotEmpty(path, lines.Take((int)Math.Ceiling(lines.Count * share))
            .Where(text => text.Split(' ').Length >= MinWords && System.Text.Ascii.IsValid(text)));
    }

    /// <summary>OpenWebText as lines of {"text": ...}.</summary>
    /// <param name="path">The file.</param>
    /// <param name="training">The first nine tenths of the rows; otherwise the last.</param>
    public static IReadOnlyList<string> ReadWebText(string path, bool training)
    {
        var texts = new List<string>();
        foreach (var (number, line) in DataFile.Lines(path))
        {
            using var document = DataFile.ParseLine(path, number, line);
            texts.Add(new JsonAt(path, $"line {number}", document.RootElement).Text("text"));
        }
        var cut = texts.Count * TrainingTenths / 10;
        return DataFile.NotEmpty(path, (training ? texts.Take(cut) : texts.Skip(cut)).Where(text => text.Length > 0));
    }
}
