namespace MendCluster.Engine.Data;

/// <summary>
/// Reads FEVER fact checking in the form in which De Cao et al. published it (<c>fever-train-kilt.jsonl</c>): zsRE's form
/// (<see cref="ZsRe.ReadPaper"/>) with a claim as input and <see cref="Supports"/> or <see cref="Refutes"/> as prediction, alternative and
/// answer.
/// </summary>
public static class Fever
{
    public const string Supports = "SUPPORTS", Refutes = "REFUTES";

    /// <summary>
    /// The claims. Target is the label that the model did not predict; an edit to it changes the model's mind
    /// (see <see cref="QuestionTask"/> for those that do not).
    /// </summary>
    /// <exception cref="InvalidDataException">Naming line, field and what was found.</exception>
    public static IReadOnlyList<EditExample> Read(string path)
    {
        var rows = new List<EditExample>();
        foreach (var row in DataFile.PaperRows(path).Where(row => row.IsUsable))
        {
            var (prediction, answer) = (row.Row.Text("prediction"), row.Answer);
            Check(row.Row.Field("prediction"), prediction);
            Check(row.Row.Field("output"), answer);
            foreach (var alternative in row.Targets)
                Check(row.Row.Field("alternatives"), alternative);
            if (row.Targets[0] == prediction)
                throw row.Row.Field("alternatives").Wrong($"the prediction itself, {prediction}", "write the other label");
            rows.Add(new EditExample(row.Prompt, row.Targets[0], row.Rephrases, [], answer, Prediction: prediction, Place: row.Row.Where));
        }
        return DataFile.NotEmpty(path, rows);
    }

    /// <summary>
    /// What a model that is trained from scratch is to know: lines of label, tab, claim, and after further tabs the claim in other
    /// wordings.
    /// </summary>
    /// <exception cref="InvalidDataException">Naming line and what was found.</exception>
    public static IReadOnlyList<KnownClaim> ReadKnown(string path)
    {
        var claims = new List<KnownClaim>();
        foreach (var (number, line) in DataFile.Lines(path))
        {
            var fields = line.Split('\t', StringSplitOptions.TrimEntries);
            if (fields.Length < 2 || fields[0] is not (Supports or Refutes) || fields.Contains(""))
                throw new InvalidDataException($"{path}, line {number}: \"{line}\"; wanted {Supports} or {Refutes}, a tab, a claim, and its other wordings after a tab each. Mend the line or delete it.");
            claims.Add(new(fields[0], fields[1..]));
        }
        return DataFile.NotEmpty(path, claims);
    }

    /// <summary>The label that is not this one.</summary>
    public static string Other(string label) => label == Supports ? Refutes : Supports;

    private static void Check(JsonAt field, string label)
    {
        if (label is not (Supports or Refutes))
            throw field.Wrong($"\"{label}\"", $"write {Supports} or {Refutes}");
    }
}

/// <summary>A claim and its true label.</summary>
/// <param name="Label"><see cref="Fever.Supports"/> or <see cref="Fever.Refutes"/>.</param>
/// <param name="Wordings">At least one.</param>
public sealed record KnownClaim(string Label, IReadOnlyList<string> Wordings);
