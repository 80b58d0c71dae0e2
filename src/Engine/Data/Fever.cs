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
        foreach (var row in DataFile.PaperRows(path))
        {
            var (prediction, answer) = (row.Row.Text("prediction"), row.Answer);
            Check(row.Row.Field("prediction"), prediction);
            Check(row.Row.Field("output"), answer);
            foreach (var alternative in row.Targets)
                Check(row.Row.Field("alternatives"), alternative);
            if (row.Targets[0] == prediction)
                throw row.Row.Field("alternatives").Wrong($"the prediction itself, {prediction}", "write the other label");
            rows.Add(new EditExample(row.Prompt, row.Targets[0], row.Rephrases, [], answer, Prediction: prediction));
        }
        return DataFile.NotEmpty(path, rows);
    }

    /// <summary>The label that is not this one.</summary>
    public static string Other(string label) => label == Supports ? Refutes : Supports;

    private static void Check(JsonAt field, string label)
    {
        if (label is not (Supports or Refutes))
            throw field.Wrong($"\"{label}\"", $"write {Supports} or {Refutes}");
    }
}
