using System.Text.Json.Serialization;
using MendCluster.Contracts;

namespace MendCluster.Engine.Data;

/// <summary>A question and the answer that is held to be right.</summary>
public sealed record QaPair(string Question, string Answer);

/// <summary>One edit to make, and what to ask afterwards.</summary>
/// <param name="Prompt">The question whose answer is to change (x_e).</param>
/// <param name="Target">Its new answer (y_e).</param>
/// <param name="Rephrases">Other wordings of the prompt, which must follow the edit (x'_e).</param>
/// <param name="Locality">Questions about something else, whose answers must stay (x_loc, y_loc).</param>
/// <param name="Answer">The true answer to the prompt before the edit, where the source names one.</param>
/// <param name="Subject">What the prompt is about, where the source names it.</param>
/// <param name="Prediction">What the model that the data was made with answers, where the source names it.</param>
/// <param name="Place">Where it was read, for errors.</param>
public sealed record EditExample(
    string Prompt,
    string Target,
    IReadOnlyList<string> Rephrases,
    IReadOnlyList<QaPair> Locality,
    string? Answer = null,
    string? Subject = null,
    string? Prediction = null,
    [property: JsonIgnore] string? Place = null)
{
    /// <summary>Prompt and rephrases: all questions of the example that ask for the edited fact.</summary>
    [JsonIgnore]
    public IEnumerable<string> Wordings => Rephrases.Prepend(Prompt);

    /// <summary>Reads it for a model.</summary>
    /// <exception cref="InvalidDataException">The model cannot be asked one of its texts; with the place.</exception>
    public T Read<T>(Func<T> read)
    {
        try
        {
            return read();
        }
        catch (MendException e) when (e.Error == MendError.ModelUnusable)
        {
            throw new InvalidDataException($"{Place ?? $"the edit \"{Prompt}\""}: {e.What}. Correct the row, or delete it.", e);
        }
    }
}
