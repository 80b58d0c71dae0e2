namespace MendCluster.Engine.Data;

/// <summary>
/// Which questions ask for the same fact. The published files have a row for each wording of a question, with a target of its own: those
/// of one row ask the same, and so do those of rows that share one.
/// </summary>
internal sealed class Wordings
{
    private readonly Dictionary<string, HashSet<string>> _facts = []; // by question

    public Wordings(IEnumerable<EditExample> edits)
    {
        foreach (var edit in edits)
        {
            HashSet<string> fact = [.. edit.Wordings.SelectMany(Of)];
            foreach (var question in fact)
                _facts[question] = fact;
        }
    }

    /// <summary>The question with all its other wordings.</summary>
    public IReadOnlySet<string> Of(string question) => _facts.TryGetValue(question, out var fact) ? fact : new HashSet<string> { question };
}
